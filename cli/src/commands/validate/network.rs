//! `validate --check-network`: one small request to the provider of each REST agent, all at once.

use std::time::Duration;

use run_agent_core::ErrorClass;
use run_agent_runner::agent::rest::{Trial, Tried};
use run_agent_runner::interrupt::Interrupt;
use serde::Serialize;

use super::Found;
use crate::render;

/// How long an answer may take, from the look-up of the name to its last byte.
const LIMIT: Duration = Duration::from_secs(30);

/// What came of an agent's request.
#[derive(Debug, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub(super) enum Network {
    Answered { url: String, model: String, took_ms: u64 },
    Failed { url: String, model: String, error_class: ErrorClass, message: String },
    NotAsked { why: &'static str },
}

/// Asks for all that can be asked for, and makes a problem of each that fails. False: interrupted.
pub(super) fn check(all: &mut [Found], interrupt: &Interrupt) -> bool {
    let mut asked = Vec::new();
    for found in all {
        match found.trial() {
            Ok(trial) => asked.push((found, trial)),
            Err(why) => found.network = Some(Network::NotAsked { why }),
        }
    }
    if asked.is_empty() {
        return true;
    }
    let progress = render::progress(format!("asking {}", render::count(asked.len() as u64, "provider")));
    let trials: Vec<&Trial> = asked.iter().map(|(_, trial)| trial).collect();
    let tried = Trial::make_all(&trials, LIMIT, interrupt);
    drop(progress);
    for ((found, trial), tried) in asked.into_iter().zip(tried) {
        let (url, model) = (trial.url().to_owned(), trial.model().to_owned());
        found.network = Some(match tried {
            Tried::GivenUp => return false,
            Tried::Answered { model, took } => {
                let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                Network::Answered { url, model, took_ms }
            }
            Tried::Failed { class, message } => {
                // Some say it themselves.
                let what = if message.contains("check base_url") { "" } else { what_to_do(class) };
                found.problems.push(format!("{url}, model {model}: {class}: {message}{what}"));
                Network::Failed { url, model, error_class: class, message }
            }
        });
    }
    true
}

impl Found {
    /// Its request, or why there is none.
    fn trial(&self) -> Result<Trial, &'static str> {
        let Some(backend) = self.backend.as_ref().filter(|_| self.problems.is_empty()) else {
            return Err("it is not usable");
        };
        match backend.trial() {
            Ok(trial) => trial.ok_or("it is no REST agent"),
            Err(_) => Err("it is not usable"),
        }
    }
}

impl Network {
    pub(super) fn words(&self) -> String {
        match self {
            Self::Answered { model, took_ms, .. } => {
                format!("{model} answered in {}.{} s", took_ms / 1000, took_ms % 1000 / 100)
            }
            Self::Failed { error_class, .. } => format!("failed: {error_class}"),
            Self::NotAsked { .. } => "not asked".to_owned(),
        }
    }
}

/// What a person may look at, where the provider's own words may not say it.
fn what_to_do(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Auth => " (check its token)",
        ErrorClass::UsageLimit => " (its account's limit is reached)",
        ErrorClass::RateLimit => " (its token is known; try again later)",
        ErrorClass::Overloaded => " (the provider has trouble; try again later)",
        ErrorClass::Network => " (check the network, HTTPS_PROXY and base_url)",
        ErrorClass::Usage => " (check model, args and base_url)",
        ErrorClass::ContextTooLong
        | ErrorClass::NotFound
        | ErrorClass::Sandbox
        | ErrorClass::Killed
        | ErrorClass::Oom
        | ErrorClass::Crash
        | ErrorClass::Unknown => "",
    }
}
