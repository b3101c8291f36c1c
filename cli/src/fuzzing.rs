//! What the fuzz target `config` looks at.

use crate::config::problem::Source;
use crate::config::{Config, refresh};

/// What a configuration comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// Each setting that the text sets, without its place.
    pub set: Vec<(String, String)>,
    /// Each mistake: where it begins in the text, on one line, and with the source line.
    pub problems: Vec<(usize, String, String)>,
    /// A text without a mistake, with the settings that it lacks.
    pub refreshed: Option<String>,
}

/// Reads a configuration as the command line does; the name tells its form.
#[must_use]
pub fn config(name: &str, text: &str) -> Read {
    let source = Source { path: name.into(), text: text.to_owned(), marked: false };
    let (config, problems) = Config::parse(&source);
    let all = config.all().into_iter();
    let set = all.filter_map(|(name, _, given)| Some((name, format!("{:?}", given?.value)))).collect();
    let refreshed = problems.is_empty().then(|| refresh::refreshed(&source));
    let told = |problem: &_| (source.headline(problem), source.show(problem));
    let problems = problems.iter().map(|problem| {
        let (line, shown) = told(problem);
        (problem.at.start, line, shown)
    });
    let problems = problems.collect();
    // What the rest of the program asks of it.
    let _ = (config.policy(None), config.store_options(), config.durability(), config.grace());
    let _ = config.default_agent().is_ok();
    for agent in config.agent_names() {
        let _ = (config.agent(agent).is_ok(), config.timeout_of(agent));
    }
    Read { set, problems, refreshed }
}
