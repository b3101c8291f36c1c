use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`, or `starting` while what is there is still read.
    status: &'static str,
}

/// Whether the server answers.
#[utoipa::path(get, path = "/api/v1/health", tag = "server", responses((status = OK, body = Health)))]
pub(crate) async fn health(State(app): State<Arc<App>>) -> Json<Health> {
    Json(Health { status: if app.live.is_ready() { "ok" } else { "starting" } })
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Version {
    version: String,
}

/// Which version of the program serves.
#[utoipa::path(get, path = "/api/v1/version", tag = "server", responses((status = OK, body = Version)))]
pub(crate) async fn version(State(app): State<Arc<App>>) -> Json<Version> {
    Json(Version { version: app.settings.version.clone() })
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    active_runs_count: usize,
    uptime_seconds: u64,
    configured_agents: Vec<String>,
    version: String,
    running_tasks: Vec<RunningTask>,
    projects: usize,
    tasks: usize,
    runs: usize,
    /// Entries that were read since the server started.
    events_folded: u64,
    /// Streams that cannot be read, and why.
    unreadable: Vec<Unreadable>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RunningTask {
    project_id: String,
    task_id: String,
    run_id: String,
    agent: String,
    started: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Unreadable {
    stream: String,
    why: String,
}

/// What is at work now.
#[utoipa::path(get, path = "/api/v1/status", tag = "server", responses((status = OK, body = Status)))]
pub(crate) async fn status(State(app): State<Arc<App>>) -> Json<Status> {
    app.live.ready().await;
    let state = app.live.state();
    let mut running_tasks = Vec::new();
    for (project, id) in state.active() {
        let Some(task) = state.task(project, id) else { continue };
        running_tasks.extend(task.active().map(|(run_id, run)| RunningTask {
            project_id: project.to_string(),
            task_id: id.to_string(),
            run_id: run_id.to_string(),
            agent: run.agent.clone(),
            started: run.started().unwrap_or(run.made).to_string(),
        }));
    }
    let projects: Vec<_> = state.world.projects.keys().collect();
    Json(Status {
        active_runs_count: running_tasks.len(),
        uptime_seconds: app.began.elapsed().as_secs(),
        configured_agents: app.live.work.agents(),
        version: app.settings.version.clone(),
        running_tasks,
        projects: projects.len(),
        tasks: projects.iter().map(|project| state.count_tasks(project)).sum(),
        runs: projects.iter().map(|project| state.count_runs(project)).sum(),
        events_folded: app.live.folded(),
        unreadable: state
            .unreadable
            .iter()
            .map(|(key, why)| Unreadable { stream: key.to_string(), why: why.clone() })
            .collect(),
    })
}
