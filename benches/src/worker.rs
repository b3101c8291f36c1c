//! The driver started by itself as one of many writers: it opens its stream or floor, waits for the common start,
//! posts until the common end, and hands the time of every post back.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use run_agent_core::{Draft, Durability, Stream};
use serde::{Deserialize, Serialize};

#[cfg(feature = "databases")]
use crate::databases::{Database, Which};
use crate::scratch::{Backend, TASK, draft, open};

/// The project that a fleet posts into.
pub(crate) const PROJECT: &str = "fleet";
/// The first argument of a driver that is a worker.
pub(crate) const VERB: &str = "worker";
/// Posts of all writers of one fleet: a bound on the disk.
const POSTS_MAX: u32 = 1_000_000;

/// What is written to.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Kind {
    Store {
        backend: Backend,
        durability: Durability,
    },
    #[cfg(feature = "databases")]
    Database(Which),
    /// Lock, write as many bytes as the store's entry has, sync where that is asked for, unlock.
    Floor {
        entry_bytes: usize,
        sync: bool,
    },
}

/// What all writers of a fleet do together.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) writers: u32,
    /// Messages in a second; `None`: as many as they can.
    pub(crate) rate: Option<u32>,
    pub(crate) window: Duration,
    /// What each sync is made to take longer.
    pub(crate) slow_sync: Option<Duration>,
}

/// What a worker is told, as its argument.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) root: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) index: u32,
    /// Writers of this process.
    pub(crate) threads: usize,
    pub(crate) load: Load,
}

/// What a worker says at its end: the time from the common start on, and each post's.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Posts {
    pub(crate) took_us: f64,
    pub(crate) each_us: Vec<f64>,
}

/// Somewhere to append to.
#[derive(Debug)]
pub(crate) enum Target {
    Store {
        stream: Arc<dyn Stream>,
        draft: Draft,
        durability: Durability,
    },
    #[cfg(feature = "databases")]
    Database(Database),
    Floor {
        file: File,
        bytes: Vec<u8>,
        sync: bool,
    },
}

impl Target {
    pub(crate) fn open(kind: Kind, root: &Path, project: &str) -> Result<Self> {
        Self::open_all(kind, root, project, 1)?.pop().context("nothing was opened")
    }

    /// One for each writer of this process.
    fn open_all(kind: Kind, root: &Path, project: &str, writers: usize) -> Result<Vec<Self>> {
        let one = || match kind {
            Kind::Store { backend, durability } => {
                let stream = open(root, backend, project, None)?;
                let draft = draft(stream.key());
                Ok(Self::Store { stream, draft, durability })
            }
            #[cfg(feature = "databases")]
            Kind::Database(_) => anyhow::bail!("a database is opened once for all"),
            Kind::Floor { entry_bytes, sync } => {
                let path = root.join(project).join(TASK).join("floor");
                let file = OpenOptions::new().append(true).create(true).open(path)?;
                Ok(Self::Floor { file, bytes: vec![b'x'; entry_bytes], sync })
            }
        };
        #[cfg(feature = "databases")]
        if let Kind::Database(which) = kind {
            let all = Database::open(which, root, writers)?;
            return Ok(all.into_iter().map(Self::Database).collect());
        }
        (0..writers).map(|_| one()).collect()
    }

    pub(crate) fn post(&mut self) -> Result<()> {
        match self {
            Self::Store { stream, draft, durability } => {
                stream.append(vec![draft.clone()], *durability)?;
            }
            #[cfg(feature = "databases")]
            Self::Database(database) => database.post()?,
            Self::Floor { file, bytes, sync } => {
                file.lock()?;
                file.write_all(bytes)?;
                if *sync {
                    file.sync_data()?;
                }
                file.unlock()?;
            }
        }
        Ok(())
    }
}

pub(crate) fn run(order: &str) -> Result<()> {
    let order: Order = serde_json::from_str(order).context("cannot read the worker's order")?;
    let mut targets = Target::open_all(order.kind, &order.root, PROJECT, order.threads)?;
    // The first post opens the files; it belongs to no measurement.
    targets.iter_mut().try_for_each(Target::post)?;
    println!("ready");
    let mut line = String::new();
    if io::stdin().read_line(&mut line)? == 0 {
        return Ok(());
    }
    let start = SystemTime::UNIX_EPOCH + Duration::from_nanos(line.trim().parse()?);
    let start = Instant::now() + start.duration_since(SystemTime::now()).unwrap_or_default();
    let each_us = std::thread::scope(|scope| {
        let order = &order;
        let threads: Vec<_> =
            targets.iter_mut().map(|target| scope.spawn(move || post_all(order, target, start))).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??);
        }
        anyhow::Ok(all)
    })?;
    println!("{}", serde_json::to_string(&Posts { took_us: micros_since(start), each_us })?);
    Ok(())
}

fn post_all(order: &Order, target: &mut Target, start: Instant) -> Result<Vec<f64>> {
    let (mut each_us, load) = (Vec::new(), order.load);
    std::thread::sleep(start.saturating_duration_since(Instant::now()));
    for n in 0..POSTS_MAX / load.writers {
        let due = match load.rate {
            // A post that is late is measured from when it was due, so that a stall counts for all that it held up.
            Some(rate) => start + Duration::from_secs(1) * (n * load.writers + order.index) / rate,
            None => Instant::now(),
        };
        if due >= start + load.window {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        target.post()?;
        each_us.push(micros_since(due));
    }
    Ok(each_us)
}

fn micros_since(then: Instant) -> f64 {
    then.elapsed().as_secs_f64() * 1e6
}
