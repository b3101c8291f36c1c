use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// What a task is made of.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct NewTask {
    pub(crate) project_id: String,
    /// A whole id; else one is made from the time and the prompt.
    pub(crate) task_id: Option<String>,
    /// Else those of `agents.order` take turns.
    pub(crate) agent_type: Option<String>,
    /// May be left out for a task that is there.
    #[schema(value_type = String)]
    pub(crate) prompt: Option<String>,
    pub(crate) config: Option<LoopConfig>,
    /// The folder in which the agents of a new project work; for a project that is there, this task's own.
    pub(crate) project_root: Option<String>,
    /// `create` where it is left out.
    pub(crate) attach_mode: Option<AttachMode>,
    #[serde(default)]
    pub(crate) depends_on: Vec<String>,
    /// The message that it is started from.
    pub(crate) thread_parent: Option<ThreadParent>,
    /// The type of the message that opens the new task's thread [USER].
    pub(crate) thread_message_type: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AttachMode {
    /// The task is new.
    #[default]
    Create,
    /// Go on with a task that is there; nothing is started where it runs.
    Attach,
    /// Take up again what is done, gave up or was stopped.
    Resume,
}

#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ThreadParent {
    pub(crate) project_id: Option<String>,
    pub(crate) task_id: Option<String>,
    pub(crate) message_id: String,
}

/// Settings of one loop or run.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoopConfig {
    /// The agent's working folder.
    pub(crate) cwd: Option<String>,
    /// Of one run, such as `30m`.
    pub(crate) timeout: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    pub(crate) max_restarts: Option<u32>,
    /// Commands that have to succeed before DONE counts.
    #[serde(default)]
    pub(crate) verify: Vec<String>,
}

/// JSON knows no whole numbers: `2.0` is one, too.
fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(from)? else { return Ok(None) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked on the next line")]
    let whole = number as u32;
    if f64::from(whole) == number {
        return Ok(Some(whole));
    }
    Err(serde::de::Error::custom(format!("{number} is no whole number from 0 to {}", u32::MAX)))
}

/// What a run is made of.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct NewJob {
    pub(crate) project_id: String,
    pub(crate) task_id: String,
    /// Else the first of `agents.order` that can be started.
    pub(crate) agent_type: Option<String>,
    pub(crate) prompt: String,
    /// `cwd` and `timeout`.
    pub(crate) config: Option<LoopConfig>,
    /// Starts at most one run of the task with this key.
    pub(crate) key: Option<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct Resume {
    /// Else as the loop before.
    pub(crate) agent_type: Option<String>,
    pub(crate) config: Option<LoopConfig>,
    /// Replaces what it depended on.
    pub(crate) depends_on: Option<Vec<String>>,
}

/// What was started.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Started {
    pub(crate) project_id: String,
    pub(crate) task_id: String,
    /// Not there while it waits for other tasks or for a place.
    pub(crate) run_id: Option<String>,
    pub(crate) status: String,
    pub(crate) queue_position: Option<u32>,
    pub(crate) depends_on: Vec<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct Stop {
    /// Without a grace period.
    #[serde(default)]
    pub(crate) force: bool,
    /// How long processes get after SIGTERM, such as `10s`.
    pub(crate) grace: Option<String>,
}

/// A stop that was asked for. It is over when the runs have ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stopped {
    /// How many runs are stopped by it.
    pub(crate) stopped_runs: usize,
    pub(crate) runs: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stopping {
    /// `stopping`.
    pub(crate) status: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deleted {
    pub(crate) freed_bytes: u64,
}

/// What is deleted.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct Gc {
    /// Runs that ended so long ago, such as `7d` [retention.older_than].
    pub(crate) older_than: Option<String>,
    #[serde(default)]
    pub(crate) dry_run: bool,
    #[serde(default)]
    pub(crate) keep_failed: bool,
    /// Whole tasks that are completed, too.
    #[serde(default)]
    pub(crate) delete_done_tasks: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GcDone {
    pub(crate) deleted_runs: u64,
    pub(crate) freed_bytes: u64,
    pub(crate) dry_run: bool,
    pub(crate) deleted_tasks: u64,
}
