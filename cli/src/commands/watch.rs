//! `watch`: blocks until tasks are done. On a terminal a table that is redrawn in place, elsewhere a line for each
//! change.

mod here;
mod screen;
mod show;
mod there;

use std::time::{Duration, Instant};

use clap::Args;
use clap_complete::ArgValueCompleter as Complete;
use run_agent_runner::tree::TaskName;

use self::here::Here;
use self::show::Show;
use super::completion::tasks;
use super::reader;
use crate::args::{self, Global, ServerArgs};
use crate::client::Client;
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::folded::{Folded, News};
use crate::render;

#[derive(Debug, Args)]
#[command(
    after_help = "A task is done when no run of it is active and no loop drives it. Which tasks are watched is decided \
        when the command is called.\n\n\
        Exit codes: 0 all completed (or nothing was active), 1 some failed or were stopped, 3 a loop gave up, \
        124 time limit, 130 interrupted.\n\nExample:\n  run-agent watch fix-login --timeout 10m"
)]
pub(crate) struct WatchArgs {
    /// The tasks [default: --task, the caller's, the folder's, else all that are active in the project or root]
    #[arg(value_name = "TASK", add = Complete::new(tasks))]
    tasks: Vec<String>,
    /// How long at most, such as 10m [default: as long as it takes]
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Hints come when a stream grows; a process that was killed says nothing, so that each task is looked at now and then.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Tasks that are watched, wherever they lie.
trait Watched {
    /// From now on what is new wakes, and an interrupt does; and the caller waits for others.
    fn begin(&mut self) -> Result<(), Failure>;
    fn count(&self) -> usize;
    fn task(&self, n: usize) -> &Folded;
    /// What is new of a task.
    fn look(&mut self, n: usize) -> Result<Vec<News>, Failure>;
    /// Its loop is open, but nobody drives it: it goes on only when somebody takes it up.
    fn is_orphaned(&self, n: usize) -> bool;
    /// The flags with which a command that is printed for a person finds this task.
    fn flags_for(&self, name: &TaskName) -> String;
    fn interrupted(&self) -> bool;
    /// Sleeps until something may be new, so long at the most.
    fn sleep(&mut self, limit: Duration) -> Result<(), Failure>;
}

pub(crate) fn run(global: &Global, args: &WatchArgs) -> Outcome {
    if let Some(client) = Client::of(global, &args.server)? {
        return watch(global, args, &mut there::open(&client, &args.tasks)?);
    }
    let context = Context::open(global)?;
    watch(global, args, &mut Here::open(&context, &args.tasks)?)
}

fn watch(global: &Global, args: &WatchArgs, watched: &mut impl Watched) -> Outcome {
    let all = 0..watched.count();
    if all.is_empty() {
        render::say("nothing is active; name a task to wait for it");
        return end(global, watched, Exit::Done);
    }
    watched.begin()?;
    let mut show = Show::new(global.json);
    for n in all.clone() {
        show.first(watched.task(n))?;
    }
    let began = Instant::now();
    loop {
        for n in all.clone() {
            if watched.task(n).is_done() {
                continue;
            }
            for news in watched.look(n)? {
                show.news(watched.task(n), &news)?;
            }
            show.note(watched, n);
        }
        show.table(watched)?;
        let open = all.clone().filter(|n| !watched.task(*n).is_done()).count();
        if open == 0 {
            let exits = all.map(|n| watched.task(n).exit());
            let exit = exits.max_by_key(|exit| exit.code()).unwrap_or(Exit::Done);
            return end(global, watched, exit);
        }
        reader::still_there()?;
        if watched.interrupted() {
            return end(global, watched, Exit::Interrupted);
        }
        let left = args.timeout.map_or(LOOK_AGAIN, |limit| limit.saturating_sub(began.elapsed()));
        if left.is_zero() {
            render::say(&format!(
                "{} not done yet; call again to watch on",
                render::count(open as u64, "task")
            ));
            return end(global, watched, Exit::TimeLimit);
        }
        watched.sleep(left)?;
    }
}

/// The last line, for programs: how every task ended.
fn end(global: &Global, watched: &impl Watched, exit: Exit) -> Outcome {
    if global.json {
        let tasks: Vec<serde_json::Value> = (0..watched.count()).map(|n| watched.task(n).json()).collect();
        render::json(&serde_json::json!({ "change": "end", "tasks": tasks, "exit_code": exit.code() }))?;
    }
    Ok(exit)
}
