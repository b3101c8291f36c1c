//! Which paths there are. One file a resource.
// What the macros of the document expand to names types by their paths.
#![allow(unused_qualifications)]

mod events;
mod messages;
mod projects;
mod runs;
mod tasks;
mod v1;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::routing::get;
use run_agent_core::{ProjectId, TaskId};
use serde::de::DeserializeOwned;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::error::{Code, ErrorBody, Refused};

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
        .routes(routes!(v1::health))
        .routes(routes!(v1::version))
        .routes(routes!(v1::status))
        .routes(routes!(runs::v1_list))
        .routes(routes!(runs::v1_one))
        .routes(routes!(messages::v1_list, messages::v1_post))
        .routes(routes!(messages::v1_stream))
        .routes(routes!(events::stream))
        .routes(routes!(projects::list))
        .routes(routes!(projects::one))
        .routes(routes!(projects::stats))
        .routes(routes!(runs::flat))
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::one))
        .routes(routes!(tasks::file))
        .routes(routes!(runs::of_task))
        .routes(routes!(runs::one))
        .routes(routes!(runs::file))
        .routes(routes!(messages::of_project, messages::post_to_project))
        .routes(routes!(messages::stream_of_project))
        .routes(routes!(messages::of_task, messages::post_to_task))
        .routes(routes!(messages::stream_of_task))
}

/// The document that describes them.
pub(crate) fn document(document: utoipa::openapi::OpenApi) -> Router<Arc<App>> {
    let text: Arc<str> = document.to_json().unwrap_or_default().into();
    let answer = move || {
        let text = text.clone();
        async move { ([(axum::http::header::CONTENT_TYPE, "application/json")], text.to_string()) }
    };
    Router::new().route("/api/openapi.json", get(answer))
}

pub(crate) async fn nothing_here() -> Refused {
    Refused::not_found("there is nothing at this path; /api/openapi.json lists what there is")
}

pub(crate) async fn not_so() -> impl IntoResponse {
    Refused::new(Code::MethodNotAllowed, "this path is there, but not for this method")
}

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
        let axum::Json(body) = axum::Json::from_request(request, state).await?;
        Ok(Self(body))
    }
}
