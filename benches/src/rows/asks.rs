//! A message posted over HTTP, as often as it goes, beside a bare server that takes it and forgets it.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::load::{self, Answered, Ask};
use crate::row::{Reach, Row};
use crate::scratch::{Backend, Bench, TASK, body};
use crate::served::{Server, make_root};
use crate::side_by_side::pairs;

const PROJECT: &str = "http";

pub(crate) fn posts(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for backend in Backend::BOTH {
        for connections in [1, 10] {
            let pairs = post(bench, backend, connections)?;
            let noun = if connections == 1 { "connection" } else { "connections" };
            let name = |what| format!("{}: POST over {connections} {noun}: {what}", backend.word());
            let of = |number: fn(&Answered) -> f64| {
                pairs.iter().map(|(ours, floor)| (number(ours), number(floor))).collect()
            };
            let rate = of(|answered| answered.per_second);
            rows.push(Row::new(name("requests"), "/s", Reach::RatioAtLeast(0.25), rate));
            rows.push(Row::new(name("p99"), "ms", Reach::Ratio, of(|answered| answered.p99_ms)));
        }
    }
    Ok(rows)
}

fn post(bench: &Bench, backend: Backend, connections: usize) -> Result<Vec<(Answered, Answered)>> {
    let root = bench.beside().join("served");
    make_root(&root, backend)?;
    Bench::stream_in(&root, backend, PROJECT, 1, None)?;
    let (ours, bare) = (Server::start(bench, &root)?, Server::bare(bench)?);
    let ask = |server: &Server, path: &str| {
        let body = json!({ "type": "FACT", "body": body() }).to_string();
        let window = Duration::from_millis(bench.pick(2000, 500));
        let (address, path) = (server.address.clone(), path.to_owned());
        load::ask(bench, &Ask { address, path, body: Some(body), connections, most: usize::MAX, window })
    };
    let path = format!("/api/projects/{PROJECT}/tasks/{TASK}/messages");
    let pairs = pairs(bench.rounds(), || ask(&ours, &path), || ask(&bare, "/hello"))?;
    ours.end()?;
    std::fs::remove_dir_all(&root)?;
    Ok(pairs)
}
