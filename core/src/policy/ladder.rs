//! The stop ladder: ask, wait, make sure. One pure table for every way in which a set of processes is ended: a stop, a
//! time limit, what an agent left running, what a lost supervisor left behind. Who climbs it only scans, signals and
//! sleeps as it says.
//!
//! | found | rung | time | next |
//! | --- | --- | --- | --- |
//! | nothing | any | any | [`Action::Done`] |
//! | some | ground | before `alone` | [`Action::Wait`] |
//! | some | ground | after, with a grace period | [`Action::Ask`] |
//! | some | ground | after, with none | [`Action::Kill`] |
//! | some | asked | less than `grace` since they were | [`Action::Wait`] |
//! | some | asked | after | [`Action::Kill`] |
//! | some | killed | less than [`KILL_AGAIN_MS`] since | [`Action::Wait`] |
//! | some | killed | after | [`Action::Kill`] |
//! | some | killed | more than [`LAST_RUNG_MS`] after the first time | [`Action::GiveUp`] |
//!
//! The grace period counts from the moment in which the set was asked, not from that of the request: one who is late,
//! because its machine slept or its predecessor was killed, still gives all of it.

/// How much patience a set of processes gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// To end by itself before it is asked.
    pub alone_ms: u64,
    /// After it was asked; with none it is not asked.
    pub grace_ms: u64,
}

/// The highest rung that was climbed. Times are on the clock of [`Look::now_ms`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rung {
    #[default]
    Ground,
    Asked {
        at_ms: u64,
    },
    Killed {
        first_ms: u64,
        last_ms: u64,
    },
}

/// What is known at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Since the climb began, on a clock of the climber's that does not go back.
    pub now_ms: u64,
    pub patience: Patience,
    /// How many processes of the set a scan found just now.
    pub found: usize,
    pub rung: Rung,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// SIGTERM to what was found; then the rung is [`Rung::asked`].
    Ask,
    /// Look again after so long, or sooner.
    Wait { ms: u64 },
    /// SIGSTOP, then SIGKILL, to what was found; then the rung is [`Rung::killed`].
    Kill,
    /// Nothing is left.
    Done,
    /// What was found hangs in the kernel: report it.
    GiveUp,
}

/// How long after a kill what is left is killed again: it was started in between, or may not be dead yet.
pub const KILL_AGAIN_MS: u64 = 100;

/// How long the last rung is climbed before what is left is reported.
pub const LAST_RUNG_MS: u64 = 20_000;

/// Between two looks of a wait.
const SHORTEST_NAP_MS: u64 = 2;
const LONGEST_NAP_MS: u64 = 250;

/// The table.
#[must_use]
pub fn next(look: Look) -> Action {
    let Look { now_ms, patience, found, rung } = look;
    if found == 0 {
        return Action::Done;
    }
    match rung {
        Rung::Ground if now_ms < patience.alone_ms => wait(now_ms, 0, patience.alone_ms),
        Rung::Ground if patience.grace_ms > 0 => Action::Ask,
        Rung::Ground => Action::Kill,
        Rung::Asked { at_ms } if now_ms.saturating_sub(at_ms) < patience.grace_ms => {
            wait(now_ms, at_ms, patience.grace_ms)
        }
        Rung::Asked { .. } => Action::Kill,
        Rung::Killed { first_ms, .. } if now_ms.saturating_sub(first_ms) > LAST_RUNG_MS => Action::GiveUp,
        Rung::Killed { last_ms, .. } if now_ms.saturating_sub(last_ms) < KILL_AGAIN_MS => {
            wait(now_ms, last_ms, KILL_AGAIN_MS)
        }
        Rung::Killed { .. } => Action::Kill,
    }
}

/// Ever more rarely: as long again as the wait has lasted, and never beyond its end.
fn wait(now_ms: u64, since_ms: u64, limit_ms: u64) -> Action {
    let waited = now_ms.saturating_sub(since_ms);
    let nap = waited.clamp(SHORTEST_NAP_MS, LONGEST_NAP_MS);
    Action::Wait { ms: nap.min(limit_ms.saturating_sub(waited)).max(1) }
}

impl Rung {
    /// After [`Action::Ask`].
    #[must_use]
    pub fn asked(now_ms: u64) -> Self {
        Self::Asked { at_ms: now_ms }
    }

    /// After [`Action::Kill`].
    #[must_use]
    pub fn killed(self, now_ms: u64) -> Self {
        match self {
            Self::Ground | Self::Asked { .. } => Self::Killed { first_ms: now_ms, last_ms: now_ms },
            Self::Killed { first_ms, .. } => Self::Killed { first_ms, last_ms: now_ms },
        }
    }
}

#[cfg(test)]
mod tests;
