//! Streams of events to clients: written when the client can take them, and nothing is held for one that cannot.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

/// A quiet stream says so often that it is there.
pub(crate) const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

/// Something that gives events for as long as it can.
pub(crate) trait Source: Send + 'static {
    /// The next piece of text, one event or several; `None` ends the stream. It may take as long as it takes.
    fn next(&mut self) -> impl Future<Output = Option<String>> + Send;
}

/// One event. `data` may have several lines.
pub(crate) fn event(out: &mut String, name: &str, id: Option<&str>, data: &str) {
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
    let _ = writeln!(out, "event: {name}");
    for line in data.split('\n') {
        let _ = writeln!(out, "data: {line}");
    }
    out.push('\n');
}

/// The id with which a client says where it was.
pub(crate) fn last_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id").and_then(|value| value.to_str().ok()).filter(|id| !id.is_empty())
}

pub(crate) fn response(source: impl Source) -> Response {
    let pieces = stream::unfold(source, |mut source| async move {
        let text = tokio::select! {
            text = source.next() => text?,
            () = tokio::time::sleep(HEARTBEAT_EVERY) => "event: heartbeat\ndata: {}\n\n".to_owned(),
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), source))
    });
    let headers = [(CONTENT_TYPE, "text/event-stream; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    // A proxy that collects answers would hold events back.
    (headers, [("x-accel-buffering", "no")], Body::from_stream(pieces)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_id_and_each_line_of_its_data() {
        let mut out = String::new();
        event(&mut out, "message", Some("m-1"), "{\n}");
        assert_eq!(out, "id: m-1\nevent: message\ndata: {\ndata: }\n\n");
    }
}
