//! The driver started by itself as those who ask a server: many connections, each with one request after the other, or
//! many that listen while one posts. What it measures it hands back as a line of JSON.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use run_agent_core::layout::Layout;
use run_agent_core::{Draft, Durability, Stream};
use run_agent_store_shared::doorbell::{Ringer, counter_of};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::http::{Connection, request};
use crate::scratch::{Backend, Bench, TASK, body, draft, open};
use crate::served::Server;

/// The first argument of a driver that asks.
pub(crate) const VERB: &str = "load";
/// Requests of one connection that belong to no measurement.
const WARM: usize = 20;
/// Posts that belong to no measurement of time.
const FIRST_POSTS: usize = 10;
/// How long after the last post everybody may still hear of it.
const LATE: Duration = Duration::from_secs(10);
/// What stands before the number of a post.
const MARK: &str = "post ";

/// What the load is told, as its argument.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    Ask(Ask),
    Listen(Listen),
}

/// One request again and again, on each connection as fast as it is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) address: String,
    pub(crate) path: String,
    /// Posted as it is.
    pub(crate) body: Option<String>,
    pub(crate) connections: usize,
    /// Requests of a connection, and its time, at the most.
    pub(crate) most: usize,
    pub(crate) window: Duration,
}

/// What was answered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answered {
    /// Also those that belong to no measurement of time.
    pub(crate) all_requests: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Of the last answer's body.
    pub(crate) bytes: usize,
}

/// Many who listen to one stream, while a post follows the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Listen {
    pub(crate) address: String,
    pub(crate) path: String,
    /// Behind which message they begin.
    pub(crate) last: Option<String>,
    pub(crate) clients: usize,
    pub(crate) posts: usize,
    pub(crate) per_second: u32,
    pub(crate) to: To,
}

/// Where posts go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum To {
    Store { root: PathBuf, backend: Backend, project: String },
    Lines(PathBuf),
}

/// What was heard.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Heard {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Posts that some client did not hear, summed over the clients …
    pub(crate) lost: usize,
    /// … and those that it heard twice, or not in order.
    pub(crate) doubled: usize,
}

pub(crate) fn ask(bench: &Bench, order: &Ask) -> Result<Answered> {
    start(bench, &Order::Ask(order.clone()))
}

pub(crate) fn listen(bench: &Bench, order: &Listen) -> Result<Heard> {
    start(bench, &Order::Listen(order.clone()))
}

fn start<T: for<'a> Deserialize<'a>>(bench: &Bench, order: &Order) -> Result<T> {
    let mut command = bench.program("run-agent-bench");
    command.args([VERB, &serde_json::to_string(order)?]).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let output = command.output().context("cannot start the load")?;
    ensure!(output.status.success(), "the load failed");
    serde_json::from_slice(&output.stdout).context("cannot read what the load measured")
}

pub(crate) fn run(order: &str) -> Result<()> {
    let order: Order = serde_json::from_str(order).context("cannot read the order")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let line = runtime.block_on(async {
        Ok::<_, anyhow::Error>(match order {
            Order::Ask(order) => serde_json::to_string(&ask_all(order).await?)?,
            Order::Listen(order) => serde_json::to_string(&listen_all(order).await?)?,
        })
    })?;
    println!("{line}");
    Ok(())
}

async fn ask_all(order: Ask) -> Result<Answered> {
    let asked = request(&order.address, &order.path, "", order.body.as_deref());
    let mut connections = Vec::new();
    for _ in 0..order.connections {
        let mut connection = Connection::open(&order.address).await?;
        for _ in 0..WARM.min(order.most) {
            connection.ask(&asked).await?;
        }
        connections.push(connection);
    }
    let (asked, began) = (Arc::new(asked), Instant::now());
    let mut all = JoinSet::new();
    for mut connection in connections {
        let asked = asked.clone();
        all.spawn(async move {
            let (mut each_ms, mut bytes) = (Vec::new(), 0);
            while each_ms.len() < order.most && began.elapsed() < order.window {
                let sent = Instant::now();
                bytes = connection.ask(&asked).await?;
                each_ms.push(milliseconds(sent.elapsed()));
            }
            Ok::<_, anyhow::Error>((each_ms, bytes))
        });
    }
    let (mut each_ms, mut bytes) = (Vec::new(), 0);
    while let Some(done) = all.join_next().await {
        let (mut some, last) = done??;
        each_ms.append(&mut some);
        bytes = last;
    }
    let per_second = each_ms.len() as f64 / began.elapsed().as_secs_f64();
    let [p50_ms, p99_ms] = percentiles(&mut each_ms)?;
    let all_requests = each_ms.len() + order.connections * WARM.min(order.most);
    Ok(Answered { all_requests, per_second, p50_ms, p99_ms, bytes })
}

async fn listen_all(order: Listen) -> Result<Heard> {
    let last = order.last.as_ref().map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let asked = request(&order.address, &order.path, &last, None);
    let mut connections = Vec::new();
    for _ in 0..order.clients {
        let mut connection = Connection::open(&order.address).await?;
        connection.begin(&asked).await?;
        connections.push(connection);
    }
    let sent: Arc<[AtomicU64]> = (0..order.posts).map(|_| AtomicU64::new(0)).collect();
    let began = Instant::now();
    let mut clients = JoinSet::new();
    let deadline = began + Duration::from_secs(1) * u32::try_from(order.posts)? / order.per_second + LATE;
    for connection in connections {
        clients.spawn(hear(connection, sent.clone(), began, deadline));
    }
    let poster = std::thread::spawn(move || post_all(&order, &sent, began));
    let (mut each_ms, mut lost, mut doubled) = (Vec::new(), 0, 0);
    while let Some(client) = clients.join_next().await {
        let mut client = client??;
        each_ms.append(&mut client.each_ms);
        lost += client.lost;
        doubled += client.doubled;
    }
    poster.join().map_err(|_| anyhow::anyhow!("the poster panicked"))??;
    let [p50_ms, p99_ms] = percentiles(&mut each_ms)?;
    Ok(Heard { p50_ms, p99_ms, lost, doubled })
}

/// What one client heard.
#[derive(Debug, Default)]
struct Client {
    each_ms: Vec<f64>,
    lost: usize,
    doubled: usize,
}

/// Listens until the last post is heard, or the time is up.
async fn hear(
    mut connection: Connection,
    sent: Arc<[AtomicU64]>,
    began: Instant,
    deadline: Instant,
) -> Result<Client> {
    let (mut client, mut heard) = (Client::default(), vec![false; sent.len()]);
    let mut next = 0;
    while next < sent.len() {
        let Ok(data) = tokio::time::timeout_at(deadline.into(), connection.data()).await else { break };
        let Some(number) = data?.split_once(MARK).and_then(|(_, rest)| rest.split(' ').next()) else {
            continue;
        };
        let number: usize = number.parse()?;
        let took = began.elapsed().saturating_sub(Duration::from_nanos(sent[number].load(Relaxed)));
        if number < next || std::mem::replace(&mut heard[number], true) {
            client.doubled += 1;
        }
        next = next.max(number + 1);
        if number >= FIRST_POSTS {
            client.each_ms.push(milliseconds(took));
        }
    }
    client.lost = heard.iter().filter(|heard| !**heard).count();
    Ok(client)
}

/// Posts on a clock, and notes before each when it was.
fn post_all(order: &Listen, sent: &[AtomicU64], began: Instant) -> Result<()> {
    let mut poster = Poster::new(&order.to)?;
    for (n, noted) in sent.iter().enumerate() {
        let due = began + Duration::from_secs(1) * u32::try_from(n)? / order.per_second;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        noted.store(u64::try_from(began.elapsed().as_nanos())?, Relaxed);
        poster.post(&format!("{MARK}{n} {}", body()))?;
    }
    Ok(())
}

enum Poster {
    Store { stream: Arc<dyn Stream>, draft: Box<Draft>, ringer: Ringer, counter: usize },
    Lines(std::os::unix::net::UnixStream),
}

impl Poster {
    fn new(to: &To) -> Result<Self> {
        Ok(match to {
            To::Lines(path) => Self::Lines(Server::connect(path)?),
            To::Store { root, backend, project } => {
                let stream = open(root, *backend, project, None)?;
                let draft = Box::new(draft(stream.key()));
                let ringer = Ringer::new(Layout::new(root.clone()).doorbell());
                Self::Store { stream, draft, ringer, counter: counter_of(project, TASK) }
            }
        })
    }

    /// As the program posts: what is appended is rung for.
    fn post(&mut self, text: &str) -> Result<()> {
        match self {
            Self::Lines(lines) => lines.write_all(format!("{text}\n").as_bytes())?,
            Self::Store { stream, draft, ringer, counter } => {
                text.clone_into(&mut draft.body);
                stream.append(vec![(**draft).clone()], Durability::None)?;
                ringer.ring(*counter);
            }
        }
        Ok(())
    }
}

fn percentiles(each_ms: &mut [f64]) -> Result<[f64; 2]> {
    ensure!(!each_ms.is_empty(), "nothing was measured");
    each_ms.sort_by(f64::total_cmp);
    Ok([50, 99].map(|n| each_ms[(each_ms.len() - 1) * n / 100]))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
