//! Messages of one stream: read, posted, and followed without a loss over any break.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use run_agent_core::message::{Kind, Link, Parent as ParentOf};
use run_agent_core::store::{Cursor, ReadError};
use run_agent_core::{Draft, Message, MsgId, RunId, StreamKey, window};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Body, Query, aside, project_id, task_id};
use crate::App;
use crate::error::{Code, ErrorBody, Refused};
use crate::live::ring::{Event, What};
use crate::shape::{Messages, Parent, Posted, ProjectPost, V1Post, message_shape};
use crate::sse::{self, Source};

const LIMIT: usize = 1000;
const LIMIT_MAX: usize = 5000;
/// Messages that one piece of a stream has at the most.
const PIECE: usize = 200;
/// A piece that has so many bytes gets no more.
const PIECE_BYTES: usize = 1 << 20;
/// Messages that are read at once: of the largest, a few mebibytes.
const STEP: usize = 32;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Since {
    /// Only messages behind the one with this id; else the last ones.
    since: Option<String>,
    /// At most so many [1000, at most 5000].
    limit: Option<usize>,
    /// Only messages of these types, with commas between them.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Only what this run posted.
    run: Option<String>,
    /// Only messages with this in their body.
    text: Option<String>,
}

impl Since {
    fn wanted(&self) -> Result<Wanted, Refused> {
        let kinds = self.kind.as_deref().unwrap_or_default().split(',').filter(|kind| !kind.is_empty());
        let kinds = kinds.map(|kind| Kind::parse(kind).map_err(|error| Refused::bad(error.to_string())));
        Ok(Wanted {
            kinds: kinds.collect::<Result<_, _>>()?,
            run: self.run.as_deref().map(RunId::parse).transpose()?,
            text: self.text.clone(),
        })
    }
}

/// Which messages are wanted.
#[derive(Debug, Default)]
struct Wanted {
    kinds: Vec<Kind>,
    run: Option<RunId>,
    text: Option<String>,
}

impl Wanted {
    fn is(&self, message: &Message) -> bool {
        let content = &message.content;
        (self.kinds.is_empty() || self.kinds.contains(&content.kind))
            && (self.run.is_none() || self.run == content.run)
            && self.text.as_ref().is_none_or(|text| content.body.contains(text.as_str()))
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Where {
    project_id: String,
    task_id: Option<String>,
    /// Only messages behind the one with this id.
    after: Option<String>,
    limit: Option<usize>,
}

impl Where {
    fn key(&self) -> Result<StreamKey, Refused> {
        key(&self.project_id, self.task_id.as_deref())
    }
}

fn key(project: &str, task: Option<&str>) -> Result<StreamKey, Refused> {
    let project = project_id(project)?;
    Ok(match task {
        Some(task) => StreamKey::task(project, task_id(task)?),
        None => StreamKey::project(project),
    })
}

/// Messages of a project's or task's stream.
#[utoipa::path(get, path = "/api/v1/messages", tag = "messages", params(Where),
    responses((status = OK, body = Messages), (status = BAD_REQUEST, body = ErrorBody), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn v1_list(
    State(app): State<Arc<App>>,
    Query(query): Query<Where>,
) -> Result<Json<Messages>, Refused> {
    read(app, query.key()?, query.after, query.limit, Wanted::default()).await
}

/// Posts a message to a project's or task's stream.
#[utoipa::path(post, path = "/api/v1/messages", tag = "messages", request_body = V1Post,
    responses((status = CREATED, body = Posted), (status = BAD_REQUEST, body = ErrorBody), (status = FORBIDDEN, body = ErrorBody), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn v1_post(
    State(app): State<Arc<App>>,
    Body(body): Body<V1Post>,
) -> Result<(StatusCode, Json<Posted>), Refused> {
    let key = key(&body.project_id, body.task_id.as_deref())?;
    post(app, key, body.post).await
}

/// The messages of a stream as they come.
#[utoipa::path(get, path = "/api/v1/messages/stream", tag = "messages", params(Where),
    responses((status = OK, content_type = "text/event-stream", body = String), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn v1_stream(
    State(app): State<Arc<App>>,
    Query(query): Query<Where>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    stream(app, query.key()?, query.after.as_deref(), &headers).await
}

/// Messages of a project's own stream.
#[utoipa::path(get, path = "/api/projects/{project}/messages", tag = "messages", params(("project" = String, Path), Since),
    responses((status = OK, body = Messages), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn of_project(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
    Query(query): Query<Since>,
) -> Result<Json<Messages>, Refused> {
    let wanted = query.wanted()?;
    read(app, key(&project, None)?, query.since, query.limit, wanted).await
}

/// Posts a message to a project's own stream.
#[utoipa::path(post, path = "/api/projects/{project}/messages", tag = "messages", params(("project" = String, Path)), request_body = ProjectPost,
    responses((status = CREATED, body = Posted), (status = BAD_REQUEST, body = ErrorBody), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn post_to_project(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
    Body(body): Body<ProjectPost>,
) -> Result<(StatusCode, Json<Posted>), Refused> {
    post(app, key(&project, None)?, body).await
}

/// A project's own messages as they come.
#[utoipa::path(get, path = "/api/projects/{project}/messages/stream", tag = "messages", params(("project" = String, Path)),
    responses((status = OK, content_type = "text/event-stream", body = String), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn stream_of_project(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    stream(app, key(&project, None)?, None, &headers).await
}

/// Messages of a task's stream.
#[utoipa::path(get, path = "/api/projects/{project}/tasks/{task}/messages", tag = "messages",
    params(("project" = String, Path), ("task" = String, Path), Since),
    responses((status = OK, body = Messages), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn of_task(
    State(app): State<Arc<App>>,
    Path((project, task)): Path<(String, String)>,
    Query(query): Query<Since>,
) -> Result<Json<Messages>, Refused> {
    let wanted = query.wanted()?;
    read(app, key(&project, Some(&task))?, query.since, query.limit, wanted).await
}

/// Posts a message to a task's stream.
#[utoipa::path(post, path = "/api/projects/{project}/tasks/{task}/messages", tag = "messages",
    params(("project" = String, Path), ("task" = String, Path)), request_body = ProjectPost,
    responses((status = CREATED, body = Posted), (status = BAD_REQUEST, body = ErrorBody), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn post_to_task(
    State(app): State<Arc<App>>,
    Path((project, task)): Path<(String, String)>,
    Body(body): Body<ProjectPost>,
) -> Result<(StatusCode, Json<Posted>), Refused> {
    post(app, key(&project, Some(&task))?, body).await
}

/// A task's messages as they come.
#[utoipa::path(get, path = "/api/projects/{project}/tasks/{task}/messages/stream", tag = "messages",
    params(("project" = String, Path), ("task" = String, Path)),
    responses((status = OK, content_type = "text/event-stream", body = String), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn stream_of_task(
    State(app): State<Arc<App>>,
    Path((project, task)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    stream(app, key(&project, Some(&task))?, None, &headers).await
}

async fn read(
    app: Arc<App>,
    key: StreamKey,
    since: Option<String>,
    limit: Option<usize>,
    wanted: Wanted,
) -> Result<Json<Messages>, Refused> {
    let since = since.map(|id| MsgId::parse(&id)).transpose()?;
    let limit = limit.unwrap_or(LIMIT).min(LIMIT_MAX);
    let turn = app.pieces.clone().acquire_owned().await.map_err(|error| Refused::internal(&error))?;
    aside(move || {
        let _turn = turn;
        let stream = app.live.stream(&key)?;
        let end = stream.end()?;
        let from = match &since {
            None => window::last_matching(&*stream, limit, end, &mut |message| wanted.is(message))?,
            Some(id) => stream.find(id)?,
        };
        let mut told = Messages { last: since.map(|id| id.to_string()), ..Messages::default() };
        if limit == 0 {
            told.last = stream.last(1)?.entries.pop().map(|entry| entry.message.id.to_string());
            return Ok(Json(told));
        }
        let mut from = from;
        while from < end && !told.has_more {
            let page = stream.read(from, window::PAGE.min(limit.max(PIECE)))?;
            if page.next == from {
                break;
            }
            from = page.next;
            told.take_in(page, end, limit, |message| wanted.is(message));
        }
        Ok(Json(told))
    })
    .await
}

async fn post(
    app: Arc<App>,
    key: StreamKey,
    post: ProjectPost,
) -> Result<(StatusCode, Json<Posted>), Refused> {
    let mut draft = draft(&key, post)?;
    let durability = app.settings.durability;
    // In place, and not aside: waking another thread and being woken by it takes longer than most appends.
    tokio::task::block_in_place(move || {
        let stream = app.live.stream(&key)?;
        app.live.work.fit(&key, &mut draft).map_err(|why| Refused::new(Code::Internal, why))?;
        let began = Instant::now();
        let appended = stream.append(vec![draft], durability)?;
        app.metrics.appended(durability, began.elapsed());
        let message =
            &appended.first().ok_or_else(|| Refused::new(Code::Internal, "nothing was appended"))?.message;
        let posted = Posted {
            msg_id: message.id.to_string(),
            timestamp: message.ts.to_string(),
            attachment_path: message.content.attachment_path.clone(),
        };
        Ok((StatusCode::CREATED, Json(posted)))
    })
}

pub(super) fn must_be_free(kind: &Kind) -> Result<(), Refused> {
    if !kind.is_tool_own() {
        return Ok(());
    }
    let message = format!("{kind} is posted by run-agent alone; a lifecycle cannot be forged");
    Err(Refused::new(Code::Forbidden, message))
}

fn draft(key: &StreamKey, post: ProjectPost) -> Result<Draft, Refused> {
    let kind = match &post.kind {
        Some(kind) => Kind::parse(kind).map_err(|error| Refused::bad(error.to_string()))?,
        None => Kind::USER,
    };
    must_be_free(&kind)?;
    let mut draft = Draft::new(kind, key.project.clone(), key.task.clone(), post.body);
    draft.run = post.run_id.as_deref().map(RunId::parse).transpose()?;
    draft.issue = post.issue_id.as_deref().map(MsgId::parse).transpose()?;
    for parent in post.parents {
        draft.parents.push(match parent {
            Parent::Id(id) => ParentOf::new(MsgId::parse(&id)?, None),
            Parent::Named(named) => {
                ParentOf { msg_id: MsgId::parse(&named.msg_id)?, kind: named.kind, meta: named.meta }
            }
        });
    }
    let link = |link: crate::shape::LinkShape| Link { url: link.url, label: link.label, kind: link.kind };
    draft.links = post.links.into_iter().map(link).collect();
    draft.meta = post.meta;
    if post.blocking {
        draft.meta.insert("blocking".to_owned(), "true".to_owned());
    }
    Ok(draft)
}

/// Follows one stream: its history behind some id, then what is folded, without a gap between the two.
struct Follower {
    app: Arc<App>,
    key: StreamKey,
    newest: tokio::sync::watch::Receiver<u64>,
    ends: tokio::sync::watch::Receiver<bool>,
    at: At,
}

enum At {
    /// The client names a message that is not there: what it has may not be what is.
    Reset {
        until: Cursor,
        seq: u64,
    },
    /// Reading what is there, up to the place that was folded when number `seq` was the newest.
    History {
        from: Cursor,
        until: Cursor,
        seq: u64,
    },
    /// Everything up to this event was told.
    Live {
        seq: u64,
    },
    Ended,
}

async fn stream(
    app: Arc<App>,
    key: StreamKey,
    after: Option<&str>,
    headers: &HeaderMap,
) -> Result<Response, Refused> {
    let after = sse::last_id(headers).or(after).map(MsgId::parse).transpose()?;
    app.live.ready().await;
    let (newest, ends) = (app.live.ring.watch(), app.ends.subscribe());
    let mut follower = Follower { app: app.clone(), key, newest, ends, at: At::Ended };
    follower.begin(after).await?;
    Ok(sse::response(&app, follower))
}

impl Follower {
    async fn begin(&mut self, after: Option<MsgId>) -> Result<(), Refused> {
        let (app, key) = (self.app.clone(), self.key.clone());
        self.at = aside(move || {
            let stream = app.live.stream(&key)?;
            let (until, seq) = {
                let state = app.live.state();
                (state.place(&key).map_or(Cursor::START, |place| place.cursor), app.live.ring.newest())
            };
            let from = match after.map(|id| stream.find(&id)) {
                None => Cursor::START,
                Some(Ok(cursor)) => cursor,
                // Never a silent skip: the client is told to begin anew, and gets everything.
                Some(Err(ReadError::UnknownId { .. })) => return Ok(At::Reset { until, seq }),
                Some(Err(error)) => return Err(error.into()),
            };
            Ok(At::History { from, until, seq })
        })
        .await?;
        Ok(())
    }

    async fn history(&mut self, from: Cursor, until: Cursor, seq: u64) -> Option<String> {
        // Whoever gives up waiting for it comes again for the same.
        self.at = At::History { from, until, seq };
        let (app, key) = (self.app.clone(), self.key.clone());
        // Many who read at once would hold up all others.
        let turn = app.pieces.clone().acquire_owned().await.ok()?;
        let piece = aside(move || {
            let _turn = turn;
            let stream = app.live.stream(&key)?;
            let (mut text, mut at, mut told) = (String::new(), from, 0);
            while told < PIECE && text.len() < PIECE_BYTES && at < until {
                let page = stream.read(at, STEP)?;
                for entry in page.entries.iter().filter(|entry| entry.at < until) {
                    tell(&mut text, entry.message.id.as_str(), message_shape(&entry.message).get());
                }
                if page.next == at {
                    return Ok((text, until));
                }
                told += page.entries.len();
                at = page.next;
            }
            Ok((text, at))
        });
        match piece.await {
            Ok((text, at)) => {
                self.at = if at >= until { At::Live { seq } } else { At::History { from: at, until, seq } };
                Some(text)
            }
            Err(refused) => {
                self.at = At::Ended;
                Some(failed(&refused))
            }
        }
    }

    /// Waits for what is new of this stream.
    async fn live(&mut self, seq: u64) -> Option<String> {
        let mut seq = seq;
        loop {
            // Seen before it is looked at: what comes in between wakes.
            let _ = self.newest.borrow_and_update();
            match self.app.live.ring.since(seq, PIECE) {
                Err(_) => {
                    self.at = At::Ended;
                    return Some(sse::DROPPED.to_owned());
                }
                Ok(events) if !events.is_empty() => {
                    let mut text = String::new();
                    let key = self.key.clone();
                    for event in &events {
                        seq = event.seq;
                        self.at = At::Live { seq };
                        if event.key == key {
                            self.tell(&mut text, event);
                        }
                        if text.len() >= PIECE_BYTES || matches!(self.at, At::Ended) {
                            break;
                        }
                    }
                    if !text.is_empty() {
                        return Some(text);
                    }
                }
                Ok(_) => {
                    tokio::select! {
                        changed = self.newest.changed() => changed.ok()?,
                        _ = self.ends.wait_for(|ends| *ends) => return None,
                    }
                }
            }
        }
    }

    fn tell(&mut self, text: &mut String, event: &Event) {
        match &event.what {
            What::Appended { entry, .. } => {
                tell(text, entry.message.id.as_str(), &event.text().unwrap_or_default());
            }
            What::Replaced => {
                sse::event(text, "reset", None, r#"{"why":"the stream was replaced"}"#);
                self.at = At::Ended;
            }
            What::Gone => {
                sse::event(text, "done", None, r#"{"why":"it was deleted"}"#);
                self.at = At::Ended;
            }
        }
    }
}

fn tell(text: &mut String, id: &str, message: &str) {
    sse::event(text, "message", Some(id), message);
}

fn failed(refused: &Refused) -> String {
    let mut text = String::new();
    sse::event(&mut text, "error", None, &serde_json::json!({ "message": refused.message }).to_string());
    text
}

impl Source for Follower {
    async fn next(&mut self) -> Option<String> {
        loop {
            let text = match std::mem::replace(&mut self.at, At::Ended) {
                At::Reset { until, seq } => {
                    self.at = At::History { from: Cursor::START, until, seq };
                    let mut text = String::new();
                    sse::event(
                        &mut text,
                        "reset",
                        None,
                        r#"{"why":"the last id is not known; all messages follow"}"#,
                    );
                    text
                }
                At::History { from, until, seq } => self.history(from, until, seq).await?,
                At::Live { seq } => {
                    // A wait that is given up for a heartbeat goes on from here.
                    self.at = At::Live { seq };
                    self.live(seq).await?
                }
                At::Ended => return None,
            };
            if !text.is_empty() {
                return Some(text);
            }
        }
    }
}
