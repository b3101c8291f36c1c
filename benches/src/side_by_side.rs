//! Two things measured in turns, so that what slows the machine for a moment slows both.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::row::{Round, median};

/// Takes `count` pairs. Who goes first changes from pair to pair: the second finds the caches as the first left them.
pub(crate) fn pairs<T>(
    count: usize,
    mut ours: impl FnMut() -> Result<T>,
    mut floor: impl FnMut() -> Result<T>,
) -> Result<Vec<(T, T)>> {
    let pair = |n: usize| {
        let early = if n.is_multiple_of(2) { Some(ours()?) } else { None };
        let floor = floor()?;
        let ours = early.map_or_else(&mut ours, Ok)?;
        Ok((ours, floor))
    };
    (0..count).map(pair).collect()
}

/// One round: the medians of `count` pairs, in microseconds.
pub(crate) fn medians(
    count: usize,
    ours: impl FnMut() -> Result<Duration>,
    floor: impl FnMut() -> Result<Duration>,
) -> Result<Round> {
    let pairs = pairs(count, ours, floor)?;
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    Ok((median(pairs.iter().map(|pair| micros(pair.0))), median(pairs.iter().map(|pair| micros(pair.1)))))
}

/// The time from before a process is started until it was waited for.
pub(crate) fn wall(command: &mut Command) -> Result<Duration> {
    let started = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    let wall = started.elapsed();
    ensure!(status.success(), "{command:?}: {status}");
    Ok(wall)
}
