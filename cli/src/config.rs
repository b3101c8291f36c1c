//! `config.hcl`: what an operator may set, and what it comes to.
//!
//! | question | file |
//! | --- | --- |
//! | which settings are there? | `schema` |
//! | what may be written for one? | `value` |
//! | which file is it? | `locate` |
//! | what does the file say, and what is wrong with it? | `hcl`, `yaml` (to `plain`), `read`, `problem` |
//! | what does a new file look like, and how does an older one get new settings? | `stub`, `refresh` |
//! | how is an agent started? | `agent` |
//!
//! The rest of the program sees the accessors below and no file. A setting without an accessor is one that nothing
//! reads; a test of the schema finds it.

pub(crate) mod agent;
mod hcl;
pub(crate) mod json_schema;
pub(crate) mod locate;
mod plain;
pub(crate) mod problem;
mod read;
pub(crate) mod refresh;
pub(crate) mod schema;
mod server;
pub(crate) mod stub;
#[cfg(test)]
mod tests;
pub(crate) mod units;
pub(crate) mod value;
mod yaml;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use run_agent_core::Durability;
use run_agent_core::event::Usd;
use run_agent_core::policy::agents::{Pool, Selection};
use run_agent_core::policy::budget::{Budget, OnBudget};
use run_agent_core::policy::watch::WatchPolicy;
use run_agent_core::policy::{
    AfterChildren, Breaker, LoopPolicy, OnDependencyFailure, RestartWithChildren, Session, spread,
};
use run_agent_core::store::Options;
use run_agent_runner::files;

use self::locate::Located;
use self::problem::{Place, Problem, Source};
use self::read::Settings;
pub(crate) use self::read::{Form, Given};
use self::schema::{AGENT, SETTINGS};
pub(crate) use self::server::{ServerSettings, WebhookSettings};
use self::value::Value;
use crate::error::{Exit, Failure};
use crate::render;
use crate::stores::Backend;

/// A configuration without a mistake; the defaults where nothing is set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    settings: Settings,
}

/// What becomes of a loop whose driver died without saying so (`loop.adopt`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Adopt {
    /// A card in the inbox tells of it, and a person takes it up.
    #[default]
    Ask,
    /// Services that are started with the machine take it up.
    Auto,
    Never,
}

impl Adopt {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Auto => "auto",
            Self::Never => "never",
        }
    }
}

/// What goes by itself; nothing where nothing is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    pub(crate) older_than: Option<Duration>,
    pub(crate) max_runs: Option<u32>,
}

/// A configuration that cannot be taken.
#[derive(Debug)]
pub(crate) enum Unusable {
    Unread(String),
    Wrong { source: Source, problems: Vec<Problem> },
}

/// What some editors begin a file with, to tell its encoding.
pub(crate) const MARK: char = '\u{feff}';

/// Far above any configuration; what is larger is something else.
const SIZE_MAX: u64 = 1 << 20;

impl Unusable {
    /// On one line.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Unread(text) => text.clone(),
            Self::Wrong { source, problems } => {
                problems.first().map(|first| source.headline(first)).unwrap_or_default()
            }
        }
    }
}

impl From<Unusable> for Failure {
    fn from(unusable: Unusable) -> Self {
        let Unusable::Wrong { source, problems } = &unusable else { return Self::usage(unusable.line()) };
        let mut text = problems.first().map(|first| source.show(first)).unwrap_or_default();
        if problems.len() > 1 {
            let more = problems.len() - 1;
            let validate = render::command("config validate");
            text.push_str(&format!("\n({more} more; {validate} shows all)"));
        }
        Self::usage(text)
    }
}

/// The text of a configuration file. One that nobody named must be a regular file: a pipe that lies there could be
/// waited on for ever.
pub(crate) fn source(path: &Path, named: bool) -> Result<Source, Unusable> {
    let unread =
        |what: String| Unusable::Unread(format!("cannot read the configuration {}: {what}", path.display()));
    let bytes = if named { bytes_once(path) } else { files::open_regular(path).and_then(bytes_of) };
    let bytes = bytes.map_err(|e| unread(e.to_string()))?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(unread("it is larger than 1 MiB".to_owned()));
    }
    let mut text = String::from_utf8(bytes)
        .map_err(|e| unread(format!("byte {} is not UTF-8 text", e.utf8_error().valid_up_to())))?;
    let marked = text.starts_with(MARK);
    if marked {
        text.drain(..MARK.len_utf8());
    }
    Ok(Source { path: path.to_owned(), text, marked })
}

fn bytes_of(file: std::fs::File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(SIZE_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is no regular file, such as `--config <(…)`, gives its text once: it is kept for whoever asks again.
fn bytes_once(path: &Path) -> io::Result<Vec<u8>> {
    static KEPT: Mutex<Vec<(PathBuf, Vec<u8>)>> = Mutex::new(Vec::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, bytes)) = kept.iter().find(|(known, _)| known == path) {
        return Ok(bytes.clone());
    }
    let file = std::fs::File::open(path)?;
    let regular = file.metadata()?.is_file();
    let bytes = bytes_of(file)?;
    if !regular {
        kept.push((path.to_owned(), bytes.clone()));
    }
    Ok(bytes)
}

impl Config {
    /// Reads the file; none is an empty configuration.
    pub(crate) fn read(located: Option<&Located>) -> Result<Self, Unusable> {
        let Some(Located { path, why }) = located else { return Ok(Self::default()) };
        let source = source(path, why.is_named())?;
        let (config, problems) = Self::parse(&source);
        if problems.is_empty() { Ok(config) } else { Err(Unusable::Wrong { source, problems }) }
    }

    /// What can be taken of a text, and all that is wrong with it.
    pub(crate) fn parse(source: &Source) -> (Self, Vec<Problem>) {
        let (settings, problems) = read::read(source);
        (Self { settings }, problems)
    }

    /// Every setting with its value, and where it stands if it is no default; then those of each agent's block.
    pub(crate) fn all(&self) -> Vec<(String, &'static schema::Setting, Option<&Given>)> {
        let plain = SETTINGS.iter().filter(|setting| setting.block != AGENT).map(|setting| {
            let given = self.settings.plain.get(&(setting.block, setting.name));
            (format!("{}.{}", setting.block, setting.name), setting, given)
        });
        let agents = self.settings.agents.iter().flat_map(|(agent, settings)| {
            schema::of_block(AGENT).map(move |setting| {
                (format!("{AGENT}.{agent}.{}", setting.name), setting, settings.get(setting.name))
            })
        });
        plain.chain(agents).collect()
    }

    /// The storage folder that the file names.
    pub(crate) fn root(&self) -> Option<PathBuf> {
        let given = self.settings.plain.get(&("storage", "root"))?;
        let Value::Text(text) = &given.value else { return None };
        Some(home_path(text)).filter(|_| !text.is_empty())
    }

    /// The store that the file asks for, if it does.
    pub(crate) fn backend(&self) -> Option<Backend> {
        let given = self.settings.plain.get(&("storage", "backend"))?;
        let Value::Text(name) = &given.value else { return None };
        Backend::named(name)
    }

    /// Where the file names the backend.
    pub(crate) fn backend_place(&self) -> Option<Place> {
        self.settings.plain.get(&("storage", "backend")).map(|given| given.place)
    }

    pub(crate) fn durability(&self) -> Durability {
        word(&self.text("storage", "durability")).unwrap_or(Durability::Interval)
    }

    pub(crate) fn store_options(&self) -> Options {
        Options {
            lock_timeout: self.span("storage", "lock_timeout"),
            rotate_bytes: self.bytes("storage", "rotate_bytes"),
            sync_every: self.span("storage", "sync_every"),
            sync_messages: self.count("storage", "sync_messages"),
        }
    }

    pub(crate) fn policy(&self, max_restarts: Option<u32>) -> LoopPolicy {
        let ms = |name| u64::try_from(self.span("loop", name).as_millis()).unwrap_or(u64::MAX);
        LoopPolicy {
            max_restarts: max_restarts.unwrap_or_else(|| self.small("loop", "max_restarts")),
            max_wall_time_ms: ms("max_wall_time"),
            restart_delay_ms: ms("restart_delay"),
            child_wait_timeout_ms: ms("child_wait_timeout"),
            after_children: word(&self.text("loop", "after_children")).unwrap_or(AfterChildren::CatchUp),
            restart_with_children: word(&self.text("loop", "restart_with_children"))
                .unwrap_or(RestartWithChildren::Wait),
            on_dependency_failure: word(&self.text("loop", "on_dependency_failure"))
                .unwrap_or(OnDependencyFailure::Wait),
            question_timeout_ms: ms("question_timeout"),
            verify: self.texts("loop", "verify"),
            verify_attempts: self.small("loop", "verify_attempts"),
            breaker: self.breaker(),
            budget: self.budget(),
            session: word(&self.text("loop", "session")).unwrap_or(Session::Fresh),
        }
    }

    /// What one task may use, its whole tree.
    pub(crate) fn budget(&self) -> Budget {
        Budget {
            max_tokens: self.count("limits", "max_tokens"),
            max_cost: self.usd("limits", "max_cost_usd"),
            on_budget: word(&self.text("loop", "on_budget")).unwrap_or(OnBudget::Stop),
        }
    }

    fn breaker(&self) -> Breaker {
        let ms = |name| u64::try_from(self.span("breaker", name).as_millis()).unwrap_or(u64::MAX);
        Breaker {
            failures: self.small("breaker", "failures"),
            quick_ms: ms("quick"),
            cooldown_ms: ms("cooldown"),
            trips: self.small("breaker", "trips"),
        }
    }

    /// The agents that take turns: those of `agents.order` that can be started here. `seed` spreads weighted choices.
    pub(crate) fn pool(&self, seed: &str) -> Pool {
        let cooldown = self.span("agents", "cooldown");
        let mut names = self.texts("agents", "order");
        names.retain(|name| self.is_startable(name));
        let selection = match self.text("agents", "selection").as_str() {
            "weighted" => Selection::Weighted { weights: self.weights(), seed: spread(seed) },
            _ => Selection::RoundRobin,
        };
        Pool { names, selection, cooldown_ms: u64::try_from(cooldown.as_millis()).unwrap_or(u64::MAX) }
    }

    /// What becomes of a loop whose driver died.
    pub(crate) fn adopt(&self) -> Adopt {
        word(&self.text("loop", "adopt")).unwrap_or_default()
    }

    pub(crate) fn grace(&self) -> Duration {
        self.span("stop", "grace")
    }

    pub(crate) fn watch(&self) -> WatchPolicy {
        let ms = |name| u64::try_from(self.span("watch", name).as_millis()).unwrap_or(u64::MAX);
        WatchPolicy { idle_after_ms: ms("idle_after"), stuck_after_ms: ms("stuck_after") }
    }

    pub(crate) fn max_tasks(&self) -> u32 {
        self.small("limits", "max_tasks")
    }

    pub(crate) fn retention(&self) -> Retention {
        let older_than = match self.value("retention", "older_than") {
            Some(Value::Span(age)) => Some(age),
            _ => None,
        };
        let max_runs = Some(self.small("retention", "max_runs_per_task")).filter(|max| *max > 0);
        Retention { older_than, max_runs }
    }

    pub(crate) fn max_depth(&self) -> u32 {
        self.small("limits", "max_depth")
    }

    pub(crate) fn max_agents(&self) -> u32 {
        self.small("limits", "max_agents")
    }

    /// The time limit that the agent's own block sets.
    pub(crate) fn timeout_of(&self, agent: &str) -> Option<Duration> {
        let Value::Span(limit) = self.of_agent(agent, "timeout")? else { return None };
        Some(limit).filter(|limit| !limit.is_zero())
    }

    /// The agents that can be named, as far as the configuration and the built-in ones go.
    pub(crate) fn agent_names(&self) -> Vec<&str> {
        self.settings.agents.keys().map(String::as_str).chain(["shell"]).collect()
    }

    fn weights(&self) -> BTreeMap<String, u64> {
        if let Some(Value::Weights(weights)) = self.value("agents", "weights") {
            weights
        } else {
            BTreeMap::new()
        }
    }

    /// The agent to take when none is named.
    pub(crate) fn default_agent(&self) -> Result<String, Failure> {
        self.pool("").names.into_iter().next().ok_or_else(|| self.no_agent())
    }

    /// None of the agents that take turns can be started here.
    pub(crate) fn no_agent(&self) -> Failure {
        Failure::new(
            Exit::NotFound,
            format!(
                "no agent to start: looked for {}, and none is installed; name one with --agent (`--agent shell` needs nothing)",
                self.texts("agents", "order").join(", ")
            ),
        )
    }

    fn value(&self, block: &str, name: &str) -> Option<Value> {
        let setting = schema::find(block, name)?;
        match self.settings.plain.get(&(setting.block, setting.name)) {
            Some(given) => Some(given.value.clone()),
            None => setting.default_value(),
        }
    }

    /// What the block of an agent says, or its default; nothing where the agent has no block.
    fn of_agent(&self, agent: &str, name: &str) -> Option<Value> {
        match self.settings.agents.get(agent)?.get(name) {
            Some(given) => Some(given.value.clone()),
            None => schema::find(AGENT, name)?.default_value(),
        }
    }

    // The schema gives each setting its type, and a test reads every accessor, so none of these falls through.

    fn text(&self, block: &str, name: &str) -> String {
        if let Some(Value::Text(text)) = self.value(block, name) { text } else { String::new() }
    }

    fn span(&self, block: &str, name: &str) -> Duration {
        if let Some(Value::Span(span)) = self.value(block, name) { span } else { Duration::ZERO }
    }

    fn texts(&self, block: &str, name: &str) -> Vec<String> {
        if let Some(Value::Texts(texts)) = self.value(block, name) { texts } else { Vec::new() }
    }

    fn bytes(&self, block: &str, name: &str) -> u64 {
        if let Some(Value::Bytes(bytes)) = self.value(block, name) { bytes } else { 0 }
    }

    fn count(&self, block: &str, name: &str) -> u64 {
        if let Some(Value::Count(count)) = self.value(block, name) { count } else { 0 }
    }

    /// In millionths, as sums are kept. Whoever writes less than that means no cost at all, not no limit.
    fn usd(&self, block: &str, name: &str) -> Usd {
        let Some(Value::Amount(amount)) = self.value(block, name) else { return Usd::default() };
        let micros = (amount * 1e6).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates")]
        Usd { micros: if amount > 0.0 { (micros as u64).max(1) } else { 0 } }
    }

    fn small(&self, block: &str, name: &str) -> u32 {
        u32::try_from(self.count(block, name)).unwrap_or(u32::MAX)
    }

    fn agent_text(&self, agent: &str, name: &str) -> Option<String> {
        match self.of_agent(agent, name)? {
            Value::Text(text) | Value::Secret(text) => Some(text).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    fn agent_texts(&self, agent: &str, name: &str) -> Vec<String> {
        if let Some(Value::Texts(texts)) = self.of_agent(agent, name) { texts } else { Vec::new() }
    }

    fn agent_env(&self, agent: &str) -> BTreeMap<String, String> {
        if let Some(Value::TextMap(env)) = self.of_agent(agent, "env") { env } else { BTreeMap::new() }
    }
}

/// An enum's variant by its name in the configuration.
pub(crate) fn word<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
}

/// `~/…` is below the home folder.
pub(crate) fn home_path(text: &str) -> PathBuf {
    match (text.strip_prefix('~'), std::env::home_dir()) {
        (Some(""), Some(home)) => home,
        (Some(rest), Some(home)) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(text),
    }
}
