//! Why an agent failed, in one closed set of words (spec, section 6). The words stand in events as text, since other
//! tools of the family and older versions have words of their own; what follows from one is decided here alone.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why an agent failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The account or its token was refused.
    Auth,
    /// What the account may use is used up, until a reset or until somebody pays.
    UsageLimit,
    /// Too many requests for the moment.
    RateLimit,
    /// The provider has trouble of its own.
    Overloaded,
    /// The provider was not reached, or the connection was lost.
    Network,
    /// The conversation is longer than the model takes.
    ContextTooLong,
    /// The agent's program is not there.
    NotFound,
    /// The agent was called in a way that it refuses: a flag, a setting, a model that does not exist.
    Usage,
    /// Refused by the agent's own sandbox or trust rules.
    Sandbox,
    /// Ended by a signal from outside.
    Killed,
    /// Out of memory.
    Oom,
    /// It ended with an error that says no more, or broke down.
    Crash,
    /// It failed, and nothing says why.
    Unknown,
}

impl ErrorClass {
    pub const ALL: [Self; 13] = [
        Self::Auth,
        Self::UsageLimit,
        Self::RateLimit,
        Self::Overloaded,
        Self::Network,
        Self::ContextTooLong,
        Self::NotFound,
        Self::Usage,
        Self::Sandbox,
        Self::Killed,
        Self::Oom,
        Self::Crash,
        Self::Unknown,
    ];

    /// The word that stands in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::UsageLimit => "usage_limit",
            Self::RateLimit => "rate_limit",
            Self::Overloaded => "overloaded",
            Self::Network => "network",
            Self::ContextTooLong => "context_too_long",
            Self::NotFound => "not_found",
            Self::Usage => "usage",
            Self::Sandbox => "sandbox",
            Self::Killed => "killed",
            Self::Oom => "oom",
            Self::Crash => "crash",
            Self::Unknown => "unknown",
        }
    }

    /// Reads a word of an event. `quota` is another tool's word for a usage limit.
    #[must_use]
    pub fn read(word: &str) -> Option<Self> {
        if word == "quota" {
            return Some(Self::UsageLimit);
        }
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }

    /// An error of the agent itself or of its account: to start it again at once changes nothing, and it is no attempt
    /// at the work.
    #[must_use]
    pub fn is_own_fault(self) -> bool {
        match self {
            Self::Auth | Self::UsageLimit | Self::NotFound => true,
            Self::RateLimit
            | Self::Overloaded
            | Self::Network
            | Self::ContextTooLong
            | Self::Usage
            | Self::Sandbox
            | Self::Killed
            | Self::Oom
            | Self::Crash
            | Self::Unknown => false,
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_comes_back_from_its_word_and_serde_writes_the_same() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::read(class.as_str()), Some(class));
            assert_eq!(serde_json::to_string(&class).unwrap(), format!("\"{class}\""));
        }
        assert_eq!(ErrorClass::read("quota"), Some(ErrorClass::UsageLimit));
        assert_eq!(ErrorClass::read("Auth"), None);
    }

    #[test]
    fn what_is_the_agents_own_fault_is_decided_by_the_word() {
        let own: Vec<&str> =
            ErrorClass::ALL.into_iter().filter(|c| c.is_own_fault()).map(ErrorClass::as_str).collect();
        assert_eq!(own, ["auth", "usage_limit", "not_found"]);
    }
}
