use run_agent_core::world;
use run_agent_core::{ProjectId, RunId, TaskId};
use serde::Serialize;
use utoipa::ToSchema;

/// A run of a task.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) agent: String,
    pub(crate) agent_version: Option<String>,
    /// `queued`, `running`, `completed`, `failed` or `stopped`.
    pub(crate) status: String,
    pub(crate) process_ownership: String,
    /// -1 while it is not known.
    pub(crate) exit_code: i32,
    pub(crate) start_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent_run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) previous_run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_summary: Option<String>,
    pub(crate) files: Vec<FileLink>,
    /// All that lists show of it.
    #[schema(value_type = Object)]
    pub(crate) row: world::RunRow,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileLink {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) size: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Flat {
    pub(crate) runs: Vec<FlatRun>,
    pub(crate) total: usize,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FlatRun {
    pub(crate) id: String,
    pub(crate) task_id: String,
    pub(crate) agent: String,
    pub(crate) status: String,
    pub(crate) exit_code: i32,
    pub(crate) start_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent_run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) previous_run_id: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct V1Runs {
    pub(crate) runs: Vec<V1Run>,
    pub(crate) total: usize,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct V1Run {
    pub(crate) run_id: String,
    pub(crate) project_id: String,
    pub(crate) task_id: String,
    pub(crate) status: String,
    pub(crate) process_ownership: String,
    pub(crate) start_time: String,
    pub(crate) end_time: Option<String>,
    pub(crate) exit_code: i32,
    pub(crate) agent_version: Option<String>,
    pub(crate) error_summary: Option<String>,
    pub(crate) agent: String,
}

fn error_summary(run: &world::Run) -> Option<String> {
    let failed = run.status() == world::RunStatus::Failed;
    run.end().filter(|_| failed).map(|(end, _)| end.reason.clone())
}

fn ownership(run: &world::Run) -> String {
    run.start()
        .map(|start| start.process_ownership.clone())
        .filter(|text| !text.is_empty())
        .unwrap_or("managed".to_owned())
}

impl Run {
    pub(crate) fn new(task: &TaskId, id: &RunId, run: &world::Run, files: Vec<FileLink>) -> Self {
        let row = run.row(task, id);
        Self {
            id: id.to_string(),
            agent: row.agent.clone(),
            agent_version: row.agent_version.clone(),
            status: row.status.to_string(),
            process_ownership: ownership(run),
            exit_code: row.exit_code,
            start_time: row.start_time.to_string(),
            end_time: row.end_time.map(|at| at.to_string()),
            parent_run_id: row.parent_run_id.as_ref().map(ToString::to_string),
            previous_run_id: row.previous_run_id.as_ref().map(ToString::to_string),
            error_summary: error_summary(run),
            files,
            row,
        }
    }
}

impl FlatRun {
    pub(crate) fn new(task: &TaskId, id: &RunId, run: &world::Run) -> Self {
        Self {
            id: id.to_string(),
            task_id: task.to_string(),
            agent: run.agent.clone(),
            status: run.status().to_string(),
            exit_code: run.end().and_then(|(end, _)| end.exit_code).unwrap_or(-1),
            start_time: run.started().unwrap_or(run.made).to_string(),
            end_time: run.end().map(|(_, at)| at.to_string()),
            parent_run_id: run.parent.as_ref().map(ToString::to_string),
            previous_run_id: run.previous.as_ref().map(ToString::to_string),
        }
    }
}

impl V1Run {
    pub(crate) fn new(project: &ProjectId, task: &TaskId, id: &RunId, run: &world::Run) -> Self {
        Self {
            run_id: id.to_string(),
            project_id: project.to_string(),
            task_id: task.to_string(),
            status: run.status().to_string(),
            process_ownership: ownership(run),
            start_time: run.started().unwrap_or(run.made).to_string(),
            end_time: run.end().map(|(_, at)| at.to_string()),
            exit_code: run.end().and_then(|(end, _)| end.exit_code).unwrap_or(-1),
            agent_version: run.start().and_then(|start| start.agent_version.clone()),
            error_summary: error_summary(run),
            agent: run.agent.clone(),
        }
    }
}

/// A part of a file, or all of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileText {
    pub(crate) name: String,
    /// What is no UTF-8 in it is replaced.
    pub(crate) content: String,
    pub(crate) modified: Option<String>,
    pub(crate) size_bytes: u64,
    /// Where in the file `content` begins.
    pub(crate) offset: u64,
}
