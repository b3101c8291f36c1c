use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Projects {
    pub(crate) projects: Vec<Project>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Project {
    pub(crate) id: String,
    pub(crate) last_activity: Option<String>,
    pub(crate) task_count: usize,
    /// The folder in which its agents work.
    pub(crate) project_root: Option<String>,
    /// Tasks with a loop or run that has not ended.
    pub(crate) active_task_count: usize,
    pub(crate) open_questions: usize,
}

#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Stats {
    pub(crate) project_id: String,
    pub(crate) total_tasks: usize,
    pub(crate) total_runs: usize,
    pub(crate) running_runs: u64,
    pub(crate) completed_runs: u64,
    /// With those that crashed.
    pub(crate) failed_runs: u64,
    /// Ended by a signal, or with their supervisor.
    pub(crate) crashed_runs: u64,
    pub(crate) message_bus_files: u64,
    pub(crate) message_bus_total_bytes: u64,
    pub(crate) queued_runs: u64,
    pub(crate) stopped_runs: u64,
}

#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct NewProject {
    pub(crate) project_id: String,
    /// The absolute path of the folder in which its agents work.
    pub(crate) project_root: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HomeDirs {
    pub(crate) dirs: Vec<String>,
}
