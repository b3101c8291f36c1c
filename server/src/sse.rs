//! Streams of events to clients: written when the client can take them, and nothing is held for one that cannot.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use crate::App;

/// A quiet stream says so often that it is there.
pub(crate) const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

/// A client that could not take as much as there was is told so, and comes again with its last id.
pub(crate) const DROPPED: &str =
    "event: dropped\ndata: {\"why\":\"the client was too slow; resume with the last id\"}\n\n";

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

/// Says where the client is now, and nothing else.
pub(crate) fn id(out: &mut String, id: &str) {
    let _ = write!(out, "id: {id}\n\n");
}

/// The id with which a client says where it was.
pub(crate) fn last_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id").and_then(|value| value.to_str().ok()).filter(|id| !id.is_empty())
}

/// A client, counted while it is there.
struct Client(Arc<App>);

impl Client {
    fn new(app: &Arc<App>) -> Self {
        app.metrics.clients.fetch_add(1, Relaxed);
        Self(app.clone())
    }

    fn told(&self, text: &str) {
        let events = text.matches("\nevent: ").count() + usize::from(text.starts_with("event: "));
        self.0.metrics.streamed.fetch_add(events as u64, Relaxed);
        if text.ends_with(DROPPED) {
            self.0.metrics.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.metrics.clients.fetch_sub(1, Relaxed);
    }
}

pub(crate) fn response(app: &Arc<App>, source: impl Source) -> Response {
    let client = Client::new(app);
    let pieces = stream::unfold((source, client), |(mut source, client)| async move {
        let text = tokio::select! {
            text = source.next() => text?,
            () = tokio::time::sleep(HEARTBEAT_EVERY) => "event: heartbeat\ndata: {}\n\n".to_owned(),
        };
        client.told(&text);
        Some((Ok::<_, Infallible>(Bytes::from(text)), (source, client)))
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
