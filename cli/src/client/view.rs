//! A task of the server's, folded as if it lay here.

use run_agent_core::run_info::RunInfo;
use run_agent_core::world::{Task, WORLD_VERSION};
use run_agent_core::{Cursor, Message, MsgId, RunId};
use run_agent_runner::tree::TaskName;
use serde::Deserialize;

use super::{Client, Place, trouble};
use crate::error::{Exit, Failure};

#[derive(Debug, Deserialize)]
pub(crate) struct View {
    pub(crate) cursor: Cursor,
    /// The last message that was folded in.
    pub(crate) last: Option<MsgId>,
    pub(crate) task: Box<Task>,
    pub(crate) last_messages: Vec<Message>,
    pub(crate) damage: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) why: String,
    pub(crate) no_driver: bool,
    pub(crate) folder: String,
}

/// What is looked at before all else: a task that was folded by other rules is no task of these.
#[derive(Deserialize)]
struct Version {
    world: u32,
}

impl Client {
    pub(crate) fn view(&self, name: &TaskName) -> Result<View, Failure> {
        let place = Place::of_task(name, ["view"]);
        let body = self.bytes(&place)?;
        let Version { world } = self.read(&place, &body)?;
        if world != WORLD_VERSION {
            let why = format!("it folds tasks by rules of version {world}, and this one by {WORLD_VERSION}");
            return Err(trouble::other_version(self.url(), &why));
        }
        self.read(&place, &body)
    }

    /// A run's record as it lies there.
    pub(crate) fn run_info(&self, run: &RunId) -> Result<RunInfo, Failure> {
        let place = Place::new(["v1", "runs", run.as_str(), "info"]);
        let text = String::from_utf8_lossy(&self.bytes(&place)?).into_owned();
        RunInfo::from_yaml(&text, &format!("{}{place}", self.url()))
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))
    }
}
