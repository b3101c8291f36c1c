//! A message from before another process appends it until a client of the server has it, beside a bare server that pushes
//! a line to as many.

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::load::{self, Heard, Listen, To};
use crate::row::{Reach, Row};
use crate::scratch::{Backend, Bench, TASK};
use crate::served::{Server, make_root};
use crate::side_by_side::pairs;

const PROJECT: &str = "sse";
const PER_SECOND: u32 = 100;

pub(crate) fn events(bench: &Bench) -> Result<Vec<Row>> {
    // Each client is a descriptor of two processes, which inherit what they may have.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut rows = Vec::new();
    for backend in Backend::BOTH {
        let few = heard(bench, backend, 1, (10, bench.pick(500, 200)))?;
        let name = |what: &str| format!("{}: 10 clients: {what}", backend.word());
        rows.push(row(name("p50"), Reach::RatioAtMost(4.0), &few, |heard| heard.p50_ms));
        rows.push(row(name("p99"), Reach::RatioAtMost(4.0), &few, |heard| heard.p99_ms));
        rows.push(lost(name("lost or doubled"), &few));

        let posts = bench.pick(500, 200);
        let million = bench.pick(1_000_000, 100_000);
        for (messages, stream) in [(1, String::new()), (million, format!(", stream of {million}"))] {
            let many = heard(bench, backend, messages, (1000, posts))?;
            let name = |what: &str| format!("{}: 1000 clients{stream}: {what}", backend.word());
            rows.push(row(name("p50"), Reach::Ratio, &many, |heard| heard.p50_ms));
            rows.push(row(name("p99"), Reach::AtMost(500.0), &many, |heard| heard.p99_ms));
            rows.push(lost(name("lost or doubled"), &many));
        }
    }
    Ok(rows)
}

fn row(what: String, reach: Reach, pairs: &[(Heard, Heard)], number: fn(&Heard) -> f64) -> Row {
    Row::new(what, "ms", reach, pairs.iter().map(|(ours, floor)| (number(ours), number(floor))).collect())
}

fn lost(what: String, pairs: &[(Heard, Heard)]) -> Row {
    let count = |heard: &Heard| (heard.lost + heard.doubled) as f64;
    let rounds = pairs.iter().map(|(ours, floor)| (count(ours), count(floor))).collect();
    Row::new(what, "", Reach::AtMost(0.0), rounds)
}

fn heard(
    bench: &Bench,
    backend: Backend,
    messages: usize,
    (clients, posts): (usize, usize),
) -> Result<Vec<(Heard, Heard)>> {
    let root = bench.beside().join("served");
    make_root(&root, backend)?;
    let stream = Bench::stream_in(&root, backend, PROJECT, messages, None)?;
    let (server, bare) = (Server::start(bench, &root)?, Server::bare(bench)?);
    let lines = bare.lines.clone().context("the bare server takes no lines")?;
    let listen = |address: &str, path: &str, last, to| {
        let (address, path) = (address.to_owned(), path.to_owned());
        load::listen(bench, &Listen { address, path, last, clients, posts, per_second: PER_SECOND, to })
    };
    let path = format!("/api/projects/{PROJECT}/tasks/{TASK}/messages/stream");
    let ours = || {
        let last = stream.last(1)?.entries.pop().context("the stream is empty")?.message.id.to_string();
        let to = To::Store { root: root.clone(), backend, project: PROJECT.to_owned() };
        listen(&server.address, &path, Some(last), to)
    };
    let floor = || listen(&bare.address, "/push", None, To::Lines(lines.clone()));
    let pairs = pairs(bench.rounds(), ours, floor)?;
    server.end()?;
    std::fs::remove_dir_all(&root)?;
    Ok(pairs)
}
