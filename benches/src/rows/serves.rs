//! `serve` on a large root: how soon it answers, what an answer takes, and what it takes while nobody asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use run_agent_benches::story;
use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::{Durability, Store};
use run_agent_store_fs::FsStore;
use run_agent_store_segmented::SegmentedStore;

use crate::load::{self, Answered, Ask};
use crate::row::{Reach, Round, Row};
use crate::scratch::{Backend, Bench};
use crate::served::{Server, make_root};

/// Runs of each task.
const RUNS: u32 = 10;
/// What is asked first.
const FIRST: &str = "/api/projects/story/tasks";
/// Every list, with the greatest number of rows that it gives unasked.
const LISTS: [&str; 7] = [
    "/api/projects",
    "/api/projects/story/stats",
    FIRST,
    "/api/projects/story/runs/flat",
    "/api/v1/tasks",
    "/api/v1/runs",
    "/api/v1/status",
];

pub(crate) fn serve(bench: &Bench) -> Result<Vec<Row>> {
    // What is to be reached is said of this size.
    let tasks = 10_000;
    let mut rows = Vec::new();
    let mut roots = Vec::new();
    for backend in Backend::BOTH {
        let root = bench.beside().join(format!("serve-{}", backend.word()));
        make(&root, backend, tasks)?;
        let rounds = (0..bench.rounds()).map(|_| round(bench, &root)).collect::<Result<Vec<_>>>()?;
        rows.extend(shown(&format!("{}, {tasks} tasks", backend.word()), &rounds));
        roots.push((backend, root));
    }
    rows.extend(idle(bench, &roots)?);
    for (_, root) in roots {
        std::fs::remove_dir_all(root)?;
    }
    Ok(rows)
}

/// A root of tasks that each ran some agents. What a list looks at of a task's newest run, its output, is there.
fn make(root: &Path, backend: Backend, tasks: usize) -> Result<()> {
    make_root(root, backend)?;
    let layout = Layout::new(root.to_owned());
    let options = Options::default();
    let store: Arc<dyn Store> = match backend {
        Backend::Fs => Arc::new(FsStore::new(layout.clone(), options)),
        Backend::Segmented => Arc::new(SegmentedStore::new(layout.clone(), options)),
    };
    for n in 0..tasks {
        let key = story::key(n)?;
        let Some(task) = &key.task else { continue };
        let run = layout.task(&key.project, task).run(&story::run(n, RUNS)?);
        let output = run.output();
        if let Some(folder) = output.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(output, "The token stands in the URL.\n")?;
        store.open(&key)?.append(story::drafts(&key, n, RUNS)?, Durability::None)?;
    }
    Ok(())
}

/// What one round measured, each with what the floor gave.
#[derive(Debug)]
struct Measured {
    without_ms: Round,
    with_ms: Round,
    /// For each of the lists: p99, and processor time a request.
    lists_ms: Vec<(Round, Round)>,
    /// After everything was folded from its streams, and after it was taken from projections; then at the most.
    memory_mb: [Round; 3],
}

fn round(bench: &Bench, root: &Path) -> Result<Measured> {
    let projections = Layout::new(root.to_owned()).projections();
    if projections.exists() {
        std::fs::remove_dir_all(projections)?;
    }
    let (server, without) = first_list(bench, root)?;
    for path in LISTS {
        ask(bench, &server, path, 1)?;
    }
    let folded = server.memory_mb()?[0];
    server.end()?;
    let walked = walk(root)?;

    let (server, with) = first_list(bench, root)?;
    let bare = Server::bare(bench)?;
    ask(bench, &bare, "/sized?bytes=1", 1)?;
    let answers = bare.began.elapsed();
    let mut lists_ms = Vec::new();
    for path in LISTS {
        let (ours, cpu) = ask_many(bench, &server, path)?;
        let (floor, bare_cpu) = ask_many(bench, &bare, &format!("/sized?bytes={}", ours.bytes))?;
        lists_ms.push(((ours.p99_ms, floor.p99_ms), (cpu, bare_cpu)));
    }
    let ([now, peak], [bare_now, bare_peak]) = (server.memory_mb()?, bare.memory_mb()?);
    server.end()?;
    Ok(Measured {
        without_ms: (milliseconds(without), milliseconds(walked)),
        with_ms: (milliseconds(with), milliseconds(answers)),
        lists_ms,
        memory_mb: [(folded, bare_now), (now, bare_now), (peak, bare_peak)],
    })
}

fn shown(root: &str, rounds: &[Measured]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |what: &str, unit, reach, of: &dyn Fn(&Measured) -> Round| {
        rows.push(Row::new(format!("{root}: {what}"), unit, reach, rounds.iter().map(of).collect()));
    };
    add("start to the first list", "ms", Reach::AtMost(1000.0), &|round| round.with_ms);
    add("start without projections", "ms", Reach::AtMost(10_000.0), &|round| round.without_ms);
    for (at, path) in LISTS.iter().enumerate() {
        add(&format!("GET {path}: p99"), "ms", Reach::AtMost(25.0), &|round| round.lists_ms[at].0);
        let cpu = format!("GET {path}: processor time");
        add(&cpu, "ms", Reach::AtMost(5.0), &|round| round.lists_ms[at].1);
    }
    add("memory after the lists", "MB", Reach::AtMost(120.0), &|round| round.memory_mb[1]);
    add("the same, without projections", "MB", Reach::AtMost(120.0), &|round| round.memory_mb[0]);
    add("memory at the most", "MB", Reach::Ratio, &|round| round.memory_mb[2]);
    rows
}

/// The server, and the time from before its start until it gave the first list.
fn first_list(bench: &Bench, root: &Path) -> Result<(Server, Duration)> {
    let server = Server::start(bench, root)?;
    server.get(FIRST)?;
    let took = server.began.elapsed();
    Ok((server, took))
}

fn ask(bench: &Bench, server: &Server, path: &str, most: usize) -> Result<Answered> {
    let (address, path) = (server.address.clone(), path.to_owned());
    let window = Duration::from_secs(60);
    load::ask(bench, &Ask { address, path, body: None, connections: 1, most, window })
}

/// Also the milliseconds of the server's processor time that a request took.
fn ask_many(bench: &Bench, server: &Server, path: &str) -> Result<(Answered, f64)> {
    let before = server.cpu()?;
    let answered = ask(bench, server, path, bench.pick(300, 100))?;
    let cpu = milliseconds(server.cpu()?.saturating_sub(before)) / answered.all_requests as f64;
    Ok((answered, cpu))
}

/// The floor of a start without projections: every file below the project is opened and read once.
fn walk(root: &Path) -> Result<Duration> {
    let began = Instant::now();
    let mut folders = vec![root.join(story::PROJECT)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => drop(std::fs::read(entry.path())?),
            }
        }
    }
    Ok(began.elapsed())
}

/// All of them at once, while nobody asks: percent of one processor.
fn idle(bench: &Bench, roots: &[(Backend, PathBuf)]) -> Result<Vec<Row>> {
    // All streams are looked at every half minute: a shorter window would miss that.
    let window = Duration::from_secs(bench.pick(60, 30));
    let bare = Server::bare(bench)?;
    let mut servers = Vec::new();
    for (_, root) in roots {
        servers.push(first_list(bench, root)?.0);
    }
    // What a start leaves to be done is done.
    std::thread::sleep(Duration::from_secs(bench.pick(10, 5)));
    let mut rounds = vec![Vec::new(); servers.len()];
    for _ in 0..bench.rounds() {
        let look = || servers.iter().chain([&bare]).map(Server::cpu).collect::<Result<Vec<_>>>();
        let before = look()?;
        std::thread::sleep(window);
        let took = look()?.into_iter().zip(before).map(|(now, before)| now.saturating_sub(before));
        let percent: Vec<f64> = took.map(|cpu| cpu.div_duration_f64(window) * 100.0).collect();
        for (at, rounds) in rounds.iter_mut().enumerate() {
            rounds.push((percent[at], percent[servers.len()]));
        }
    }
    for server in servers {
        server.end()?;
    }
    let row = |((backend, _), rounds): (&(Backend, PathBuf), Vec<Round>)| {
        let what = format!("{}: processor over {} s while nobody asks", backend.word(), window.as_secs());
        Row::new(what, "%", Reach::AtMost(0.2), rounds)
    };
    Ok(roots.iter().zip(rounds).map(row).collect())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
