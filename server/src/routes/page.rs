//! What a browser gets.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::App;

const PAGE: &str = include_str!("../page.html");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn page() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE).into_response()
}

/// The page.
#[utoipa::path(get, path = "/", tag = "page", responses((status = OK, content_type = "text/html", body = String)))]
pub(crate) async fn root() -> Response {
    page()
}

/// The page.
#[utoipa::path(get, path = "/ui/", tag = "page", responses((status = OK, content_type = "text/html", body = String)))]
pub(crate) async fn ui() -> Response {
    page()
}

/// The document that describes all paths.
#[utoipa::path(get, path = "/api/openapi.json", tag = "server", responses((status = OK, content_type = "application/json", body = Object)))]
pub(crate) async fn document(State(app): State<Arc<App>>) -> Response {
    ([(CONTENT_TYPE, "application/json")], app.document.clone()).into_response()
}
