//! The floor of the server: an axum server that takes a message and forgets it, answers with so many bytes, and pushes the
//! lines that come over a socket to whoever listens.

use std::convert::Infallible;
use std::io;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// As many threads as run-agent's server has.
const WORKERS: usize = 2;
/// Lines that one listener may be behind.
const BEHIND_MAX: usize = 16_384;

#[derive(Debug, Deserialize)]
struct Message {
    body: String,
}

#[derive(Debug, Serialize)]
struct Posted {
    msg_id: &'static str,
    timestamp: &'static str,
    length: usize,
}

#[derive(Debug, Deserialize)]
struct Size {
    bytes: usize,
}

async fn hello(Json(message): Json<Message>) -> (StatusCode, Json<Posted>) {
    let posted = Posted {
        msg_id: "MSG-20260101-000000-000000000-PID04711-0001",
        timestamp: "2026-01-01T00:00:00Z",
        length: message.body.len(),
    };
    (StatusCode::CREATED, Json(posted))
}

async fn sized(Query(size): Query<Size>) -> Response {
    ([(CONTENT_TYPE, "application/json")], "x".repeat(size.bytes)).into_response()
}

async fn push(
    State(lines): State<broadcast::Sender<String>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let next = |mut lines: broadcast::Receiver<String>| async move {
        loop {
            match lines.recv().await {
                Ok(line) => return Some((Ok(Event::default().data(line)), lines)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    };
    Sse::new(stream::unfold(lines.subscribe(), next))
}

async fn forward(lines: UnixListener, to: broadcast::Sender<String>) -> io::Result<()> {
    loop {
        let (from, _) = lines.accept().await?;
        let mut from = BufReader::new(from).lines();
        while let Some(line) = from.next_line().await? {
            // Nobody may listen.
            let _ = to.send(line);
        }
    }
}

fn main() -> io::Result<()> {
    let socket = std::env::args_os().nth(1).ok_or(io::ErrorKind::InvalidInput)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let lines = broadcast::Sender::new(BEHIND_MAX);
        tokio::spawn(forward(UnixListener::bind(socket)?, lines.clone()));
        let router = Router::new()
            .route("/hello", post(hello))
            .route("/sized", get(sized))
            .route("/push", get(push))
            .with_state(lines);
        println!("{{\"url\":\"http://{}\"}}", listener.local_addr()?);
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, router).await
    })
}
