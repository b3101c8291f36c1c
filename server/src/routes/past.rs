//! What was: events as a list, and the graph as it stood at any moment.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Query, aside, project_id, task_id};
use crate::App;
use crate::error::{ErrorBody, Refused};
use crate::past::{Moment, Scope, Told};
use crate::shape::{Counted, Events, Happened, OpenQuestion, PastState};

const LIMIT: usize = 1000;
const LIMIT_MAX: usize = 5000;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct From {
    project: String,
    task: Option<String>,
    /// Behind the message with this id, or from this time on; else from the beginning.
    from: Option<String>,
    /// At most so many [1000, at most 5000].
    limit: Option<usize>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct At {
    project: String,
    task: Option<String>,
    /// A time, or the id of a message, which counts as seen; else now.
    at: Option<String>,
}

fn scope(project: &str, task: Option<&str>) -> Result<Scope, Refused> {
    Ok(Scope { project: project_id(project)?, task: task.map(task_id).transpose()? })
}

/// Events of a task, or of a project with its tasks in order of time, with the changes that they made to rows.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(From),
    responses((status = OK, body = Events), (status = BAD_REQUEST, body = ErrorBody), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn events(
    axum::extract::State(app): State<Arc<App>>,
    Query(query): Query<From>,
) -> Result<Json<Events>, Refused> {
    let scope = scope(&query.project, query.task.as_deref())?;
    let from = query.from.as_deref().map(Moment::parse).transpose()?;
    let limit = query.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
    app.live.ready().await;
    let turn = app.turn().await?;
    aside(move || {
        // Its own, and not the client's, who may hang up.
        let _turn = turn;
        let (found, has_more) = scope.events(&app.live, from.as_ref(), limit)?;
        let last = found.last().map(|told| told.entry.message.id.to_string());
        let happened = |Told { key, entry, changes }: Told| Happened {
            project_id: key.project.to_string(),
            task_id: key.task.map(|task| task.to_string()),
            message: crate::shape::message_shape(&entry.message),
            changes,
        };
        Ok(Json(Events { events: found.into_iter().map(happened).collect(), last, has_more }))
    })
    .await
}

/// The graph as it stood at a moment: what lists would have shown then.
#[utoipa::path(get, path = "/api/v1/state", tag = "events", params(At),
    responses((status = OK, body = PastState), (status = BAD_REQUEST, body = ErrorBody), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn state(
    axum::extract::State(app): State<Arc<App>>,
    Query(query): Query<At>,
) -> Result<Json<PastState>, Refused> {
    let scope = scope(&query.project, query.task.as_deref())?;
    let at = query.at.as_deref().map(Moment::parse).transpose()?;
    app.live.ready().await;
    let turn = app.turn().await?;
    aside(move || {
        // Its own, and not the client's, who may hang up.
        let _turn = turn;
        let (world, last) = scope.at(&app.live, at.as_ref())?;
        let (time, message) = last.unzip();
        let mut shape = PastState {
            project_id: scope.project.to_string(),
            task_id: scope.task.map(|task| task.to_string()),
            timestamp: time.map(|time| time.to_string()),
            msg_id: message.map(|id| id.to_string()),
            tasks: Vec::new(),
            runs: Vec::new(),
            questions: Vec::new(),
            counts: Vec::new(),
        };
        let Some(project) = world.project(&scope.project) else { return Ok(Json(shape)) };
        shape.add(None, &project.thread);
        for (id, task) in project.tasks.iter().filter(|(_, task)| !task.deleted) {
            shape.tasks.push(task.row(id));
            shape.runs.extend(task.runs.iter().map(|(run_id, run)| run.row(id, run_id)));
            shape.add(Some(id), &task.thread);
        }
        Ok(Json(shape))
    })
    .await
}

impl PastState {
    fn add(&mut self, task: Option<&run_agent_core::TaskId>, thread: &run_agent_core::world::Thread) {
        let task_id = || task.map(ToString::to_string);
        self.questions.extend(thread.open_questions.iter().map(|(id, question)| OpenQuestion {
            task_id: task_id(),
            msg_id: id.to_string(),
            question: question.clone(),
        }));
        self.counts.extend(thread.counts.iter().map(|(kind, count)| Counted {
            task_id: task_id(),
            kind: kind.to_string(),
            count: *count,
        }));
    }
}
