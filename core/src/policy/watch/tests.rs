use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// Looks whenever one is due, with what `signs` gives at that time, and tells what became due when.
fn story(policy: WatchPolicy, until_ms: u64, signs: impl Fn(u64) -> Signs) -> Vec<(u64, Due)> {
    let mut watch = Watch::new(policy, None);
    let (mut now, mut told) = (0, Vec::new());
    while now < until_ms {
        now += watch.nap_ms(now).min(until_ms);
        match watch.look(now, &signs(now)) {
            Due::Nothing => {}
            due => told.push((now, due)),
        }
    }
    told
}

fn cpu(used_ms: u64) -> Option<Cpu> {
    Some(Cpu { used_ms, load_percent: 0 })
}

fn hung(_now: u64) -> Signs {
    Signs { cpu: cpu(0), ..Signs::default() }
}

#[test]
fn a_hung_run_is_idle_after_five_minutes_and_stuck_after_fifteen() {
    let told = story(WatchPolicy::default(), 20 * MINUTE, hung);
    assert_eq!(
        told,
        [(5 * MINUTE, Due::Idle { silent_s: 300 }), (15 * MINUTE, Due::Stuck { silent_s: 900 })]
    );
}

#[test]
fn silence_counts_from_the_last_sign_of_life() {
    let printed = |now: u64| Signs { stdout_bytes: now.min(7 * MINUTE), ..hung(now) };
    let told = story(WatchPolicy::default(), 13 * MINUTE, printed);
    assert_eq!(told, [(12 * MINUTE, Due::Idle { silent_s: 300 })]);
}

#[test]
fn a_run_that_works_without_a_word_is_never_idle() {
    let hour = |now: u64| Signs { cpu: cpu(now), ..Signs::default() };
    assert_eq!(story(WatchPolicy::default(), 60 * MINUTE, hour), []);
    // A twentieth of a CPU is enough.
    let slow = |now: u64| Signs { cpu: cpu(now / 20), ..Signs::default() };
    assert_eq!(story(WatchPolicy::default(), 60 * MINUTE, slow), []);
}

#[test]
fn a_spinner_is_no_sign_of_life() {
    let spinner = |now: u64| Signs { cpu: cpu(now / 100), ..Signs::default() };
    assert_eq!(story(WatchPolicy::default(), 20 * MINUTE, spinner).len(), 2);
}

#[test]
fn where_many_want_each_cpu_less_of_it_is_a_sign_of_life() {
    let starved = |load_percent| {
        move |now: u64| Signs { cpu: Some(Cpu { used_ms: now / 100, load_percent }), ..Signs::default() }
    };
    assert_eq!(story(WatchPolicy::default(), 60 * MINUTE, starved(5000)), []);
    assert_eq!(story(WatchPolicy::default(), 60 * MINUTE, starved(100)).len(), 2);
    // However crowded: one that uses none at all hangs.
    let hung = |_| Signs { cpu: Some(Cpu { used_ms: 9, load_percent: u64::MAX }), ..Signs::default() };
    assert_eq!(story(WatchPolicy::default(), 60 * MINUTE, hung).len(), 2);
}

#[test]
fn a_run_that_waits_for_others_is_not_idle() {
    for waits in [
        Signs { blocked_commands: 1, ..Signs::default() },
        Signs { active_children: 1, ..Signs::default() },
        Signs { open_questions: 1, ..Signs::default() },
    ] {
        assert_eq!(story(WatchPolicy::default(), 60 * MINUTE, |_| waits.clone()), []);
    }
}

#[test]
fn an_idle_run_that_lives_again_is_active_and_its_silence_begins_anew() {
    let printed = |now: u64| Signs { stderr_bytes: u64::from(now >= 6 * MINUTE), ..hung(now) };
    let told = story(WatchPolicy::default(), 12 * MINUTE, printed);
    assert_eq!(
        told,
        [
            (5 * MINUTE, Due::Idle { silent_s: 300 }),
            (6 * MINUTE, Due::Active { silent_s: 360, life: Life::Output }),
            (11 * MINUTE, Due::Idle { silent_s: 300 })
        ]
    );
}

#[test]
fn zero_is_never() {
    let idle = |idle_after_ms, stuck_after_ms| {
        story(WatchPolicy { idle_after_ms, stuck_after_ms }, 60 * MINUTE, hung)
    };
    assert_eq!(idle(5 * MINUTE, 0), [(5 * MINUTE, Due::Idle { silent_s: 300 })]);
    assert_eq!(idle(0, 5 * MINUTE), [(5 * MINUTE, Due::Stuck { silent_s: 300 })]);
    assert_eq!(Watch::new(WatchPolicy::NEVER, None).nap_ms(0), u64::MAX, "nobody needs to look");
}

#[test]
fn looks_are_rare() {
    let every = |idle_after_ms, stuck_after_ms| {
        Watch::new(WatchPolicy { idle_after_ms, stuck_after_ms }, None).nap_ms(0)
    };
    assert_eq!(every(5 * MINUTE, 15 * MINUTE), 30 * SECOND);
    assert_eq!(every(10 * SECOND, 15 * MINUTE), 2 * SECOND);
    assert_eq!(every(SECOND / 2, SECOND), SECOND, "CPU time of less than a second says nothing");
}

#[test]
fn who_begins_late_counts_silence_from_then_and_the_time_limit_from_the_start() {
    let mut watch = Watch::new(WatchPolicy::default(), Some(60 * MINUTE));
    watch.begin(50 * MINUTE);
    assert_eq!(watch.nap_ms(50 * MINUTE), 30 * SECOND);
    for n in 0..9 {
        assert_eq!(watch.look(50 * MINUTE + (n + 1) * 30 * SECOND, &hung(0)), Due::Nothing);
    }
    assert_eq!(watch.look(55 * MINUTE, &hung(0)), Due::Idle { silent_s: 300 });
    assert!(!watch.is_over(60 * MINUTE - 1) && watch.is_over(60 * MINUTE));
}

#[test]
fn the_time_limit_is_reached_whatever_the_run_does() {
    let watch = Watch::new(WatchPolicy::default(), Some(7 * SECOND));
    assert_eq!(watch.nap_ms(SECOND), 6 * SECOND);
    assert!(!watch.is_over(7 * SECOND - 1) && watch.is_over(7 * SECOND));
    assert!(!Watch::new(WatchPolicy::default(), None).is_over(u64::MAX));
}

/// What happens between two looks.
#[derive(Debug, Clone)]
struct Turn {
    pause_ms: u64,
    printed: u64,
    worked: bool,
    blocked: usize,
    children: usize,
    questions: usize,
}

fn turn() -> impl Strategy<Value = Turn> {
    let rarely = || prop_oneof![9 => Just(0usize), 1 => 1..3usize];
    let printed = prop_oneof![9 => Just(0u64), 1 => 1..100u64];
    (1..40_000u64, printed, prop::bool::weighted(0.1), rarely(), rarely(), rarely()).prop_map(
        |(pause_ms, printed, worked, blocked, children, questions)| Turn {
            pause_ms,
            printed,
            worked,
            blocked,
            children,
            questions,
        },
    )
}

proptest! {
    #[test]
    fn a_sign_of_life_always_resets_and_events_alternate(
        idle_after_ms in 0..120_000u64,
        stuck_after_ms in 0..300_000u64,
        turns in prop::collection::vec(turn(), 1..200),
    ) {
        let mut watch = Watch::new(WatchPolicy { idle_after_ms, stuck_after_ms }, None);
        let mut signs = Signs { cpu: cpu(0), ..Signs::default() };
        let (mut now, mut alive, mut idle, mut stuck) = (0, 0, false, false);
        for Turn { pause_ms, printed, worked, blocked, children, questions } in turns {
            now += pause_ms;
            signs.stdout_bytes += printed;
            let used = signs.cpu.map_or(0, |cpu| cpu.used_ms) + if worked { pause_ms } else { 0 };
            signs.cpu = cpu(used);
            (signs.blocked_commands, signs.active_children, signs.open_questions) = (blocked, children, questions);
            let seen = printed > 0 || blocked + children + questions > 0;
            let due = watch.look(now, &signs);
            match due {
                Due::Nothing => prop_assert!(!(seen && idle), "life was passed over"),
                Due::Idle { silent_s } => {
                    prop_assert!(!seen && !idle && !stuck && idle_after_ms > 0);
                    prop_assert!(now - alive >= idle_after_ms && silent_s == (now - alive) / 1000);
                    idle = true;
                }
                Due::Active { silent_s, life } => {
                    prop_assert!(idle && (seen || life == Life::Cpu));
                    prop_assert_eq!(silent_s, (now - alive) / 1000);
                    idle = false;
                }
                Due::Stuck { silent_s } => {
                    prop_assert!(!seen && !stuck && stuck_after_ms > 0);
                    prop_assert!(now - alive >= stuck_after_ms && silent_s == (now - alive) / 1000);
                    stuck = true;
                }
            }
            if watch.alive_ms == now {
                alive = now;
            }
            prop_assert!(!seen || alive == now, "a sign of life resets");
            prop_assert_eq!(watch.is_idle(), idle);
        }
    }

    #[test]
    fn a_run_without_life_is_told_at_the_look_that_was_planned(
        idle_after_ms in 1..600_000u64,
        more_ms in 1..600_000u64,
    ) {
        let policy = WatchPolicy { idle_after_ms, stuck_after_ms: idle_after_ms + more_ms };
        let told = story(policy, 3_000_000, hung);
        let late = |due_ms: u64| due_ms.max(2 * CPU_WINDOW_MS) + CPU_WINDOW_MS;
        let stuck = told.last().copied();
        prop_assert!(matches!(stuck, Some((at, Due::Stuck { .. })) if at <= late(policy.stuck_after_ms)), "{:?}", told);
        if more_ms > 2 * CPU_WINDOW_MS {
            prop_assert!(matches!(told[..], [(at, Due::Idle { .. }), _] if at <= late(idle_after_ms)), "{:?}", told);
        }
    }
}
