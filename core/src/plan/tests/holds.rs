//! What keeps a loop from its next root run: dependencies, questions, links, a rejected DONE.

use super::*;
use crate::event::{ChildLink, DoneRejected};
use crate::message::{Draft, Kind};
use crate::policy::OnDependencyFailure;

impl Story {
    /// A question of this run's, under the id that is returned.
    fn asks(mut self, n: u32, blocking: bool) -> (Self, MsgId) {
        let mut content =
            Draft::new(Kind::QUESTION, self.key.project.clone(), self.key.task.clone(), "which?");
        content.run = Some(run(n));
        content.meta.insert("blocking".to_owned(), blocking.to_string());
        let ts = Timestamp::from_second(i64::try_from(self.next).unwrap()).unwrap();
        let id = MsgId::new(ts, 9, 9);
        self.world.apply(&self.key, Cursor::new(self.next), &Message { id: id.clone(), ts, content });
        self.next += 1;
        (self, id)
    }

    fn answered(mut self, question: MsgId) -> Self {
        let kind = Kind::parse("ANSWER").unwrap();
        let mut content = Draft::new(kind, self.key.project.clone(), self.key.task.clone(), "that one");
        content.parents = vec![crate::message::Parent::new(question, None)];
        let ts = Timestamp::from_second(i64::try_from(self.next).unwrap()).unwrap();
        self.world.apply(
            &self.key,
            Cursor::new(self.next),
            &Message { id: MsgId::new(ts, 9, 9), ts, content },
        );
        self.next += 1;
        self
    }

    fn linked(self, parent: u32, ended: bool) -> Self {
        let link = ChildLink {
            child_project_id: self.key.project.clone(),
            child_task_id: TaskId::parse("task-20261121-093000-other").unwrap(),
            child_run_id: Some(run(77)),
            link: "run".to_owned(),
            ended,
        };
        self.event(Some(run(parent)), Event::ChildLink(link))
    }

    fn rejected(mut self) -> Self {
        self.marker = Marker::Absent;
        let output = "two tests failed".to_owned();
        self.event(
            None,
            Event::DoneRejected(DoneRejected { command: "make".to_owned(), exit_code: 2, output }),
        )
    }
}

fn dependency(state: Unmet) -> Dependency {
    Dependency { task: TaskId::parse("task-20261121-093000-first").unwrap(), state }
}

#[test]
fn nothing_is_started_before_what_it_depends_on_is_completed() {
    let mut story = Story::new();
    story.unmet = vec![dependency(Unmet::Open)];
    let Step::Hold { reason: reason::DEPENDENCY, ms: None, event: Some(Event::LoopBlocked(blocked)) } =
        story.next()
    else {
        panic!("{:?}", story.next())
    };
    assert_eq!((blocked.waits_for.len(), blocked.hopeless), (1, false));
    let mut story = story.event(None, Event::LoopBlocked(blocked));
    assert!(matches!(story.next(), Step::Hold { event: None, .. }), "said once");
    story.unmet = vec![dependency(Unmet::Failed("failed (exhausted)".to_owned()))];
    let Step::Hold { event: Some(Event::LoopBlocked(changed)), .. } = story.next() else {
        panic!("what changed is said")
    };
    assert!(changed.hopeless);
    story.unmet.clear();
    assert!(matches!(story.next(), Step::StartRoot { .. }));
}

#[test]
fn a_hopeless_dependency_fails_the_loop_where_the_configuration_says_so() {
    for state in [Unmet::Failed("stopped".to_owned()), Unmet::Missing, Unmet::Cycle(Vec::new())] {
        let mut story = Story::new();
        story.unmet = vec![dependency(Unmet::Open), dependency(state)];
        assert!(matches!(story.next(), Step::Hold { .. }));
        story.policy.on_dependency_failure = OnDependencyFailure::Fail;
        assert!(is_end(&story.next(), LoopOutcome::Failed, reason::DEPENDENCY));
    }
}

#[test]
fn a_task_at_work_is_not_held_by_a_dependency_that_changed_its_mind() {
    let mut story = Story::new().root(1, 1).ends(1, RunOutcome::Completed);
    story.unmet = vec![dependency(Unmet::Open)];
    assert!(matches!(story.next(), Step::StartRoot { attempt: 2, .. }));
}

#[test]
fn an_open_blocking_question_of_the_root_holds_the_loop_until_its_answer() {
    let (story, id) = Story::new().root(1, 1).asks(1, true);
    let story = story.ends(1, RunOutcome::Completed);
    let Step::Hold { reason: reason::WAIT_QUESTION, ms: Some(ms), event: Some(event) } = story.next() else {
        panic!("{:?}", story.next())
    };
    assert_eq!(ms, 4 * 60 * 60 * 1000);
    let story = story.event(None, event);
    assert!(matches!(story.next(), Step::Hold { event: None, .. }));
    let story = story.waited(reason::WAIT_QUESTION, ms);
    assert!(matches!(story.next(), Step::StartRoot { .. }), "its time is over");
    let answered = story.waited(reason::WAIT_QUESTION, 5).answered(id);
    assert!(matches!(answered.next(), Step::StartRoot { attempt: 2, .. }));
}

#[test]
fn a_question_that_nobody_blocks_on_holds_nothing() {
    let (story, _) = Story::new().root(1, 1).asks(1, false);
    assert!(matches!(story.ends(1, RunOutcome::Completed).next(), Step::StartRoot { .. }));
}

#[test]
fn a_person_who_resumes_goes_on_without_the_answer() {
    let (story, _) = Story::new().root(1, 1).asks(1, true);
    let resumed = story
        .ends(1, RunOutcome::Completed)
        .event(None, Event::DoneCleared(DoneCleared { by: "resume".to_owned(), resume: true }));
    assert!(matches!(resumed.next(), Step::StartRoot { why: Start::Resumed, .. }));
}

#[test]
fn a_child_that_waits_for_an_answer_gets_a_root_that_can_give_it() {
    let story = Story::new().root(1, 1).child(2, 1).ends(1, RunOutcome::Completed);
    assert!(matches!(story.next(), Step::WaitRuns { reason: Some(reason::WAIT_RESTART), .. }));
    let (story, id) = story.asks(2, true);
    assert!(matches!(story.next(), Step::StartRoot { .. }));
    assert!(matches!(story.answered(id).next(), Step::WaitRuns { .. }));
}

#[test]
fn children_in_other_tasks_are_waited_for_as_its_own() {
    let story = Story::new().root(1, 1).linked(1, false).ends(1, RunOutcome::Completed);
    let Step::WaitRuns { elsewhere, reason: Some(reason::WAIT_RESTART), .. } = story.next() else { panic!() };
    assert_eq!(elsewhere.len(), 1);
    let story = story.done();
    assert!(matches!(story.next(), Step::WaitRuns { reason: Some(reason::WAIT_CHILDREN), .. }));
    let stopping = story.event(None, Event::LoopStopping(Stopping::default()));
    assert!(matches!(stopping.next(), Step::StopRuns { elsewhere, .. } if elsewhere.len() == 1));
    let story = stopping.event(None, Event::LoopStart(LoopStart::default())).linked(1, true);
    assert!(matches!(story.next(), Step::StartRoot { why: Start::CatchUp, .. }), "its result is late");
}

#[test]
fn done_counts_when_every_verify_command_succeeded() {
    let mut story = Story::new().root(1, 1).done().ends(1, RunOutcome::Completed);
    story.policy.verify = vec!["make".to_owned(), "make test".to_owned()];
    for n in [2, 3] {
        let Step::Verify { command, key, previous } = story.next() else { panic!("{:?}", story.next()) };
        assert_eq!(previous, Some(run(1)));
        let intent = RunIntent { key: Some(key), verify: Some(command), ..RunIntent::default() };
        story = story.event(Some(run(n)), Event::RunIntent(intent));
        let Step::WaitRuns { runs, event: None, .. } = story.next() else { panic!("{:?}", story.next()) };
        assert_eq!(runs, [run(n)]);
        story = story.ends(n, RunOutcome::Completed);
    }
    assert!(is_end(&story.next(), LoopOutcome::Completed, reason::DONE), "a verify run is no late child");
}

#[test]
fn a_verify_command_that_fails_rejects_done_and_each_done_is_verified_anew() {
    let mut story = Story::new().root(1, 1).done().ends(1, RunOutcome::Completed);
    story.policy.verify = vec!["make".to_owned()];
    let Step::Verify { command, key, .. } = story.next() else { panic!() };
    let intent = RunIntent { key: Some(key.clone()), verify: Some(command), ..RunIntent::default() };
    let story = story.event(Some(run(2)), Event::RunIntent(intent)).ends(2, RunOutcome::Failed);
    assert_eq!(story.next(), Step::Reject { run: run(2), command: "make".to_owned(), exit_code: 1 });
    let again = story.clone().rejected().root(3, 2).done().ends(3, RunOutcome::Completed);
    assert!(matches!(again.next(), Step::Verify { key: other, .. } if other != key));
}

#[test]
fn a_loop_does_not_end_nor_start_anything_before_a_verify_command_whose_done_is_gone() {
    let mut story = Story::new().root(1, 1).ends(1, RunOutcome::Completed).done();
    story.policy.verify = vec!["make".to_owned()];
    let Step::Verify { command, key, .. } = story.next() else { panic!("{:?}", story.next()) };
    let intent = RunIntent { key: Some(key), verify: Some(command), ..RunIntent::default() };
    let mut story = story.event(Some(run(2)), Event::RunIntent(intent));
    story.marker = Marker::NotAFile;
    assert!(matches!(story.next(), Step::WaitRuns { runs, .. } if runs == [run(2)]));
    let mut ended = story.clone().ends(2, RunOutcome::Completed);
    assert!(is_end(&ended.next(), LoopOutcome::Failed, reason::DONE_NOT_A_FILE));
    ended.marker = Marker::Present { written: None };
    assert!(is_end(&ended.next(), LoopOutcome::Completed, reason::DONE), "it was mended in time");
    story.marker = Marker::Absent;
    story.policy.restart_with_children = RestartWithChildren::Overlap;
    story.policy.max_restarts = 0;
    assert!(matches!(story.next(), Step::WaitRuns { runs, .. } if runs == [run(2)]));
}

#[test]
fn a_verify_command_that_was_lost_with_its_supervisor_says_nothing_of_done() {
    let mut story = Story::new().root(1, 1).done().ends(1, RunOutcome::Completed);
    story.policy.verify = vec!["make".to_owned()];
    for n in 2..=4 {
        let Step::Verify { command, key, .. } = story.next() else { panic!("{:?}", story.next()) };
        let intent = RunIntent { key: Some(key), verify: Some(command), ..RunIntent::default() };
        let lost = RunEnd { status: RunOutcome::Failed, ..RunEnd::default() };
        story = story.event(Some(run(n)), Event::RunIntent(intent)).event(Some(run(n)), Event::RunEnd(lost));
    }
    assert!(matches!(story.next(), Step::Reject { exit_code: -1, .. }), "so often and no more");
}

#[test]
fn a_rejected_done_starts_the_root_with_the_reason_until_the_attempts_are_used_up() {
    let mut story = Story::new();
    story.policy.verify = vec!["make".to_owned()];
    story.policy.verify_attempts = 2;
    let story = story.root(1, 1).done().ends(1, RunOutcome::Completed).rejected();
    let Step::StartRoot { why: Start::Rejected { command, exit_code: 2, .. }, .. } = story.next() else {
        panic!("{:?}", story.next())
    };
    assert_eq!(command, "make");
    let story = story.root(2, 2).done().ends(2, RunOutcome::Completed).rejected();
    assert!(is_end(&story.next(), LoopOutcome::Failed, reason::VERIFY));
    let resumed =
        story.event(None, Event::DoneCleared(DoneCleared { by: "resume".to_owned(), resume: true }));
    assert!(matches!(resumed.next(), Step::StartRoot { why: Start::Resumed, .. }));
}

#[test]
fn verify_commands_are_not_started_below_a_root_run_that_was_stopped() {
    let mut story =
        Story::new().root(1, 1).event(Some(run(1)), Event::RunStopping(Stopping::default())).done();
    story.policy.verify = vec!["make".to_owned()];
    let story = story.ends(1, RunOutcome::Stopped).event(None, Event::LoopStart(LoopStart::default()));
    let Step::Verify { key, previous, .. } = story.next() else { panic!("{:?}", story.next()) };
    let (key, parent) = (Some(key.as_str()), previous.as_ref());
    let new = crate::decide::NewRun { root: false, key, parent, depth: 0, max_depth: 0, budget: None };
    crate::decide::may_make_run(story.task(), new).unwrap();
}

#[test]
fn a_link_that_is_opened_again_is_of_the_run_that_opened_it() {
    let story = Story::new().root(1, 1).linked(1, false).linked(1, true).ends(1, RunOutcome::Failed);
    let story = story.root(2, 2).linked(2, false);
    let parents: Vec<_> = story.task().open_links().map(|(_, link)| link.parent.clone()).collect();
    assert_eq!(parents, [Some(run(2))], "a stop of that run has to reach the child");
    let ended = story.linked(2, true);
    assert_eq!(ended.task().open_links().count(), 0);
}
