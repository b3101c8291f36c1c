//! What a REST agent's supervisor writes to `agent-stderr.txt`: a line for people each, which the reader of the agent
//! reads again. `docs/agents.md` lists them.

use std::fmt;
use std::time::Duration;

use run_agent_core::ErrorClass;

use super::Head;
use crate::agent::stream::{MESSAGE_MAX, NAME_MAX, Retry, one_line, show};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Asking {
        url: String,
        model: String,
    },
    Waiting {
        silent: Duration,
    },
    Retrying(Retry),
    /// Of the answer whose body follows on stdout.
    Head(Head),
    Failed {
        class: ErrorClass,
        message: String,
    },
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asking { url, model } => write!(f, "asking {url}, model {model}"),
            Self::Waiting { silent } => write!(f, "waiting, {} s", silent.as_secs()),
            Self::Retrying(retry) => {
                write!(f, "{}: {}", show::retrying(retry), one_line(&retry.message, MESSAGE_MAX))
            }
            Self::Head(Head { status, retry_after: None }) => write!(f, "HTTP {status}"),
            Self::Head(Head { status, retry_after: Some(after) }) => {
                write!(f, "HTTP {status}, retry-after {}", one_line(after, NAME_MAX))
            }
            Self::Failed { class, message } => {
                write!(f, "failed ({class}): {}", one_line(message, MESSAGE_MAX))
            }
        }
    }
}

impl Line {
    /// Reads a line without its end. None: it is of no form that is written here.
    pub(crate) fn read(line: &str) -> Option<Self> {
        if let Some(rest) = line.strip_prefix("HTTP ") {
            let (status, after) = match rest.split_once(", retry-after ") {
                Some((status, after)) => (status, Some(after.to_owned())),
                None => (rest, None),
            };
            return Some(Self::Head(Head { status: status.parse().ok()?, retry_after: after }));
        }
        if let Some(rest) = line.strip_prefix("retrying (") {
            return retry(rest).map(Self::Retrying);
        }
        if let Some(rest) = line.strip_prefix("failed (") {
            let (class, message) = rest.split_once("): ")?;
            return Some(Self::Failed {
                class: ErrorClass::read(class)?,
                message: one_line(message, MESSAGE_MAX),
            });
        }
        if let Some(rest) = line.strip_prefix("waiting, ") {
            let silent = Duration::from_secs(rest.strip_suffix(" s")?.parse().ok()?);
            return Some(Self::Waiting { silent });
        }
        let (url, model) = line.strip_prefix("asking ")?.split_once(", model ")?;
        Some(Self::Asking { url: url.to_owned(), model: model.to_owned() })
    }
}

/// `429, rate_limit), retry 3 of 10 in 2 s: message`.
fn retry(rest: &str) -> Option<Retry> {
    let (why, rest) = rest.split_once("), retry ")?;
    let (status, class) = match why.split_once(", ") {
        Some((status, class)) => (Some(status.parse().ok()?), class),
        None => (None, why),
    };
    let (which, message) = rest.split_once(": ").unwrap_or((rest, ""));
    let (which, wait) = match which.split_once(" in ") {
        Some((which, wait)) => (which, Some(wait.strip_suffix(" s")?.parse().ok()?)),
        None => (which, None),
    };
    let (attempt, of) = match which.split_once(" of ") {
        Some((attempt, of)) => (attempt, Some(of.parse().ok()?)),
        None => (which, None),
    };
    Some(Retry {
        class: ErrorClass::read(class)?,
        status,
        attempt: attempt.parse().ok()?,
        of,
        wait: wait.map(Duration::from_secs),
        message: one_line(message, MESSAGE_MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_read_as_it_was_written() {
        let head =
            |status, after: Option<&str>| Line::Head(Head { status, retry_after: after.map(str::to_owned) });
        let retry = |status, of, wait: Option<u64>| {
            let class = if status == Some(429) { ErrorClass::RateLimit } else { ErrorClass::Network };
            let wait = wait.map(Duration::from_secs);
            Line::Retrying(Retry { class, status, attempt: 2, of, wait, message: "a: b (c): d".to_owned() })
        };
        let asking = Line::Asking { url: "https://h/v1".to_owned(), model: "m".to_owned() };
        let failed = Line::Failed { class: ErrorClass::Network, message: "cut: (x)".to_owned() };
        for (line, text) in [
            (asking, "asking https://h/v1, model m"),
            (Line::Waiting { silent: Duration::from_secs(15) }, "waiting, 15 s"),
            (head(200, None), "HTTP 200"),
            (head(429, Some("12")), "HTTP 429, retry-after 12"),
            (
                retry(Some(429), Some(6), Some(4)),
                "retrying (429, rate_limit), retry 2 of 6 in 4 s: a: b (c): d",
            ),
            (retry(None, None, None), "retrying (network), retry 2: a: b (c): d"),
            (failed, "failed (network): cut: (x)"),
        ] {
            assert_eq!(line.to_string(), text);
            assert_eq!(Line::read(text), Some(line), "{text}");
        }
    }

    #[test]
    fn other_lines_say_nothing() {
        let others =
            ["", "HTTP", "HTTP x", "HTTP 70000", "retrying (", "retrying (429), retry 1", "failed (x): y"];
        for text in others.iter().chain(&["waiting, s", "asking", "asking x", "anything else"]) {
            assert_eq!(Line::read(text), None, "{text}");
        }
    }
}
