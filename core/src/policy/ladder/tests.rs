use proptest::prelude::*;

use super::*;

const PATIENT: Patience = Patience { alone_ms: 0, grace_ms: 30_000 };
const NONE: Patience = Patience { alone_ms: 0, grace_ms: 0 };

fn at(now_ms: u64, patience: Patience, found: usize, rung: Rung) -> Action {
    next(Look { now_ms, patience, found, rung })
}

#[test]
fn what_is_there_is_asked_first_and_killed_after_the_grace_period() {
    assert_eq!(at(0, PATIENT, 3, Rung::Ground), Action::Ask);
    assert_eq!(at(0, PATIENT, 3, Rung::asked(0)), Action::Wait { ms: 2 });
    assert_eq!(at(100, PATIENT, 3, Rung::asked(0)), Action::Wait { ms: 100 }, "ever more rarely");
    assert_eq!(at(29_900, PATIENT, 1, Rung::asked(0)), Action::Wait { ms: 100 }, "not beyond its end");
    assert_eq!(at(30_000, PATIENT, 1, Rung::asked(0)), Action::Kill);
}

#[test]
fn without_a_grace_period_nothing_is_asked() {
    assert_eq!(at(0, NONE, 1, Rung::Ground), Action::Kill);
}

#[test]
fn what_may_end_by_itself_gets_its_time_first() {
    let patience = Patience { alone_ms: 300, grace_ms: 2000 };
    assert!(matches!(at(299, patience, 1, Rung::Ground), Action::Wait { .. }));
    assert_eq!(at(300, patience, 1, Rung::Ground), Action::Ask);
}

#[test]
fn a_climber_who_comes_late_gives_the_whole_grace_period() {
    assert_eq!(at(1_000_000, PATIENT, 1, Rung::Ground), Action::Ask);
    assert!(matches!(at(1_000_000, PATIENT, 1, Rung::asked(1_000_000)), Action::Wait { .. }));
}

#[test]
fn the_last_rung_is_climbed_again_and_given_up_in_the_end() {
    let rung = Rung::Ground.killed(1000);
    assert!(matches!(at(1050, NONE, 1, rung), Action::Wait { .. }));
    assert_eq!(at(1100, NONE, 1, rung), Action::Kill);
    let rung = rung.killed(1100);
    assert_eq!(rung, Rung::Killed { first_ms: 1000, last_ms: 1100 });
    assert_eq!(at(1000 + LAST_RUNG_MS + 1, NONE, 1, rung), Action::GiveUp);
}

#[derive(Debug, Default)]
struct Story {
    asked_at: Option<u64>,
    killed_at: Option<u64>,
    signals_at_nothing: bool,
    end: Option<Action>,
}

/// Climbs with a scan that finds `found[n]` the n-th time, and the last of them for ever after. Every scan and every
/// sleep takes as long as `late_ms` says besides.
fn climb(patience: Patience, found: &[usize], late_ms: &[u64]) -> Story {
    let mut story = Story::default();
    let (mut now_ms, mut rung) = (0, Rung::Ground);
    for n in 0..100_000 {
        let found = *found.get(n).or(found.last()).unwrap_or(&0);
        now_ms += late_ms[n % late_ms.len()];
        let action = at(now_ms, patience, found, rung);
        match action {
            Action::Ask => {
                story.asked_at.get_or_insert(now_ms);
                rung = Rung::asked(now_ms);
            }
            Action::Kill => {
                story.killed_at.get_or_insert(now_ms);
                rung = rung.killed(now_ms);
            }
            Action::Wait { ms } => {
                assert!((1..=LONGEST_NAP_MS).contains(&ms));
                now_ms += ms;
            }
            Action::Done | Action::GiveUp => {
                story.end = Some(action);
                return story;
            }
        }
        story.signals_at_nothing |= found == 0;
    }
    story
}

proptest! {
    #[test]
    fn every_climb_ends_and_nobody_is_killed_within_the_grace_period(
        alone_ms in 0..2000u64,
        grace_ms in prop_oneof![Just(0), 1..60_000u64],
        found in proptest::collection::vec(0..4usize, 1..40),
        late_ms in proptest::collection::vec(0..5000u64, 1..5),
    ) {
        let story = climb(Patience { alone_ms, grace_ms }, &found, &late_ms);
        prop_assert!(story.end.is_some(), "it ends: {:?}", story);
        prop_assert!(!story.signals_at_nothing, "nothing is signalled where nothing is: {:?}", story);
        if let Some(killed) = story.killed_at {
            match story.asked_at {
                Some(asked) => prop_assert!(killed - asked >= grace_ms, "{:?}", story),
                None => prop_assert_eq!(grace_ms, 0),
            }
        }
        if story.end == Some(Action::GiveUp) {
            prop_assert!(story.killed_at.is_some(), "{:?}", story);
        }
    }
}
