//! A task as another process of the same version needs it to show it as its own: folded, with what a look around finds.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use run_agent_core::StreamKey;
use run_agent_core::world::WORLD_VERSION;

use super::{aside, project_id, task_id, tasks};
use crate::App;
use crate::error::{Code, ErrorBody, Refused};
use crate::live::State as Known;
use crate::shape::{View, message_shape};
use crate::work::Seen;

/// So long is waited for what is in the stream to be folded.
const FOLDED: Duration = Duration::from_secs(1);
/// How many of the last messages go with it.
const MESSAGES: usize = 5;

/// A task folded, which is read by programs of the same version of its rules alone: others show `row`s.
#[utoipa::path(get, path = "/api/projects/{project}/tasks/{task}/view", tag = "tasks",
    params(("project" = String, Path), ("task" = String, Path)),
    responses((status = OK, body = View), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Path((project, task)): Path<(String, String)>,
) -> Result<Json<View>, Refused> {
    let (project, id) = (project_id(&project)?, task_id(&task)?);
    app.live.ready().await;
    // Nothing is looked for that is not there.
    tasks::known(&app.live.state(), &project, &id)?;
    let key = StreamKey::task(project.clone(), id.clone());
    // Whoever has just started or posted something sees it.
    let (asked, of) = (app.clone(), key.clone());
    let end = aside(move || Ok(asked.live.stream(&of)?.end()?)).await?;
    let is_folded = |state: &Known| state.place(&key).is_some_and(|place| place.cursor >= end);
    app.live.wait_until(FOLDED, is_folded).await;
    aside(move || {
        let Seen { notes, why } =
            app.live.work.look(&project, &id).map_err(|why| Refused::new(Code::Internal, why))?;
        let processes = app.live.work.processes(&project, &id);
        let last = app.live.stream(&key)?.last(MESSAGES)?;
        let state = app.live.state();
        let task = serde_json::value::to_raw_value(tasks::known(&state, &project, &id)?)
            .map_err(|error| Refused::internal(&error))?;
        let place = state.place(&key).cloned().unwrap_or_default();
        Ok(Json(View {
            world: WORLD_VERSION,
            cursor: place.cursor.get(),
            last: place.last.map(|(_, id)| id.to_string()),
            task,
            last_messages: last.entries.iter().map(|entry| message_shape(&entry.message)).collect(),
            damage: place.damage,
            notes,
            why,
            no_driver: processes.no_driver,
            folder: app.live.layout.task(&project, &id).folder().display().to_string(),
        }))
    })
    .await
}
