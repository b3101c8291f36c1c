//! The fold, in one process of its own: what an event costs in a small and in a large world, against decoding it, and
//! the memory of a task that idles.

use std::hint::black_box;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use run_agent_benches::story;
use run_agent_core::{Cursor, Durability, Message, Stream, World};

use crate::row::{Reach, Round, Row};
use crate::scratch::{Backend, Bench};

/// The first argument of a driver that only holds a world.
pub(crate) const VERB: &str = "world";
const PAGE: usize = 1000;

pub(crate) fn world(bench: &Bench) -> Result<Vec<Row>> {
    let small = bench.pick(10_000, 2_000);
    let mut rows = Vec::new();
    let cost =
        |events: usize| -> Result<Vec<Round>> { (0..bench.rounds()).map(|_| fold(bench, events)).collect() };
    let (first, large) = (cost(small)?, cost(small * bench.pick(100, 10))?);
    let growth = large.iter().zip(&first).map(|(large, small)| (large.0, small.0)).collect();
    let rate = first.iter().map(|(apply, decode)| (1e9 / apply, 1e9 / decode)).collect();
    rows.push(Row::new(
        format!("{small} events, against decoding them"),
        "/s",
        Reach::RatioAtLeast(3.0),
        rate,
    ));
    let what = format!("an event among {}, against {small}", small * bench.pick(100, 10));
    rows.push(Row::new(what, "ns", Reach::RatioAtMost(1.5), growth));

    let tasks = bench.pick(100_000, 20_000);
    let memory = (0..bench.rounds()).map(|_| idle(bench, tasks)).collect::<Result<_>>()?;
    rows.push(Row::new(format!("an idle task, of {tasks}"), "B", Reach::AtMost(2048.0), memory));
    Ok(rows)
}

/// Nanoseconds to apply an event of tasks that each made some runs, and to read it from a segmented stream.
fn fold(bench: &Bench, events: usize) -> Result<Round> {
    let tasks = events.div_ceil(story::EVENTS);
    let keys = (0..tasks).map(story::key).collect::<Result<Vec<_>>>()?;
    let stream = bench.stream(Backend::Segmented, "replay", 0, None)?;
    for some in (0..tasks).collect::<Vec<_>>().chunks(PAGE / story::EVENTS) {
        let mut batch = Vec::new();
        for n in some {
            batch.extend(story::messages(&keys[*n], *n)?.into_iter().map(|message| message.content));
        }
        stream.append(batch, Durability::None)?;
    }
    let started = Instant::now();
    let messages = read_all(stream.as_ref())?;
    let decode = started.elapsed();
    let (mut world, started) = (World::new(), Instant::now());
    for (message, at) in messages.iter().zip(0..) {
        black_box(world.apply(&keys[at / story::EVENTS], Cursor::new((at % story::EVENTS) as u64), message));
    }
    let apply = started.elapsed();
    black_box(&world);
    let count = tasks * story::EVENTS;
    ensure!(messages.len() == count, "{} events were read of {count}", messages.len());
    Ok((apply.as_nanos() as f64 / count as f64, decode.as_nanos() as f64 / count as f64))
}

fn read_all(stream: &dyn Stream) -> Result<Vec<Message>> {
    let (mut from, mut messages) = (Cursor::START, Vec::new());
    loop {
        let page = stream.read(from, PAGE)?;
        if page.next == from {
            return Ok(messages);
        }
        messages.extend(page.entries.into_iter().map(|entry| entry.message));
        from = page.next;
    }
}

/// Bytes of resident memory that a task takes: of one that was made and has run once. There is no floor.
fn idle(bench: &Bench, tasks: usize) -> Result<Round> {
    let mut holder = bench.program("run-agent-bench");
    holder.args([VERB, &tasks.to_string()]).stdout(Stdio::piped());
    let output = holder.output().context("cannot start the driver")?;
    ensure!(output.status.success(), "the driver that holds a world failed");
    Ok((String::from_utf8(output.stdout)?.trim().parse()?, f64::NAN))
}

pub(crate) fn hold(tasks: &str) -> Result<()> {
    let tasks: usize = tasks.parse()?;
    let mut world = World::new();
    // The first task brings in what all share.
    add(&mut world, 0)?;
    let before = resident()?;
    for n in 1..=tasks {
        add(&mut world, n)?;
    }
    println!("{}", (resident()? - before) / tasks as f64);
    black_box(&world);
    Ok(())
}

fn add(world: &mut World, n: usize) -> Result<()> {
    let key = story::key(n)?;
    for (at, message) in story::messages(&key, n)?.into_iter().enumerate() {
        world.apply(&key, Cursor::new(at as u64), &message);
    }
    Ok(())
}

/// Of this process, in bytes.
fn resident() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS is told")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0)
}
