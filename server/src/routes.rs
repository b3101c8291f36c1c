//! Which paths there are. One file a resource.
// What the macros of the document expand to names types by their paths.
#![allow(unused_qualifications)]

mod act;
mod delete;
mod events;
mod logs;
mod messages;
mod metrics;
mod page;
mod past;
mod projects;
mod runs;
mod search;
mod start;
mod stop;
mod tasks;
mod v1;
mod view;

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use run_agent_core::{ProjectId, TaskId};
use serde::de::DeserializeOwned;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::error::{Code, ErrorBody, Refused};
use crate::guard;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "run-agent",
        description = "What `run-agent serve` answers: projects, tasks, runs, messages, and streams of what changes.",
        license(name = "Apache-2.0")
    ),
    components(schemas(ErrorBody))
)]
struct Document;

pub(crate) fn all() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(page::root))
        .routes(routes!(page::ui))
        .routes(routes!(page::document))
        .routes(routes!(v1::health))
        .routes(routes!(v1::version))
        .routes(routes!(v1::status))
        .routes(routes!(tasks::v1_list, start::task))
        .routes(routes!(tasks::v1_one, stop::v1_task))
        .routes(routes!(start::job))
        .routes(routes!(runs::v1_list))
        .routes(routes!(runs::v1_one))
        .routes(routes!(runs::v1_info))
        .routes(routes!(stop::v1_run))
        .routes(routes!(logs::v1_run))
        .routes(routes!(logs::v1_all))
        .routes(routes!(messages::v1_list, messages::v1_post))
        .routes(routes!(messages::v1_stream))
        .routes(routes!(events::stream))
        .routes(routes!(past::events))
        .routes(routes!(past::state))
        .routes(routes!(search::search))
        .routes(routes!(metrics::metrics))
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(projects::home_dirs))
        .routes(routes!(projects::one, delete::project))
        .routes(routes!(delete::gc))
        .routes(routes!(projects::stats))
        .routes(routes!(runs::flat))
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::one, delete::task))
        .routes(routes!(start::resume))
        .routes(routes!(stop::task))
        .routes(routes!(tasks::file))
        .routes(routes!(view::one))
        .routes(routes!(runs::of_task))
        .routes(routes!(runs::one, delete::run))
        .routes(routes!(stop::run))
        .routes(routes!(runs::file))
        .routes(routes!(logs::of_task))
        .routes(routes!(logs::of_file))
        .routes(routes!(messages::of_project, messages::post_to_project))
        .routes(routes!(messages::stream_of_project))
        .routes(routes!(messages::of_task, messages::post_to_task))
        .routes(routes!(messages::stream_of_task))
}

pub(crate) use events::json as event_json;

pub(crate) async fn nothing_here() -> Refused {
    Refused::not_found("there is nothing at this path; /api/openapi.json lists what there is")
}

pub(crate) async fn not_so() -> impl IntoResponse {
    Refused::new(Code::MethodNotAllowed, "this path is there, but not for this method")
}

pub(crate) use projects::must_be_there;

/// Ids as they stand in a path.
pub(crate) fn project_id(text: &str) -> Result<ProjectId, Refused> {
    Ok(ProjectId::parse(text)?)
}

pub(crate) fn task_id(text: &str) -> Result<TaskId, Refused> {
    Ok(TaskId::parse(text)?)
}

impl From<QueryRejection> for Refused {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad(rejection.body_text())
    }
}

impl From<JsonRejection> for Refused {
    fn from(rejection: JsonRejection) -> Self {
        let status = rejection.status();
        let refused = Self::bad(rejection.body_text());
        if status == StatusCode::UNPROCESSABLE_ENTITY { refused } else { refused.with_status(status) }
    }
}

/// A query whose mistakes are told like all others.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let axum::extract::Query(query) = axum::extract::Query::from_request_parts(parts, state).await?;
        Ok(Self(query))
    }
}

/// A body whose mistakes are told like all others.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        guard::check_type(request.headers())?;
        let axum::Json(body) = axum::Json::from_request(request, state).await?;
        Ok(Self(body))
    }
}

/// As [`Body`], where nothing at all may be said.
#[derive(Debug)]
pub(crate) struct MaybeBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for MaybeBody<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        guard::check_type(request.headers())?;
        let bytes = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|rejection| Refused::bad(rejection.body_text()).with_status(rejection.status()))?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        let axum::Json(body) = axum::Json::from_bytes(&bytes)?;
        Ok(Self(body))
    }
}

/// Runs what may wait for a disk, a lock or a process where nobody else waits with it.
pub(crate) async fn aside<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    match tokio::task::spawn_blocking(act).await {
        Ok(done) => done,
        Err(error) => Err(Refused::internal(&error)),
    }
}
