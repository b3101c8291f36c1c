//! The agents of a loop: which may be started, and how each is.

use std::time::Duration;

use run_agent_core::Timestamp;
use run_agent_core::policy::agents::{Choice, Pool, choose};
use run_agent_runner::TaskView;
use run_agent_runner::agent::Backend;
use run_agent_runner::drive::Agents;
use run_agent_runner::tree::TaskName;

use super::Settings;
use crate::args;
use crate::config::Config;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::render;

pub(crate) use crate::config::schema::LUCKY;

/// The agent whose turn it is among the runs of a task.
pub(crate) fn next_of(config: &Config, view: &TaskView) -> Result<String, Failure> {
    let (task, pool) = (view.task(), config.pool(view.name.task.as_str()));
    let last = task.runs.values().next_back().map(|run| run.agent.as_str());
    let picks = u32::try_from(task.runs.len()).unwrap_or(u32::MAX);
    match choose(&pool, &task.ralph.degraded, last, picks, Timestamp::now()) {
        Choice::Agent(agent) => Ok(agent.to_owned()),
        Choice::Later { .. } | Choice::Never { .. } if pool.names.is_empty() => Err(config.no_agent()),
        Choice::Later { until, class } => Err(passed_over(&pool, &format!("until {until:.0} ({class})"))),
        Choice::Never { class } => Err(passed_over(&pool, &format!("({class})"))),
    }
}

fn passed_over(pool: &Pool, why: &str) -> Failure {
    let names = pool.names.join(", ");
    Failure::new(Exit::Failed, format!("every agent of agents.order is passed over {why}: {names}"))
        .hint("name one with --agent")
}

#[derive(Debug)]
pub(super) struct Fleet<'a> {
    pub(super) config: &'a Config,
    /// Given by a flag, for every agent.
    pub(super) timeout: Option<Duration>,
}

impl Agents for Fleet<'_> {
    fn backend(&self, name: &str) -> Result<Box<dyn Backend>, String> {
        self.config.agent(name).map_err(|failure| failure.text().to_owned())
    }

    fn timeout(&self, name: &str) -> Option<Duration> {
        args::time_limit([self.timeout, self.config.timeout_of(name)])
    }
}

/// The one agent that was named; else the one that worked on the task before, where the configuration does not list it
/// among those that take turns; else those.
pub(super) fn pool(
    context: &Context,
    settings: &Settings,
    name: Option<&TaskName>,
    before: Option<String>,
) -> Result<Pool, Failure> {
    let config = context.config()?;
    let seed = name.map_or("", |name| name.task.as_str());
    let order = || config.pool(seed);
    let one = match (&settings.agent, before) {
        (Some(agent), _) if agent != LUCKY => agent.clone(),
        (None, Some(before)) if !order().names.contains(&before) => before,
        (Some(_) | None, _) => {
            let pool = order();
            return if pool.names.is_empty() { Err(config.no_agent()) } else { Ok(pool) };
        }
    };
    // A name that is none, or a program that is not there, is known before anything is made.
    config.agent(&one)?.is_there()?;
    Ok(Pool { names: vec![one], ..order() })
}

/// Warns of agents that cannot bring a task to its end, or that a limit does not hold.
pub(super) fn warn(config: &Config, pool: &Pool) {
    let costs = config.budget().max_cost.micros > 0;
    for name in &pool.names {
        let Ok(agent) = config.agent(name) else { continue };
        if !agent.has_hands() {
            render::say(&format!(
                "warning: agent `{name}` only answers: it cannot mark the task as done; it is one for `run-agent job`"
            ));
        }
        if costs && !agent.tells_cost() {
            render::say(&format!(
                "warning: agent `{name}` does not say what it costs: limits.max_cost_usd does not hold it; set limits.max_tokens"
            ));
        }
    }
}
