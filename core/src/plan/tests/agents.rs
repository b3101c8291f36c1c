//! Failures: which agent is next, when the breaker opens, when the loop gives up.

use std::time::Duration;

use super::*;
use crate::event::LoopBreaker;

fn fails(class: &str, ms: u64) -> Event {
    Event::RunEnd(RunEnd {
        status: RunOutcome::Failed,
        exit_code: Some(1),
        duration_ms: Some(ms),
        error_class: Some(class.to_owned()),
        ..RunEnd::default()
    })
}

impl Story {
    fn two_agents(mut self) -> Self {
        self.pool.names = vec!["a".to_owned(), "b".to_owned()];
        self
    }

    /// Says what the plan wants said of an agent.
    fn degraded(self) -> Self {
        let Step::Degrade { run, event } = self.next() else { panic!("{:?}", self.next()) };
        self.event(Some(run), Event::AgentDegraded(event))
    }

    fn fails_so_often(mut self, from: u32, to: u32, ms: u64) -> Self {
        for n in from..=to {
            self = self.root(n, n).event(Some(run(n)), fails("crash", ms));
        }
        self
    }
}

#[test]
fn agents_take_turns() {
    let story = Story::new().two_agents();
    assert!(matches!(story.next(), Step::StartRoot { agent, .. } if agent == "a"));
    let story = story.root_of("a", 1, 1).ends(1, RunOutcome::Completed);
    assert!(matches!(story.next(), Step::StartRoot { agent, .. } if agent == "b"));
}

#[test]
fn an_agent_without_its_account_is_passed_over_and_burns_no_restart() {
    let story =
        Story::new().two_agents().root_of("a", 1, 1).event(Some(run(1)), fails("auth", 100)).degraded();
    assert!(matches!(story.next(), Step::StartRoot { agent, .. } if agent == "b"));
    let story = story.root_of("b", 2, 2).ends(2, RunOutcome::Completed);
    assert_eq!(story.task().ralph.restarts, 0);
    assert!(matches!(story.next(), Step::StartRoot { agent, .. } if agent == "b"), "a is still passed over");
    let story = story.root_of("b", 3, 3).event(Some(run(3)), fails("not_found", 100)).degraded();
    assert!(is_end(&story.next(), LoopOutcome::Failed, reason::NO_AGENT));
}

#[test]
fn an_agent_that_is_passed_over_for_no_time_ends_the_loop_all_the_same() {
    let mut story = Story::new().root_of("shell", 1, 1);
    story.pool.cooldown_ms = 0;
    let story = story.event(Some(run(1)), fails("auth", 100)).degraded();
    assert!(is_end(&story.next(), LoopOutcome::Failed, reason::NO_AGENT), "{:?}", story.next());
}

#[test]
fn agents_that_come_back_in_turns_and_fail_each_time_end_the_loop() {
    let mut story = Story::new().two_agents();
    story.pool.cooldown_ms = 0;
    for n in 1..=20 {
        match story.next() {
            Step::StartRoot { agent, .. } => {
                story = story.root_of(&agent, n, n).event(Some(run(n)), fails("auth", 3000)).degraded();
                story.now = story.now.checked_add(Duration::from_secs(3)).unwrap();
            }
            Step::End(end) => return assert_eq!(end.reason, reason::NO_AGENT),
            other => panic!("{other:?}"),
        }
    }
    panic!("twenty starts, and no end");
}

#[test]
fn a_crash_at_the_start_passes_an_agent_over_only_in_favour_of_another() {
    let alone = Story::new().root(1, 1).event(Some(run(1)), fails("crash", 100));
    assert!(matches!(alone.next(), Step::StartRoot { agent, .. } if agent == "shell"));
    let story =
        Story::new().two_agents().root_of("a", 1, 1).event(Some(run(1)), fails("crash", 100)).degraded();
    let story = story.root_of("b", 2, 2).event(Some(run(2)), fails("crash", 100));
    assert!(matches!(story.next(), Step::StartRoot { agent, .. } if agent == "b"), "the last one stays");
    let late = Story::new().two_agents().root_of("a", 1, 1).event(Some(run(1)), fails("crash", 60_000));
    assert!(matches!(late.next(), Step::StartRoot { agent, .. } if agent == "b"), "it was at work: no slip");
}

#[test]
fn a_loop_whose_last_agent_only_slipped_waits_for_another_to_come_back() {
    let story = Story::new().two_agents().root_of("a", 1, 1).event(Some(run(1)), fails("crash", 100));
    let story = story.degraded().root_of("b", 2, 2).event(Some(run(2)), fails("auth", 100)).degraded();
    let Step::Hold { reason: reason::WAIT_AGENTS, ms: Some(ms), event: Some(event) } = story.next() else {
        panic!("{:?}", story.next())
    };
    assert_eq!(ms, 300_000);
    let said = story.event(None, event);
    assert!(matches!(said.next(), Step::Hold { event: None, .. }));
}

#[test]
fn quick_failures_in_a_row_open_the_breaker_then_comes_one_trial() {
    let mut story = Story::new().fails_so_often(1, 5, 100);
    story.clock.since_root_ms = 10;
    let Step::Pause { ms: 600_000, event: Some(Event::LoopBreaker(opened)) } = story.next() else {
        panic!("{:?}", story.next())
    };
    assert_eq!(opened.trips, 1);
    story = story.event(None, Event::LoopBreaker(opened));
    assert!(matches!(story.next(), Step::Pause { ms: 599_990, event: None }));
    story = story.event(None, Event::LoopStart(LoopStart { driver_pid: 2, ..LoopStart::default() }));
    assert!(matches!(story.next(), Step::Pause { ms: 599_990, event: None }), "also after another driver");
    story.clock.since_root_ms = 600_000;
    assert!(matches!(story.next(), Step::StartRoot { attempt: 6, .. }), "one trial");
    story = story.fails_so_often(6, 6, 100);
    story.clock.since_root_ms = 10;
    let Step::Pause { event: Some(Event::LoopBreaker(LoopBreaker { trips: 2, .. })), .. } = story.next()
    else {
        panic!("{:?}", story.next())
    };
    story = story.event(None, Event::LoopBreaker(LoopBreaker { trips: 2, cooldown_ms: 600_000 }));
    story = story.fails_so_often(7, 7, 100);
    assert!(is_end(&story.next(), LoopOutcome::Failed, reason::BREAKER), "the third opening is the end");
}

#[test]
fn a_run_that_did_well_or_lasted_closes_the_breaker() {
    let open = || {
        let story = Story::new().fails_so_often(1, 5, 100);
        story.event(None, Event::LoopBreaker(LoopBreaker { trips: 1, cooldown_ms: 600_000 }))
    };
    let well = open().root(6, 6).ends(6, RunOutcome::Completed).fails_so_often(7, 10, 100);
    assert!(matches!(well.next(), Step::StartRoot { .. }), "four are no row of five");
    assert_eq!(well.task().ralph.trips, 0);
    let lasted = open().fails_so_often(6, 6, 121_000).fails_so_often(7, 10, 100);
    assert!(matches!(lasted.next(), Step::StartRoot { .. }));
    let mut off = Story::new().fails_so_often(1, 9, 100);
    off.policy.breaker.failures = 0;
    assert!(matches!(off.next(), Step::StartRoot { .. }));
}
