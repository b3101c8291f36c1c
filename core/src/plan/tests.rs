//! The loop's decisions, one a test: a world is folded from events, and the plan is asked.

mod agents;
mod budget;
mod holds;

use super::*;
use crate::cause::Cause;
use crate::event::{
    Done, DoneCleared, LoopOutcome, LoopStart, RunEnd, RunIntent, RunOutcome, Scope, Stopping,
};
use crate::id::{MsgId, ProjectId, TaskId};
use crate::message::Message;
use crate::policy::{AfterChildren, LoopPolicy, RestartWithChildren};
use crate::store::{Cursor, StreamKey};
use crate::world::World;
use jiff::Timestamp;

#[derive(Clone)]
struct Story {
    world: World,
    key: StreamKey,
    next: u64,
    marker: Marker,
    policy: LoopPolicy,
    pool: Pool,
    unmet: Vec<Dependency>,
    spent: Spent,
    clock: Clock,
    now: Timestamp,
}

fn run(n: u32) -> RunId {
    RunId::new(Timestamp::UNIX_EPOCH, 1, n)
}

impl Story {
    fn new() -> Self {
        let key =
            StreamKey::task(ProjectId::parse("p").unwrap(), TaskId::parse("task-20261121-093000-x").unwrap());
        // A clock by which every pause is over.
        let clock = Clock { since_root_ms: 3_600_000, ..Clock::default() };
        let story = Self {
            world: World::new(),
            key,
            next: 1,
            marker: Marker::Absent,
            policy: LoopPolicy::default(),
            pool: Pool { names: vec!["shell".to_owned()], cooldown_ms: 300_000, ..Pool::default() },
            unmet: Vec::new(),
            spent: Spent::default(),
            clock,
            now: Timestamp::from_second(1000).unwrap(),
        };
        story.event(None, Event::LoopStart(LoopStart::default()))
    }

    fn event(mut self, run: Option<RunId>, event: Event) -> Self {
        let scope = Scope { project: self.key.project.clone(), task: self.key.task.clone(), run };
        let content = event.draft(&scope, &Cause::Timer("test".to_owned()), "");
        let ts = Timestamp::from_second(i64::try_from(self.next).unwrap()).unwrap();
        let message = Message { id: MsgId::new(ts, 1, 1), ts, content };
        let applied = self.world.apply(&self.key, Cursor::new(self.next), &message);
        assert_eq!(applied.ignored, None, "{event:?}");
        self.next += 1;
        self
    }

    fn root(self, n: u32, attempt: u32) -> Self {
        self.root_of("shell", n, attempt)
    }

    fn root_of(self, agent: &str, n: u32, attempt: u32) -> Self {
        let agent = agent.to_owned();
        let intent = RunIntent { agent, attempt: Some(attempt), ..RunIntent::default() };
        self.event(Some(run(n)), Event::RunIntent(intent))
    }

    fn child(self, n: u32, parent: u32) -> Self {
        let intent = RunIntent { parent_run_id: Some(run(parent)), ..RunIntent::default() };
        self.event(Some(run(n)), Event::RunIntent(intent))
            .event(Some(run(n)), Event::RunStart(Box::default()))
    }

    fn ends(self, n: u32, status: RunOutcome) -> Self {
        let exit_code = Some(i32::from(status != RunOutcome::Completed));
        self.event(
            Some(run(n)),
            Event::RunEnd(RunEnd { status, exit_code, reason: "why".to_owned(), ..RunEnd::default() }),
        )
    }

    fn done(mut self) -> Self {
        self.marker = Marker::Present { written: None };
        self.event(None, Event::Done(Done { by: "file".to_owned(), written: None }))
    }

    fn task(&self) -> &Task {
        self.world.task(&self.key.project, self.key.task.as_ref().unwrap()).unwrap()
    }

    fn look(&self) -> Look<'_> {
        Look {
            task: self.task(),
            marker: self.marker,
            policy: &self.policy,
            pool: &self.pool,
            unmet: &self.unmet,
            spent: self.spent,
            clock: self.clock,
            now: self.now,
        }
    }

    fn next(&self) -> Step {
        next(self.look())
    }

    fn waited(mut self, reason: &'static str, ms: u64) -> Self {
        self.clock.waiting = Some(Waiting { reason, ms });
        self
    }
}

fn is_end(step: &Step, outcome: LoopOutcome, reason: &str) -> bool {
    matches!(step, Step::End(end) if end.outcome == outcome && end.reason == reason)
}

#[test]
fn the_first_root_is_started() {
    assert!(matches!(
        Story::new().next(),
        Step::StartRoot { attempt: 1, why: Start::First, event: None, previous: None, .. }
    ));
}

#[test]
fn a_root_that_is_active_is_joined_and_never_doubled() {
    let story = Story::new().root(1, 1);
    let Step::WaitRuns { runs, reason: None, event: None, look_again_ms: None, .. } = story.next() else {
        panic!("{:?}", story.next())
    };
    assert_eq!(runs, [run(1)]);
    let later_driver =
        story.event(None, Event::LoopStart(LoopStart { driver_pid: 2, ..LoopStart::default() }));
    assert!(matches!(later_driver.next(), Step::WaitRuns { .. }));
}

#[test]
fn a_root_that_ends_without_done_is_started_again_after_the_delay() {
    let mut story = Story::new().root(1, 1).ends(1, RunOutcome::Completed);
    story.clock.since_root_ms = 400;
    assert_eq!(story.next(), Step::Pause { ms: 600, event: None });
    story.clock.since_root_ms = 1000;
    let Step::StartRoot { attempt: 2, why: Start::Again { .. }, event: Some(_), previous, .. } = story.next()
    else {
        panic!("{:?}", story.next())
    };
    assert_eq!(previous, Some(run(1)));
}

#[test]
fn failures_back_off_and_say_so_once() {
    let mut story =
        Story::new().root(1, 1).ends(1, RunOutcome::Failed).root(2, 2).ends(2, RunOutcome::Failed);
    story.clock.since_root_ms = 0;
    let Step::Pause { ms, event: Some(Event::LoopBackoff(backoff)) } = story.next() else { panic!() };
    assert!((1600..=2000).contains(&ms) && backoff.failures == 2 && backoff.delay_ms == ms);
    let said = story.event(None, Event::LoopBackoff(backoff));
    assert!(matches!(said.next(), Step::Pause { event: None, .. }));
}

#[test]
fn done_without_children_completes() {
    let story = Story::new().root(1, 1).done().ends(1, RunOutcome::Completed);
    assert!(is_end(&story.next(), LoopOutcome::Completed, reason::DONE));
}

#[test]
fn done_waits_for_the_root_and_for_children() {
    let story = Story::new().root(1, 1).child(2, 1).done();
    assert!(matches!(story.next(), Step::WaitRuns { runs, .. } if runs == [run(1)]), "the root first");
    let story = story.ends(1, RunOutcome::Completed);
    let Step::WaitRuns { runs, event: Some(Event::LoopWaiting(waiting)), look_again_ms: None, .. } =
        story.next()
    else {
        panic!()
    };
    assert_eq!(runs, [run(2)]);
    let said = story.event(None, Event::LoopWaiting(waiting));
    assert!(matches!(said.next(), Step::WaitRuns { event: None, .. }));
}

#[test]
fn a_child_that_ends_after_done_gets_the_root_started_once_more() {
    let story = Story::new()
        .root(1, 1)
        .child(2, 1)
        .done()
        .ends(1, RunOutcome::Completed)
        .ends(2, RunOutcome::Completed);
    assert!(matches!(story.next(), Step::StartRoot { attempt: 2, why: Start::CatchUp, .. }));
    let story = story.root(3, 2).ends(3, RunOutcome::Completed);
    assert!(is_end(&story.next(), LoopOutcome::Completed, reason::DONE), "once, not for ever");
    let mut complete =
        Story::new().root(1, 1).child(2, 1).done().ends(1, RunOutcome::Completed).ends(2, RunOutcome::Failed);
    complete.policy.after_children = AfterChildren::Complete;
    assert!(is_end(&complete.next(), LoopOutcome::Completed, reason::DONE));
}

#[test]
fn a_child_that_ended_before_done_is_not_late() {
    let story = Story::new()
        .root(1, 1)
        .child(2, 1)
        .ends(2, RunOutcome::Completed)
        .done()
        .ends(1, RunOutcome::Completed);
    assert!(is_end(&story.next(), LoopOutcome::Completed, reason::DONE));
}

#[test]
fn children_that_never_end_fail_the_loop_at_the_time_out_and_never_complete_it() {
    let mut story = Story::new().root(1, 1).child(2, 1).done().ends(1, RunOutcome::Completed);
    story.policy.child_wait_timeout_ms = 1000;
    let story = story.waited(reason::WAIT_CHILDREN, 400);
    assert!(matches!(story.next(), Step::WaitRuns { look_again_ms: Some(600), .. }));
    let story = story.waited(reason::WAIT_RESTART, 1000);
    assert!(matches!(story.next(), Step::WaitRuns { .. }), "another wait does not count");
    let story = story.waited(reason::WAIT_CHILDREN, 1000);
    assert!(is_end(&story.next(), LoopOutcome::Failed, reason::CHILDREN));
}

#[test]
fn the_next_root_waits_for_children_of_the_one_before() {
    let mut story = Story::new().root(1, 1).child(2, 1).ends(1, RunOutcome::Completed);
    assert!(matches!(story.next(), Step::WaitRuns { runs, .. } if runs == [run(2)]));
    story.policy.restart_with_children = RestartWithChildren::Overlap;
    assert!(matches!(story.next(), Step::StartRoot { .. }));
}

#[test]
fn restarts_are_limited() {
    let mut story = Story::new();
    story.policy.max_restarts = 2;
    for n in 1..=3 {
        let Step::StartRoot { attempt, event, .. } = story.next() else {
            panic!("run {n}: {:?}", story.next())
        };
        assert_eq!(attempt, n);
        if let Some(event) = event {
            story = story.event(None, Event::LoopRestart(event));
        }
        story = story.root(n, n).ends(n, RunOutcome::Completed);
    }
    assert!(is_end(&story.next(), LoopOutcome::Failed, reason::EXHAUSTED));
    assert_eq!(limit_reached(story.look()), Some("max_restarts"));
    let resumed =
        story.event(None, Event::DoneCleared(DoneCleared { by: "resume".to_owned(), resume: true }));
    assert!(matches!(resumed.next(), Step::StartRoot { attempt: 4, why: Start::Resumed, event: None, .. }));
}

#[test]
fn time_is_limited_and_waiting_does_not_count() {
    let mut story = Story::new().root(1, 1).ends(1, RunOutcome::Completed);
    story.clock.active_ms = 8 * 60 * 60 * 1000;
    assert!(is_end(&story.next(), LoopOutcome::Failed, reason::EXHAUSTED));
    story.policy.max_wall_time_ms = 0;
    assert!(matches!(story.next(), Step::StartRoot { .. }), "0 is no limit");
}

#[test]
fn a_stop_wins_over_everything() {
    let stop = Event::LoopStopping(Stopping::default());
    let story = Story::new().root(1, 1).child(2, 1).event(None, stop.clone());
    assert!(matches!(story.next(), Step::StopRuns { runs, .. } if runs == [run(1), run(2)]));
    let story = story.ends(1, RunOutcome::Stopped).ends(2, RunOutcome::Stopped);
    assert!(is_end(&story.next(), LoopOutcome::Stopped, reason::STOPPED));
    let in_backoff = Story::new().root(1, 1).ends(1, RunOutcome::Failed).event(None, stop.clone());
    assert!(is_end(&in_backoff.next(), LoopOutcome::Stopped, reason::STOPPED));
    let done = Story::new().root(1, 1).ends(1, RunOutcome::Completed).done().event(None, stop);
    assert!(is_end(&done.next(), LoopOutcome::Stopped, reason::STOPPED));
}

#[test]
fn a_root_that_was_stopped_ends_the_loop() {
    let story = Story::new().root(1, 1).ends(1, RunOutcome::Stopped);
    assert!(is_end(&story.next(), LoopOutcome::Stopped, reason::ROOT_STOPPED));
    let taken_up = story.event(None, Event::LoopStart(LoopStart::default()));
    assert!(matches!(taken_up.next(), Step::StartRoot { attempt: 2, .. }), "a person started the loop again");
}

#[test]
fn a_folder_named_done_is_an_error() {
    let mut story = Story::new().root(1, 1).ends(1, RunOutcome::Completed);
    story.marker = Marker::NotAFile;
    assert!(is_end(&story.next(), LoopOutcome::Failed, reason::DONE_NOT_A_FILE));
}

#[test]
fn a_root_that_was_to_be_stopped_is_not_started_again_whatever_it_died_of() {
    let story = Story::new().root(1, 1).event(Some(run(1)), Event::RunStopping(Stopping::default()));
    let story = story.ends(1, RunOutcome::Failed);
    assert!(is_end(&story.next(), LoopOutcome::Stopped, reason::ROOT_STOPPED));
}

#[test]
fn a_driver_that_is_interrupted_during_a_stop_leaves_the_stop_standing() {
    let story = Story::new().root(1, 1).event(None, Event::LoopStopping(Stopping::default()));
    let end = LoopEnd {
        outcome: LoopOutcome::Stopped,
        reason: reason::INTERRUPTED.to_owned(),
        ..LoopEnd::default()
    };
    let story = story.event(None, Event::LoopEnd(end));
    let task = story.task();
    assert!(crate::decide::may_start_loop(task).is_err());
    let child =
        crate::decide::NewRun { root: false, key: None, parent: None, depth: 1, max_depth: 16, budget: None };
    assert!(crate::decide::may_make_run(task, child).is_err());
    let ended = story.ends(1, RunOutcome::Stopped);
    let task = ended.task();
    assert!(crate::decide::is_lone_stop_over(task), "nothing is left to stop: whoever looks ends it");
    assert!(crate::decide::may_start_loop(task).is_err(), "until then it stands");
}

#[test]
fn a_child_that_ended_between_the_marker_and_its_event_is_late() {
    let mut story = Story::new().root(1, 1).child(2, 1).ends(2, RunOutcome::Completed);
    story.marker = Marker::Present { written: None };
    // The child's end stands at second 4 or later; the marker was written at second 1.
    let written = Some(Timestamp::from_second(1).unwrap());
    let story = story
        .event(None, Event::Done(Done { by: "file".to_owned(), written }))
        .ends(1, RunOutcome::Completed);
    assert!(matches!(story.next(), Step::StartRoot { why: Start::CatchUp, .. }));
}

#[test]
fn a_loop_is_not_completed_where_something_was_started_since_the_driver_looked() {
    let story = Story::new().root(1, 1).done().ends(1, RunOutcome::Completed);
    assert!(is_end(&story.next(), LoopOutcome::Completed, reason::DONE));
    let driver = Some((0, ""));
    crate::decide::may_complete_loop(story.task(), driver).unwrap();
    let child = story.clone().child(2, 1);
    assert_eq!(crate::decide::may_complete_loop(child.task(), driver), Err(crate::decide::Refusal::Moot));
    let ended = child.ends(2, RunOutcome::Completed);
    crate::decide::may_complete_loop(ended.task(), driver).unwrap();
    let cleared = Event::DoneCleared(DoneCleared { by: "file".to_owned(), resume: false });
    for event in [cleared, Event::LoopStopping(Stopping::default())] {
        let story = story.clone().event(None, event);
        assert_eq!(crate::decide::may_complete_loop(story.task(), driver), Err(crate::decide::Refusal::Moot));
    }
}

#[test]
fn a_wait_is_said_once_and_names_a_bounded_number_of_runs() {
    let mut story = Story::new().root(1, 1);
    for n in 2..200 {
        story = story.child(n, 1);
    }
    let story = story.done().ends(1, RunOutcome::Completed);
    let Step::WaitRuns { runs, event: Some(Event::LoopWaiting(waiting)), .. } = story.next() else {
        panic!()
    };
    assert_eq!((runs.len(), waiting.runs.len()), (198, 50));
    let story = story.event(None, Event::LoopWaiting(waiting)).ends(2, RunOutcome::Completed);
    assert!(matches!(story.next(), Step::WaitRuns { event: None, .. }));
}

#[test]
fn a_run_that_is_being_stopped_starts_no_child_unless_children_are_kept() {
    let make = |keep_children| {
        let stopping = Stopping { keep_children, ..Stopping::default() };
        let story = Story::new().root(1, 1).child(2, 1).event(Some(run(1)), Event::RunStopping(stopping));
        let task = story.task().clone();
        let parent = run(2);
        crate::decide::may_make_run(
            &task,
            crate::decide::NewRun {
                root: false,
                key: None,
                parent: Some(&parent),
                depth: 2,
                max_depth: 16,
                budget: None,
            },
        )
    };
    assert!(make(false).is_err() && make(true).is_ok());
}
