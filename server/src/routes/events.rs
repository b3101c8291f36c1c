//! Events with the changes that the reducer made of them, over a project or all of them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use run_agent_core::{ProjectId, TaskId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Query, project_id, task_id};
use crate::App;
use crate::error::Refused;
use crate::live::ring::{Event, What};
use crate::sse::{self, Source};

/// Events that one piece has at the most.
const PIECE: usize = 200;
/// A piece that has so many bytes gets no more.
const PIECE_BYTES: usize = 1 << 20;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Scope {
    /// Only this project's.
    project: Option<String>,
    /// Only this task's, too.
    task: Option<String>,
}

struct Watcher {
    app: Arc<App>,
    project: Option<ProjectId>,
    task: Option<TaskId>,
    newest: tokio::sync::watch::Receiver<u64>,
    ends: tokio::sync::watch::Receiver<bool>,
    /// Everything up to this event was told; `None`: the client is to begin anew.
    seq: Option<u64>,
}

/// What changes, as it does. Ids are `<server epoch>-<number>`; after one that is not known any more comes `event: reset`,
/// and whoever gets it asks for lists anew.
#[utoipa::path(get, path = "/api/v1/events/stream", tag = "events", params(Scope),
    responses((status = OK, content_type = "text/event-stream", body = String)))]
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let project = scope.project.as_deref().map(project_id).transpose()?;
    let task = scope.task.as_deref().map(task_id).transpose()?;
    app.live.ready().await;
    let (newest, ends) = (app.live.ring.watch(), app.ends.subscribe());
    let seq = sse::last_id(&headers).and_then(|id| seq_of(&app, id));
    Ok(sse::response(&app.clone(), Watcher { app, project, task, newest, ends, seq }))
}

/// Where a client was, if that was with this server.
fn seq_of(app: &App, id: &str) -> Option<u64> {
    let (epoch, seq) = id.split_once('-')?;
    let seq = seq.parse().ok().filter(|seq| *seq <= app.live.ring.newest())?;
    (epoch.parse() == Ok(app.live.ring.epoch)).then_some(seq)
}

impl Watcher {
    fn concerns(&self, event: &Event) -> bool {
        self.project.as_ref().is_none_or(|project| *project == event.key.project)
            && (self.task.is_none() || self.task == event.key.task)
    }

    fn reset(&mut self) -> String {
        let seq = self.app.live.ring.newest();
        self.seq = Some(seq);
        let id = format!("{}-{seq}", self.app.live.ring.epoch);
        let mut text = String::new();
        sse::event(
            &mut text,
            "reset",
            Some(&id),
            r#"{"why":"what came before is not known; ask for the lists anew"}"#,
        );
        text
    }

    fn tell(&self, text: &mut String, event: &Event) {
        let id = format!("{}-{}", self.app.live.ring.epoch, event.seq);
        sse::event(text, "event", Some(&id), &json(event).to_string());
    }
}

/// An event as streams and webhooks tell it.
pub(crate) fn json(event: &Event) -> serde_json::Value {
    let (project, task) = (&event.key.project, &event.key.task);
    match &event.what {
        What::Appended { entry, changes } => serde_json::json!({
            "project_id": project, "task_id": task, "message": entry.message, "changes": changes,
        }),
        What::Replaced => serde_json::json!({ "project_id": project, "task_id": task, "replaced": true }),
        What::Gone => serde_json::json!({ "project_id": project, "task_id": task, "deleted": true }),
    }
}

impl Source for Watcher {
    async fn next(&mut self) -> Option<String> {
        loop {
            let _ = self.newest.borrow_and_update();
            let Some(seq) = self.seq else { return Some(self.reset()) };
            let Ok(events) = self.app.live.ring.since(seq, PIECE) else { return Some(self.reset()) };
            let mut text = String::new();
            for event in &events {
                self.seq = Some(event.seq);
                if self.concerns(event) {
                    self.tell(&mut text, event);
                }
                if text.len() >= PIECE_BYTES {
                    break;
                }
            }
            if !text.is_empty() {
                return Some(text);
            }
            if events.is_empty() {
                tokio::select! {
                    changed = self.newest.changed() => changed.ok()?,
                    _ = self.ends.wait_for(|ends| *ends) => return None,
                }
            }
        }
    }
}
