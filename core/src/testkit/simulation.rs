//! The simulation: loops, slots and supervision driven by [`crate::plan`], [`crate::decide`], [`crate::policy`] and
//! [`crate::world`] against a simulated machine on a fake clock (`docs/testing.md`). Those four are the real ones; processes,
//! locks, folders, people and time are simulated, a step of `docs/supervision.md` a turn.
//!
//! A schedule is a tape of choices, written from a seed ([`Choices`]). [`play`] plays one and tells the first invariant that
//! it broke ([`invariants`]); a tape that broke one is made shorter and lower for as long as it breaks the same. No clock
//! is read, no thread started, nothing written.

mod agent;
mod choices;
mod close;
mod command;
mod driver;
pub mod invariants;
mod ledger;
mod scene;
mod schedule;
mod shrink;
mod silence;
mod sim;
mod slots;
mod starter;
mod stop;
mod story;
mod supervisor;

use std::collections::BTreeMap;
use std::fmt;

pub use choices::Choices;

/// A rule of the model that is broken on purpose, to see that an invariant catches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rule {
    /// Everybody does as they should.
    #[default]
    AllKept,
    /// Whoever closes a run posts its end without asking whether it has one.
    ClosersDoNotAsk,
    /// A starter makes two supervisors, and each lets an agent go.
    RunsAreStartedTwice,
    /// A driver does not look whether a root run is active.
    RootsAreDoubled,
    DriversNeedNoLock,
    SlotsHaveNoLimit,
    /// A run keeps its slot while its command blocks.
    WaitersKeepTheirSlots,
    SupervisorsIgnoreStops,
    /// Runs are intended in what is being stopped.
    StarterIgnoresStops,
    ObserversMissEntries,
    /// DONE completes a loop whose children are active.
    ChildrenAreForgotten,
    RestartsAreMiscounted,
    ForeignRunsAreClosed,
    /// Limits go by the wall clock.
    SleepCounts,
    /// A supervisor does not see what its agent uses of the CPU.
    CpuIsNotSeen,
    FactsAreToldAgain,
    /// A run is asked to stop without a look whether it has ended.
    TheEndedAreAsked,
    /// A stop passes over whoever is about to start a loop.
    StopsMissStarts,
}

/// The first invariant that a story broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub invariant: &'static str,
    pub what: String,
}

/// What stories amounted to.
#[derive(Debug, Clone, Default)]
pub struct Told {
    pub actions: u64,
    pub runs: u64,
    /// Levels of runs below a root run, at the most.
    pub deepest: u32,
    /// How often each type of event was posted, and each way in which a loop or run ended, as `LOOP_END exhausted`.
    pub events: BTreeMap<String, u64>,
}

impl Told {
    fn of(sim: &sim::Sim) -> Self {
        let mut told = Self { actions: sim.actions, runs: sim.runs.len() as u64, ..Self::default() };
        for entry in sim.streams.values().flatten() {
            let kind = entry.message.content.kind.to_string();
            let reason = entry.message.content.meta.get("reason").filter(|_| kind.ends_with("_END"));
            told.count(reason.map_or_else(|| kind.clone(), |reason| format!("{kind} {reason}")), 1);
        }
        let runs = sim
            .world
            .projects
            .values()
            .flat_map(|project| project.tasks.values())
            .flat_map(|t| t.runs.values());
        told.deepest = runs.map(|run| run.depth).max().unwrap_or(0);
        told
    }

    fn count(&mut self, what: String, times: u64) {
        *self.events.entry(what).or_insert(0) += times;
    }

    /// Takes in what another story amounted to.
    pub fn add(&mut self, other: Self) {
        self.actions += other.actions;
        self.runs += other.runs;
        self.deepest = self.deepest.max(other.deepest);
        for (what, times) in other.events {
            self.count(what, times);
        }
    }
}

/// A schedule that broke an invariant, made as simple as it could be.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    pub broken: Broken,
    pub tape: Vec<u32>,
    pub story: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, broken: Broken { invariant, what }, tape, story } = self;
        writeln!(
            f,
            "seed {seed}: not true that {invariant}\n  {what}\n{} choices: {tape:?}\n{story}",
            tape.len()
        )
    }
}

/// Plays the schedule of a seed.
///
/// # Errors
/// With the simplest schedule found that breaks the same invariant.
pub fn play(seed: u64, rule: Rule) -> Result<Told, Box<Failure>> {
    let mut choices = Choices::seeded(seed);
    let Some(sim) = schedule::play(&mut choices, rule) else { return Ok(Told::default()) };
    let Some(broken) = sim.broken.clone() else {
        return Ok(Told::of(&sim));
    };
    let fails = |tape: &[u32]| play_tape(tape, rule).is_some_and(|again| again.invariant == broken.invariant);
    let tape = shrink::shrink(choices.into_tape(), fails);
    Err(Box::new(told_again(seed, tape, rule).unwrap_or_else(|tape| Failure {
        seed,
        broken,
        tape,
        story: String::new(),
    })))
}

/// Plays a tape that was kept: what it breaks.
#[must_use]
pub fn play_tape(tape: &[u32], rule: Rule) -> Option<Broken> {
    schedule::play(&mut Choices::played(tape.to_vec()), rule).and_then(|sim| sim.broken)
}

fn told_again(seed: u64, tape: Vec<u32>, rule: Rule) -> Result<Failure, Vec<u32>> {
    let sim = schedule::play(&mut Choices::played(tape.clone()), rule);
    match sim.and_then(|sim| Some((sim.broken.clone()?, story::lines(&sim)))) {
        Some((broken, story)) => Ok(Failure { seed, broken, tape, story }),
        None => Err(tape),
    }
}
