//! The server as a whole: its state, its router, and how it begins and ends.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use run_agent_core::Durability;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::guard::{self, Guard};
use crate::live::Live;
use crate::routes;

/// Threads that answer requests.
const WORKERS: usize = 2;
/// What still waits for a disk or a lock at the end gets so long.
const LAST_REQUESTS: std::time::Duration = std::time::Duration::from_secs(1);

/// What the operator set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Hosts that may stand in `Host` and `Origin`, besides the loopback ones.
    pub allowed_hosts: Vec<String>,
    pub api_key: Option<String>,
    pub allow_delete_from_ui: bool,
    pub durability: Durability,
    /// The program's version, as it is told.
    pub version: String,
}

#[derive(Debug)]
pub struct App {
    pub live: Arc<Live>,
    pub settings: Settings,
    pub began: Instant,
    /// True once the server ends: whatever streams ends then.
    pub(crate) ends: watch::Sender<bool>,
}

impl App {
    #[must_use]
    pub fn new(live: Arc<Live>, settings: Settings) -> Arc<Self> {
        Arc::new(Self { live, settings, began: Instant::now(), ends: watch::Sender::new(false) })
    }
}

/// All paths, behind the guard.
pub fn router(app: &Arc<App>) -> Router {
    let (router, document) = routes::all().split_for_parts();
    let guard = Guard::new(&app.settings);
    router
        .merge(routes::document(document))
        .fallback(routes::nothing_here)
        .method_not_allowed_fallback(routes::not_so)
        .layer(DefaultBodyLimit::max(guard::BODY_MAX))
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::check))
        .with_state(app.clone())
}

/// Serves until `ends` is there, then lets requests that are under way come to their end; streams end at once.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    ends: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = router(&app);
    let told = app.clone();
    let graceful = async move {
        ends.await;
        told.ends.send_replace(true);
    };
    axum::serve(listener, router).with_graceful_shutdown(graceful).await
}

/// Serves until SIGTERM or SIGINT, with threads of its own. `listens` is called when both it and its end are prepared.
///
/// # Errors
/// When threads or the listener fail.
pub fn run(
    listener: std::net::TcpListener,
    app: &Arc<App>,
    listens: impl FnOnce() -> std::io::Result<()>,
) -> std::io::Result<()> {
    let live = app.live.clone();
    let follower = std::thread::Builder::new().name("follow".to_owned()).spawn(move || live.follow())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let served = runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let mut terminated = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        listens()?;
        let ends = async move {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted.recv() => {}
            }
        };
        serve(listener, app.clone(), ends).await
    });
    app.live.stop();
    // It writes down what is known.
    let _ = follower.join();
    runtime.shutdown_timeout(LAST_REQUESTS);
    served
}
