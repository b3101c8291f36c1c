//! The simulation over many seeds, and what each of its invariants catches. `docs/testing.md` tells how a seed is
//! played again.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use run_agent_core::testkit::simulation::{Rule, Told, invariants, play, play_tape};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
fn every_invariant_holds_in_every_schedule() {
    let only = variable("RUN_AGENT_SIMULATION_SEED");
    let deep = std::env::var_os("RUN_AGENT_DEEP").is_some();
    let count = variable("RUN_AGENT_SIMULATION_SCHEDULES").unwrap_or(if deep { 100_000 } else { 2_000 });
    let seeds = only.map_or(0..count, |seed| seed..seed + 1);
    let (began, mut all) = (Instant::now(), Told::default());
    for seed in seeds.clone() {
        match play(seed, Rule::AllKept) {
            Ok(told) => all.add(told),
            Err(failure) => panic!("{failure}"),
        }
        if (seed + 1) % 10_000 == 0 {
            println!("{} schedules", seed + 1);
        }
    }
    println!("{} schedules in {:.1?}: {all:#?}", seeds.clone().count(), began.elapsed());
    // Stories in which nothing happens hold every invariant.
    if seeds.count() >= 2_000 {
        let missing: Vec<&str> = REACHED.into_iter().filter(|what| !all.events.contains_key(*what)).collect();
        assert!(missing.is_empty() && all.deepest >= 4, "{missing:?}, {} levels", all.deepest);
    }
}

/// What has to come up in some of the schedules.
const REACHED: [&str; 27] = [
    "AGENT_DEGRADED",
    "CHILD_LINK",
    "DONE_CLEARED",
    "DONE_REJECTED",
    "FACT",
    "LOOP_BACKOFF",
    "LOOP_BLOCKED",
    "LOOP_BREAKER",
    "LOOP_END children",
    "LOOP_END dependency",
    "LOOP_END done",
    "LOOP_END done_not_a_file",
    "LOOP_END exhausted",
    "LOOP_END interrupted",
    "LOOP_END no_agent",
    "LOOP_END root_stopped",
    "LOOP_END stopped",
    "LOOP_END verify",
    "LOOP_WAITING",
    "RUN_ACTIVE",
    "RUN_IDLE",
    "RUN_PARKED",
    "RUN_STUCK",
    "RUN_STOPPING",
    "QUESTION",
    "SUPERVISOR_RESTART",
    "VERIFY_STOP",
];

#[test]
fn a_failing_seed_tells_a_short_story_that_its_tape_tells_again() {
    let failure = (0..100).find_map(|seed| play(seed, Rule::RestartsAreMiscounted).err()).unwrap();
    let again = play_tape(&failure.tape, Rule::RestartsAreMiscounted).unwrap();
    assert_eq!(again, failure.broken);
    assert_eq!(play_tape(&failure.tape, Rule::AllKept), None);
    let story = failure.to_string();
    assert!(
        story.starts_with(&format!("seed {}: not true that restarts are counted", failure.seed)),
        "{story}"
    );
    assert!(story.contains("LOOP_END") && story.lines().count() < 60, "{story}");
}

/// Breaks a rule on purpose; one of the first schedules has to show it, by the invariant that is meant for it.
fn is_caught(rule: Rule, invariant: &str) {
    let found = (0..3_000).find_map(|seed| play(seed, rule).err());
    let failure = found.unwrap_or_else(|| panic!("nothing catches {rule:?}"));
    assert_eq!(failure.broken.invariant, invariant, "{rule:?} is caught by another one: {failure}");
}

macro_rules! caught {
    ($($name:ident: $rule:ident => $invariant:ident;)*) => {$(
        #[test]
        fn $name() {
            is_caught(Rule::$rule, invariants::$invariant);
        }
    )*};
}

caught! {
    a_closer_that_does_not_ask_is_caught: ClosersDoNotAsk => ONE_END;
    a_run_that_is_started_twice_is_caught: RunsAreStartedTwice => ONE_START;
    a_second_root_run_is_caught: RootsAreDoubled => ONE_ROOT;
    a_driver_without_the_lock_is_caught: DriversNeedNoLock => ONE_DRIVER;
    slots_without_a_limit_are_caught: SlotsHaveNoLimit => LIMIT;
    a_run_that_waits_with_its_slot_is_caught: WaitersKeepTheirSlots => NO_STARVATION;
    a_supervisor_that_ignores_stops_is_caught: SupervisorsIgnoreStops => STOP_WINS;
    a_starter_that_ignores_stops_is_caught: StarterIgnoresStops => STOP_WINS;
    an_observer_that_misses_an_entry_is_caught: ObserversMissEntries => REPLAY;
    a_loop_that_forgets_its_children_is_caught: ChildrenAreForgotten => DONE_IS_TRUE;
    restarts_that_are_miscounted_are_caught: RestartsAreMiscounted => RESTARTS;
    a_closer_of_foreign_runs_is_caught: ForeignRunsAreClosed => FOREIGN;
    a_limit_that_counts_sleep_is_caught: SleepCounts => SILENCE;
    work_that_is_not_seen_is_caught: CpuIsNotSeen => SILENCE;
    facts_that_are_told_again_are_caught: FactsAreToldAgain => FACTS;
    a_stop_that_misses_a_start_is_caught: StopsMissStarts => STOP_WINS;
    a_stop_that_asks_what_has_ended_is_caught: TheEndedAreAsked => NOTHING_IGNORED;
}
