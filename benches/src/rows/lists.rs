//! `list` on a root of many tasks, as a whole command.

use std::io::Read;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use run_agent_benches::story;
use run_agent_core::layout::{Layout, OWN_FOLDER};

use crate::row::{Reach, Row, median};
use crate::scratch::Bench;
use crate::side_by_side::wall;

pub(crate) fn list(bench: &Bench) -> Result<Vec<Row>> {
    let tasks = bench.pick(10_000, 1_000);
    // A root of its own: the tasks of other measurements would be listed as well.
    let root = bench.beside().join("list");
    let layout = Layout::new(root.clone());
    for n in 0..tasks {
        let key = story::key(n)?;
        let bus = layout.bus_file(&key);
        std::fs::create_dir_all(bus.parent().context("a bus file has no folder")?)?;
        std::fs::write(bus, story::bus(&key, n)?)?;
    }
    // The first command makes the tool's own folder.
    wall(&mut bench.run_agent_in(&root, &["list"]))?;
    let rounds = |forget: bool| -> Result<Vec<_>> {
        (0..bench.rounds()).map(|_| Ok((milliseconds(bench, &root, forget)?, walk(&root)?))).collect()
    };
    let (cold, warm) = (rounds(true)?, rounds(false)?);
    std::fs::remove_dir_all(&root)?;
    Ok(vec![
        Row::new(format!("{tasks} tasks, all caches deleted"), "ms", Reach::AtMost(10_000.0), cold),
        Row::new(format!("{tasks} tasks, seen before"), "ms", Reach::AtMost(1000.0), warm),
    ])
}

fn milliseconds(bench: &Bench, root: &Path, forget: bool) -> Result<f64> {
    let once = || -> Result<f64> {
        if forget {
            forget_all(root)?;
        }
        Ok(wall(&mut bench.run_agent_in(root, &["list"]))?.as_secs_f64() * 1e3)
    };
    let times = (0..3).map(|_| once()).collect::<Result<Vec<_>>>()?;
    Ok(median(times.into_iter()))
}

/// Of the tool's own folder only `store.yaml` is more than a cache.
fn forget_all(root: &Path) -> Result<()> {
    for file in std::fs::read_dir(root.join(OWN_FOLDER))? {
        let path = file?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else if !path.ends_with("store.yaml") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The floor: every bus file is opened and read once.
fn walk(root: &Path) -> Result<f64> {
    let (started, mut bytes) = (Instant::now(), Vec::new());
    let tasks = std::fs::read_dir(root.join(story::PROJECT))?;
    for task in tasks {
        bytes.clear();
        std::fs::File::open(task?.path().join("TASK-MESSAGE-BUS.md"))?.read_to_end(&mut bytes)?;
    }
    Ok(started.elapsed().as_secs_f64() * 1e3)
}
