use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use run_agent_core::world::{RunStatus, TaskStatus};

use crate::App;
use crate::metrics::Page;

/// Counters in the form that Prometheus reads.
#[utoipa::path(get, path = "/metrics", tag = "server", responses((status = OK, content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    app.live.ready().await;
    let mut page = Page::default();
    page.value(
        "run_agent_uptime_seconds",
        "gauge",
        "Since this server started.",
        app.began.elapsed().as_secs(),
    );
    page.value(
        "run_agent_events_folded_total",
        "counter",
        "Entries that were read since the start.",
        app.live.folded(),
    );
    let (mut runs, mut tasks) = (BTreeMap::<RunStatus, u64>::new(), BTreeMap::<TaskStatus, u64>::new());
    let (projects, unreadable) = {
        let state = app.live.state();
        for project in state.world.projects.keys() {
            for (_, task) in state.tasks(project) {
                *tasks.entry(task.status()).or_default() += 1;
                for (status, count) in task.run_counts() {
                    *runs.entry(status).or_default() += u64::from(count);
                }
            }
        }
        (state.world.projects.len(), state.unreadable.len())
    };
    page.value("run_agent_projects", "gauge", "Projects of the root.", projects);
    page.value("run_agent_unreadable_streams", "gauge", "Streams that cannot be read.", unreadable);
    let of_runs = RunStatus::ALL.iter().map(|of| (of.as_str(), runs.get(of).copied().unwrap_or_default()));
    page.values("run_agent_runs", "gauge", "Runs by status.", "status", of_runs);
    let of_tasks = TaskStatus::ALL.iter().map(|of| (of.as_str(), tasks.get(of).copied().unwrap_or_default()));
    page.values("run_agent_tasks", "gauge", "Tasks by status.", "status", of_tasks);
    page.own(&app.metrics);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.into_text()).into_response()
}
