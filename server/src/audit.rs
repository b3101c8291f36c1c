//! Who changed what over HTTP: a line a request in `.run-agent/audit.log`, without what looks like a secret. Messages that
//! programs post are in the streams, and not here.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use run_agent_core::Timestamp;
use serde_json::{Value, json};

use crate::App;
use crate::error::Refused;
use crate::guard::{self, BODY_MAX};

/// So much of one text is written down.
const TEXT_MAX: usize = 2048;
/// A log of this size becomes `audit.log.1`, and the one that had that name goes.
const LOG_MAX: u64 = 16 << 20;

#[derive(Debug)]
pub(crate) struct Audit {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

impl Audit {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: Mutex::default() }
    }

    fn write(&self, line: &str) -> io::Result<()> {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Another server may have begun a new one, or somebody moved it away.
        let own = held.as_ref().and_then(|file| file.metadata().ok()).map(|meta| (meta.dev(), meta.ino()));
        let there = self.path.symlink_metadata().ok();
        if own != there.as_ref().map(|meta| (meta.dev(), meta.ino())) {
            *held = None;
        }
        if there.is_some_and(|meta| meta.is_file() && meta.len() > LOG_MAX) {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
            *held = None;
        }
        if held.is_none() {
            if let Some(folder) = self.path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            // No link is written through, and no pipe waited for.
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let file =
                File::options().append(true).create(true).mode(0o600).custom_flags(flags).open(&self.path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is no regular file"));
            }
            *held = Some(file);
        }
        // In one piece, so that the lines of two servers stay whole.
        held.as_mut().map_or(Ok(()), |file| file.write_all(line.as_bytes()))
    }
}

/// Lets a request through, and writes down what it was and what it came to.
pub(crate) async fn log(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    let from_page = guard::is_from_page(request.headers());
    let is_message = request.method() == Method::POST && request.uri().path().ends_with("/messages");
    if !guard::may_change(request.method()) || (is_message && !from_page) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, BODY_MAX).await else {
        let status = axum::http::StatusCode::PAYLOAD_TOO_LARGE;
        return Refused::bad(format!("the body is longer than {BODY_MAX} bytes"))
            .with_status(status)
            .into_response();
    };
    let said = said(&app, &bytes);
    let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
    let response = next.run(Request::from_parts(parts, Body::from(bytes))).await;
    let line = json!({
        "ts": Timestamp::now().to_string(), "from": if from_page { "page" } else { "program" },
        "method": method, "path": path, "status": response.status().as_u16(), "body": said,
    });
    let _ = tokio::task::spawn_blocking(move || {
        if let Err(error) = app.audit.write(&format!("{line}\n")) {
            tracing::warn!(%error, path = %app.audit.path.display(), "the audit log cannot be written");
        }
    })
    .await;
    response
}

fn said(app: &App, bytes: &Bytes) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(mut value) => {
            app.live.work.redact(&mut value);
            shorten(&mut value);
            value
        }
        Err(_) => json!({ "unreadable_bytes": bytes.len() }),
    }
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > TEXT_MAX => {
            let more = text.len() - TEXT_MAX;
            let head = run_agent_core::text::head(text, TEXT_MAX);
            *text = format!("{head}… ({more} bytes more)");
        }
        Value::Array(all) => all.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
