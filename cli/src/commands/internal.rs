//! The hidden commands that are a supervisor, and who asks an agent's program for its version.

use std::io::Read;
use std::path::PathBuf;

use run_agent_core::layout::Layout;
use run_agent_core::{ProjectId, TaskId};
use run_agent_runner::Tree;
use run_agent_runner::supervise::{Order, supervisor};
use run_agent_runner::tree::TaskName;
use run_agent_runner::versions;

use crate::context::variable;
use crate::error::{Exit, Failure, Outcome};
use crate::store_file::StoreFile;
use crate::stores::{self, Backend};

/// Each of half a minute, while the events of the root are being moved.
const HOLD_TRIES: u32 = 20;

/// The tree with the settings that hold in it. A run must be looked after whatever its root's own files say, so a
/// store file that cannot be read leaves the defaults, and the store whose files are there.
fn tree(root: PathBuf) -> Tree {
    let layout = Layout::new(root);
    // Who moves the root's events for longer than that has stopped: the run is looked after all the same.
    let _ = (0..HOLD_TRIES).find(|_| stores::hold(&layout).is_ok());
    let file = StoreFile::read(&layout.store_file()).ok().flatten().unwrap_or_else(|| {
        let held = stores::found_in(&layout).ok().flatten();
        StoreFile::unmade(held.unwrap_or_else(Backend::of_new_root))
    });
    file.tree(layout)
}

/// Reads its order from stdin and owns one run until it has ended. `here`: says first that it has come up.
pub(crate) fn supervise(here: bool) -> Outcome {
    if here {
        supervisor::say_here()?;
    }
    let mut order = Vec::new();
    std::io::stdin().read_to_end(&mut order).map_err(|e| Failure::io("cannot read the order", &e))?;
    match serde_json::from_slice::<Order>(&order) {
        Ok(order) => supervisor::supervise(&tree(order.launch().root.clone()), order)?,
        // The starter was killed in the middle: the environment still tells which run this was to be.
        Err(_) => supervisor::close_without_order(&tree_of_environment()?, &name_of_environment()?)?,
    }
    Ok(Exit::Done)
}

fn missing(name: &str) -> Failure {
    Failure::usage(format!("_supervise is started by run-agent alone: {name} is not set"))
}

fn tree_of_environment() -> Result<Tree, Failure> {
    variable("JRUN_ROOT").map(|root| tree(root.into())).ok_or_else(|| missing("JRUN_ROOT"))
}

fn name_of_environment() -> Result<TaskName, Failure> {
    let read = |name: &str| variable(name).ok_or_else(|| missing(name));
    Ok(TaskName {
        project: ProjectId::parse(&read("JRUN_PROJECT_ID")?)?,
        task: TaskId::parse(&read("JRUN_TASK_ID")?)?,
    })
}

#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    /// The root that keeps the answer
    #[arg(value_name = "DIR")]
    root: PathBuf,
    /// The program
    #[arg(value_name = "PROGRAM")]
    program: PathBuf,
}

/// Asks a program for its version and keeps the answer, until the supervisor that wants it is gone.
pub(crate) fn version(args: &VersionArgs) -> Outcome {
    versions::ask_for_supervisor(&Layout::new(args.root.clone()), &args.program)
        .map_err(|e| Failure::usage(format!("_version is started by run-agent alone: {e}")))?;
    Ok(Exit::Done)
}
