//! From what a file says to settings, by the schema. All that is wrong is told, not only the first.

use std::collections::BTreeMap;

use super::plain::{Entry, Plain, Span};
use super::problem::{Place, Problem, Source};
use super::schema::{self, AGENT, AGENT_TYPES, BLOCKS, LUCKY};
use super::value::Value;
use super::{hcl, yaml};
use crate::find::near;

/// A value that stands in the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Given {
    pub(crate) value: Value,
    pub(crate) place: Place,
    /// Where the value stands.
    pub(crate) at: Span,
}

/// What a file sets: by block and name, and by agent and name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) plain: BTreeMap<(&'static str, &'static str), Given>,
    pub(crate) agents: BTreeMap<String, BTreeMap<&'static str, Given>>,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Hcl,
    Yaml,
}

impl Form {
    /// By the file's extension; HCL unless that says YAML.
    pub(crate) fn of(path: &std::path::Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml" | "yml") => Self::Yaml,
            _ => Self::Hcl,
        }
    }
}

/// The settings, and all that is wrong, in the order of the file.
pub(crate) fn read(source: &Source) -> (Settings, Vec<Problem>) {
    let mut problems = Vec::new();
    let entries = match Form::of(&source.path) {
        Form::Hcl => hcl::parse(&source.text, &mut problems),
        Form::Yaml => yaml::parse(&source.text, &mut problems),
    };
    let mut reader = Reader { source, problems, settings: Settings::default() };
    reader.top(&entries);
    let Reader { mut problems, settings, .. } = reader;
    problems.sort_by_key(|problem| problem.at.start);
    (settings, problems.into_iter().map(|problem| problem.without_secret(source)).collect())
}

struct Reader<'a> {
    source: &'a Source,
    problems: Vec<Problem>,
    settings: Settings,
}

impl Reader<'_> {
    fn top(&mut self, entries: &[Entry]) {
        self.once(entries, "the block");
        for entry in entries {
            let Some((block, _)) = BLOCKS.iter().find(|(block, _)| *block == entry.name) else {
                self.problems.push(unknown_block(entry));
                continue;
            };
            let Some(inner) = self.inner(entry) else { continue };
            if *block == AGENT {
                self.agents(inner);
            } else {
                for (name, given) in self.block(block, inner) {
                    self.settings.plain.insert((block, name), given);
                }
            }
        }
        let names: Vec<&str> = entries.iter().filter(|e| e.name == AGENT).flat_map(agent_names).collect();
        for entry in entries.iter().filter(|entry| entry.name == "agents") {
            self.agents_are_known(entry, &names);
        }
    }

    /// What stands in a block; an empty one in YAML is nothing at all.
    fn inner<'e>(&mut self, entry: &'e Entry) -> Option<&'e [Entry]> {
        match &entry.node.plain {
            Plain::Map(inner) => Some(inner),
            Plain::Null => Some(&[]),
            other => {
                let what = format!("`{}` is a block of settings, and this is {}", entry.name, other.noun());
                self.problems.push(Problem::new(entry.node.span.clone(), what));
                None
            }
        }
    }

    fn once(&mut self, entries: &[Entry], what: &str) {
        for (at, entry) in entries.iter().enumerate() {
            if let Some(first) = entries[..at].iter().find(|before| before.name == entry.name) {
                let line = self.source.place(first.at.start).line;
                let text = format!("{what} `{}` stands here twice, first in line {line}", entry.name);
                self.problems.push(Problem::new(entry.at.clone(), text));
            }
        }
    }

    fn block(&mut self, block: &'static str, entries: &[Entry]) -> BTreeMap<&'static str, Given> {
        self.once(entries, "the setting");
        let mut found = BTreeMap::new();
        for entry in entries {
            let Some(setting) = schema::find(block, &entry.name) else {
                self.problems.push(unknown_setting(block, entry));
                continue;
            };
            match setting.kind.read(&entry.node) {
                Ok(value) => {
                    let place = self.source.place(entry.at.start);
                    found.insert(setting.name, Given { value, place, at: entry.node.span.clone() });
                }
                Err(mut problem) => {
                    problem.what = format!("{block}.{}: {}", setting.name, problem.what);
                    self.problems.push(problem);
                }
            }
        }
        found
    }

    fn agents(&mut self, entries: &[Entry]) {
        self.once(entries, "the agent");
        for entry in entries {
            if entry.name.is_empty() || entry.name.chars().any(char::is_control) {
                self.problems.push(Problem::new(entry.at.clone(), "an agent needs a name"));
                continue;
            }
            if entry.name == LUCKY {
                let what = "an agent cannot be called `lucky`: as an agent's name that means whoever's turn it is; give it another name";
                self.problems.push(Problem::new(entry.at.clone(), what));
                continue;
            }
            let Some(inner) = self.inner(entry) else { continue };
            let settings = self.block(AGENT, inner);
            self.agent_is_sound(entry, inner, &settings);
            self.settings.agents.insert(entry.name.clone(), settings);
        }
    }

    /// What no setting alone can tell.
    fn agent_is_sound(&mut self, agent: &Entry, entries: &[Entry], settings: &BTreeMap<&'static str, Given>) {
        let text = |name: &str| match settings.get(name).map(|given| &given.value) {
            Some(Value::Text(text) | Value::Secret(text)) => {
                Some(text.as_str()).filter(|text| !text.is_empty())
            }
            _ => None,
        };
        let entry = |name: &str| entries.iter().find(|entry| entry.name == name);
        let typed = entry("type").is_some_and(|e| e.node.plain != Plain::Text(String::new()));
        if !typed && !AGENT_TYPES.contains(&agent.name.as_str()) {
            let near = near(&agent.name, AGENT_TYPES.iter().copied()).map(str::to_owned);
            let what = format!(
                "agent `{}` has no type: it is none of {}; set type = \"…\"",
                agent.name,
                AGENT_TYPES.join(", ")
            );
            self.problems.push(Problem::new(agent.at.clone(), what).suggest(near));
        }
        if let (Some(_), Some(_), Some(second)) = (text("token"), text("token_file"), entry("token_file")) {
            let what = format!("agent `{}` has both token and token_file; keep one", agent.name);
            self.problems.push(Problem::new(second.at.clone(), what));
        }
        let own = |name: &str| name.starts_with("JRUN_") || name.starts_with("CONDUCTOR_");
        let mut variables = Vec::new();
        if let Some(Entry { node, .. }) = entry("env")
            && let Plain::Map(entries) = &node.plain
        {
            variables.extend(entries.iter().map(|e| (e.name.as_str(), e.at.clone())));
        }
        if let (Some(name), Some(entry)) = (text("token_env"), entry("token_env")) {
            variables.push((name, entry.node.span.clone()));
        }
        for (name, at) in variables.into_iter().filter(|(name, _)| own(name)) {
            let what = format!(
                "agent `{}` sets {name}; variables that begin with JRUN_ or CONDUCTOR_ are run-agent's own",
                agent.name
            );
            self.problems.push(Problem::new(at, what).public());
        }
    }

    /// Agents that `agents` names are there, by their blocks or as types.
    fn agents_are_known(&mut self, agents: &Entry, defined: &[&str]) {
        let Plain::Map(entries) = &agents.node.plain else { return };
        for entry in entries {
            let named: Vec<(&str, _)> = match (entry.name.as_str(), &entry.node.plain) {
                ("order", Plain::List(items)) => items
                    .iter()
                    .filter_map(|item| match &item.plain {
                        Plain::Text(name) => Some((name.as_str(), item.span.clone())),
                        _ => None,
                    })
                    .collect(),
                ("weights", Plain::Map(inner)) => {
                    inner.iter().map(|entry| (entry.name.as_str(), entry.at.clone())).collect()
                }
                _ => continue,
            };
            for (name, at) in named {
                let mut known =
                    defined.iter().chain(AGENT_TYPES.iter().filter(|t| **t != "command")).copied();
                if !known.clone().any(|one| one == name) {
                    let meant = near(name, &mut known).map(str::to_owned);
                    let what =
                        format!("agents.{}: no agent `{}` is defined here", entry.name, name.escape_debug());
                    self.problems.push(Problem::new(at, what).suggest(meant));
                }
            }
        }
    }
}

fn agent_names(agents: &Entry) -> Vec<&str> {
    let Plain::Map(entries) = &agents.node.plain else { return Vec::new() };
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

fn unknown_block(entry: &Entry) -> Problem {
    let name = entry.name.escape_debug();
    let near = near(&entry.name, BLOCKS.iter().map(|(block, _)| *block)).map(str::to_owned);
    let homes: Vec<&str> =
        schema::SETTINGS.iter().filter(|s| s.name == entry.name).map(|setting| setting.block).collect();
    let what = match homes.as_slice() {
        _ if near.is_some() => format!("unknown block `{name}`"),
        [] => format!("unknown block `{name}`; known are {}", blocks()),
        homes => format!(
            "`{name}` is a setting of the block `{}`, and stands outside of it",
            homes.join("` and `")
        ),
    };
    Problem::new(entry.at.clone(), what).suggest(near)
}

fn blocks() -> String {
    BLOCKS.map(|(block, _)| block).join(", ")
}

fn unknown_setting(block: &str, entry: &Entry) -> Problem {
    let name = entry.name.escape_debug();
    let known: Vec<&str> = schema::of_block(block).map(|setting| setting.name).collect();
    let near = near(&entry.name, known.iter().copied()).map(str::to_owned);
    let elsewhere = schema::SETTINGS.iter().find(|setting| setting.name == entry.name);
    let what = match (&near, elsewhere) {
        (Some(_), _) => format!("unknown setting `{name}` in the block `{block}`"),
        (None, Some(home)) => {
            format!("unknown setting `{name}` in the block `{block}`; it belongs into `{}`", home.block)
        }
        (None, None) => {
            format!("unknown setting `{name}` in the block `{block}`; known are {}", known.join(", "))
        }
    };
    Problem::new(entry.at.clone(), what).suggest(near)
}
