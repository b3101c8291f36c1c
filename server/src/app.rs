//! The server as a whole: its state, its router, and how it begins and ends.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::serve::ListenerExt;
use run_agent_core::{Durability, Kind};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::audit::{self, Audit};
use crate::document::document;
use crate::error::{Code, Refused};
use crate::guard::{self, Guard};
use crate::live::Live;
use crate::logs::Logs;
use crate::metrics::{self, Metrics};
use crate::{routes, webhook};

/// Threads that answer requests.
const WORKERS: usize = 2;
/// So long a request waits for a turn.
const TURN: std::time::Duration = std::time::Duration::from_secs(10);
/// Looks into the past and searches that go on at once.
const READS: usize = 4;
/// Commands that run at once.
const COMMANDS: usize = 16;
/// At the end clients get so long to take what they are told: one that takes nothing holds up nobody.
const LAST_ANSWERS: std::time::Duration = std::time::Duration::from_millis(700);
/// What still waits for a disk or a lock at the end gets so long.
const LAST_REQUESTS: std::time::Duration = std::time::Duration::from_millis(250);

/// What the operator set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Hosts that may stand in `Host` and `Origin`, besides the loopback ones.
    pub allowed_hosts: Vec<String>,
    pub api_key: Option<String>,
    pub allow_delete_from_ui: bool,
    pub durability: Durability,
    /// The types of events that are posted to the webhook; `None`: there is no webhook.
    pub webhook: Option<Vec<Kind>>,
    /// The program's version, as it is told.
    pub version: String,
}

#[derive(Debug)]
pub struct App {
    pub live: Arc<Live>,
    pub settings: Settings,
    pub began: Instant,
    pub(crate) audit: Audit,
    pub(crate) metrics: Metrics,
    /// What describes all paths.
    pub(crate) document: String,
    /// Turns to read much.
    reads: Arc<Semaphore>,
    /// Turns to read pieces of streams.
    pub(crate) pieces: Arc<Semaphore>,
    /// Turns to run commands.
    pub(crate) commands: Arc<Semaphore>,
    /// True once the server ends: whatever streams ends then.
    pub(crate) ends: watch::Sender<bool>,
    pub(crate) logs: Logs,
}

impl App {
    #[must_use]
    pub fn new(live: Arc<Live>, settings: Settings) -> Arc<Self> {
        let logs = Logs::new(&live);
        let audit = Audit::new(live.layout.audit_log());
        Arc::new(Self {
            live,
            audit,
            metrics: Metrics::default(),
            document: document(),
            settings,
            began: Instant::now(),
            reads: Arc::new(Semaphore::new(READS)),
            pieces: Arc::new(Semaphore::new(READS)),
            commands: Arc::new(Semaphore::new(COMMANDS)),
            ends: watch::Sender::new(false),
            logs,
        })
    }
}

impl App {
    /// Waits for a turn to read much.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let busy = || Refused::new(Code::TooManyRequests, "too many look into the past at once; ask again");
        let turn = tokio::time::timeout(TURN, self.reads.clone().acquire_owned()).await;
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }
}

/// All paths, behind the guard.
pub fn router(app: &Arc<App>) -> Router {
    let (router, _) = routes::all().split_for_parts();
    let guard = Guard::new(&app.settings);
    router
        .fallback(routes::nothing_here)
        .method_not_allowed_fallback(routes::not_so)
        .layer(DefaultBodyLimit::max(guard::BODY_MAX))
        .layer(middleware::from_fn_with_state(app.clone(), audit::log))
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::check))
        .layer(middleware::from_fn_with_state(app.clone(), metrics::count))
        .with_state(app.clone())
}

/// Serves until `ends` is there, then lets requests that are under way come to their end, within bounds; streams end at
/// once.
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
    // An event that is held back until the one before it was acknowledged comes tens of milliseconds late.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let mut ended = app.ends.subscribe();
    tokio::select! {
        served = axum::serve(listener, router).with_graceful_shutdown(graceful) => served,
        () = async {
            let _ = ended.wait_for(|ends| *ends).await;
            tokio::time::sleep(LAST_ANSWERS).await;
        } => Ok(()),
    }
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
        if let Some(kinds) = &app.settings.webhook {
            tokio::spawn(webhook::run(app.clone(), kinds.clone()));
        }
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
