//! Why tasks with a loop stand as they do.

use super::*;
use crate::event::{
    AgentDegraded, ChildLink, Deletion, DoneRejected, LoopBackoff, LoopBlocked, LoopBreaker, LoopWaiting,
    TaskText, VerifyStart, VerifyStop,
};
use crate::plan::reason;

fn waiting(reason: &str, until: Option<Timestamp>) -> Event {
    Event::LoopWaiting(LoopWaiting { reason: reason.to_owned(), runs: Vec::new(), until, active_ms: 0 })
}

fn process() -> Cause {
    Cause::Process("runs".to_owned())
}

fn limit(name: &str) -> Cause {
    Cause::Limit(name.to_owned())
}

#[test]
fn a_task_that_was_only_made_was_never_started() {
    let text = TaskText {
        title: "x".to_owned(),
        source: "cli".to_owned(),
        depends_on: Vec::new(),
        thread_parent: None,
    };
    let tale = Tale::empty().event("made", None, person(), Event::TaskCreated(text));
    let causes = [("made by user ann, and nothing was started", "made")];
    tale.says(&tale.why(), "created", &causes, &[Some(Act::Task)]);
}

#[test]
fn a_deleted_task_names_who_deleted_it() {
    let deletion = Deletion { by: "user ann".to_owned(), reason: "old".to_owned() };
    let tale = Tale::driven().event("deleted", None, person(), Event::TaskDeleted(deletion));
    let why = tale.why();
    tale.says(&why, "queued", &[("deleted by user ann: old", "deleted")], &[]);
}

#[test]
fn a_loop_between_two_runs_says_what_the_last_one_came_to() {
    let tale = Tale::driven().root(1, 1).completes("stop", 1);
    let causes = [("ended without DONE, and the next one is due", ""), ("did not say DONE", "stop")];
    tale.says(&tale.why(), "queued", &causes, &[]);
}

#[test]
fn an_exhausted_loop_names_the_limit_and_the_last_failure() {
    let tale = Tale::driven().root(1, 1).fails("crash", 1).loop_ends(
        "end",
        LoopOutcome::Failed,
        reason::EXHAUSTED,
        limit("max_restarts"),
    );
    let causes =
        [("gave up: max_restarts was reached after 2 restarts", "end"), ("failed: exit code 3", "crash")];
    let why = tale.why();
    tale.says(&why, "failed", &causes, &[Some(Act::Output(run_id(1))), Some(Act::Resume)]);
    assert_eq!(why.causes[0].cause.as_deref(), Some("limit:max_restarts"));
    assert_eq!((why.since, why.reason.as_str()), (Timestamp::from_second(5).ok(), "exhausted"));
}

#[test]
fn a_loop_that_pauses_names_the_failures() {
    let backoff = LoopBackoff {
        attempt: 2,
        delay_ms: 1900,
        failures: 1,
        reason: "the agent failed".to_owned(),
        active_ms: 0,
    };
    let tale = Tale::driven().root(1, 1).fails("crash", 1).event(
        "backoff",
        None,
        Cause::Timer("backoff".to_owned()),
        Event::LoopBackoff(backoff),
    );
    let causes = [("pauses 1.9 s after 1 failed run in a row", "backoff"), ("exit code 3", "crash")];
    tale.says(&tale.why(), "backing_off", &causes, &[None, Some(Act::Stop)]);
}

#[test]
fn an_open_breaker_names_the_failures_and_then_ends_the_loop() {
    let opened = Event::LoopBreaker(LoopBreaker { trips: 3, cooldown_ms: 600_000 });
    let tale = Tale::driven().root(1, 1).fails("crash", 1).event("open", None, limit("breaker"), opened);
    let causes = [("breaker opened (opening 3)", "open"), ("exit code 3", "crash")];
    tale.says(&tale.why(), "backing_off", &causes, &[None, Some(Act::Stop)]);
    let tale = tale.loop_ends("end", LoopOutcome::Failed, reason::BREAKER, limit("breaker.trips"));
    let causes = [("breaker opened once too often", "end"), ("3 times", "open"), ("exit code 3", "crash")];
    tale.says(&tale.why(), "failed", &causes, &[Some(Act::Output(run_id(1))), Some(Act::Resume)]);
}

#[test]
fn a_loop_that_waits_for_children_names_them_and_who_said_done() {
    let tale = Tale::driven().root(1, 1).child(2, 1).done("done", "run", Some(1)).completes("stop", 1).event(
        "waiting",
        None,
        process(),
        waiting(reason::WAIT_CHILDREN, None),
    );
    let who = format!("run {} said DONE", run_id(1));
    let causes =
        [("waits for 1 active child run", "waiting"), ("is at work", "child start"), (who.as_str(), "done")];
    let acts = [None, Some(Act::WhyRun(run_id(2))), Some(Act::StopRun(run_id(2)))];
    tale.says(&tale.why(), "waiting", &causes, &acts);
}

#[test]
fn a_loop_that_waits_for_a_child_task_names_it() {
    let link = ChildLink {
        child_project_id: ProjectId::parse("p").unwrap(),
        child_task_id: task_id("other"),
        child_run_id: None,
        link: "task".to_owned(),
        ended: false,
    };
    let tale = Tale::driven()
        .root(1, 1)
        .event("link", Some(1), process(), Event::ChildLink(link))
        .done("done", "file", None)
        .completes("stop", 1)
        .event("waiting", None, process(), waiting(reason::WAIT_CHILDREN, None));
    let causes = [
        ("waits for 1 child in another task", "waiting"),
        ("task p/task-19700101-000000-other was started from here", ""),
        ("not made by `run-agent done`", "done"),
    ];
    let acts = [Some(Act::WhyTask(task_id("other"))), None];
    tale.says(&tale.why(), "waiting", &causes, &acts);
}

#[test]
fn a_restart_that_waits_for_children_names_them_and_the_run_before() {
    let tale = Tale::driven().root(1, 1).child(2, 1).fails("crash", 1).event(
        "waiting",
        None,
        process(),
        waiting(reason::WAIT_RESTART, None),
    );
    let causes = [
        ("before the root is started again", "waiting"),
        ("is at work", "child start"),
        ("exit code 3", "crash"),
    ];
    let acts = [None, Some(Act::WhyRun(run_id(2))), Some(Act::StopRun(run_id(2)))];
    tale.says(&tale.why(), "waiting", &causes, &acts);
}

#[test]
fn a_loop_that_a_question_holds_names_the_question() {
    let tale = Tale::driven()
        .root(1, 1)
        .post("question", Kind::QUESTION, Some(1), "drop the table?")
        .completes("stop", 1)
        .event("waiting", None, process(), waiting(reason::WAIT_QUESTION, None));
    let causes = [("answer to a question", "waiting"), ("asks: drop the table?", "question")];
    let answer = Act::Answer(tale.labels["question"].clone());
    tale.says(&tale.why(), "waiting", &causes, &[Some(answer)]);
}

#[test]
fn agents_that_are_all_passed_over_are_named_with_the_moment_they_come_back() {
    let until = Timestamp::from_second(3600).unwrap();
    let degraded = AgentDegraded { agent: "claude".to_owned(), error_class: "quota".to_owned(), until };
    let tale = Tale::driven()
        .root(1, 1)
        .ends("crash", 1, failed("exit code 1", Some("quota")))
        .event("degraded", None, process(), Event::AgentDegraded(degraded))
        .event("waiting", None, process(), waiting(reason::WAIT_AGENTS, Some(until)));
    let causes = [
        ("every agent is passed over until 1970-01-01T01:00:00Z", "waiting"),
        ("agent claude is passed over", "degraded"),
        ("failed (quota): exit code 1", "crash"),
    ];
    tale.says(&tale.why(), "waiting", &causes, &[None]);
    let tale = tale.loop_ends("end", LoopOutcome::Failed, reason::NO_AGENT, process());
    let causes = [("no agent is left", "end"), ("agent claude", "degraded"), ("failed (quota)", "crash")];
    tale.says(&tale.why(), "failed", &causes, &[Some(Act::Output(run_id(1))), Some(Act::Resume)]);
}

#[test]
fn a_loop_beyond_the_roots_limit_waits_for_another_to_end() {
    let tale = Tale::driven().event("waiting", None, limit("max_tasks"), waiting(reason::WAIT_LOOPS, None));
    tale.says(&tale.why(), "waiting", &[("limits.max_tasks", "waiting")], &[None]);
}

#[test]
fn a_blocked_loop_names_each_task_that_it_waits_for() {
    let waits_for = vec![task_id("a"), task_id("b"), task_id("c")];
    let blocked =
        Event::LoopBlocked(LoopBlocked { waits_for, reason: "a failed".to_owned(), hopeless: true });
    let mut tale = Tale::driven().event("blocked", None, process(), blocked);
    let there = |status, reason: &str| Other::There { status, reason: reason.to_owned() };
    tale.seen.tasks.insert(task_id("a"), there(TaskStatus::Failed, "exhausted"));
    tale.seen.tasks.insert(task_id("b"), Other::Missing);
    tale.seen.tasks.insert(task_id("c"), there(TaskStatus::Running, ""));
    let causes = [
        ("waits for 3 tasks that it depends on", "blocked"),
        ("-a is failed (exhausted)", ""),
        ("-b is not there", ""),
        ("-c is running", ""),
    ];
    let acts = [Some(Act::WhyTask(task_id("a"))), None, Some(Act::WhyTask(task_id("c")))];
    tale.says(&tale.why(), "blocked", &causes, &acts);
    let tale = tale.loop_ends("end", LoopOutcome::Failed, reason::DEPENDENCY, process());
    let why = tale.why();
    assert!(why.causes[0].text.contains("cannot be waited for"), "{why:#?}");
    assert_eq!(why.causes[1].msg_id, Some(tale.labels["blocked"].clone()));
    assert_eq!(why.changes.last().unwrap().act, Some(Act::Resume));
}

#[test]
fn a_completed_loop_names_who_said_done() {
    let tale = Tale::driven().root(1, 1).done("done", "file", None).completes("stop", 1).loop_ends(
        "end",
        LoopOutcome::Completed,
        reason::DONE,
        Cause::File("DONE".to_owned()),
    );
    let causes = [("completed", "end"), ("not made by `run-agent done`", "done")];
    tale.says(&tale.why(), "completed", &causes, &[Some(Act::Resume)]);
}

#[test]
fn a_rejected_done_names_the_command_and_what_it_said() {
    let verify = VerifyStart { command: "make test".to_owned() };
    let rejected = DoneRejected {
        command: "make test".to_owned(),
        exit_code: 2,
        output: "…\n3 tests failed\n".to_owned(),
    };
    let tale = Tale::driven().root(1, 1).done("done", "run", Some(1)).completes("stop", 1).event(
        "verify",
        Some(2),
        process(),
        Event::VerifyStart(verify),
    );
    let causes = [("verify command is at work: `make test`", "verify"), ("said DONE", "done")];
    tale.says(&tale.why(), "queued", &causes, &[Some(Act::Output(run_id(2))), Some(Act::Stop)]);
    let stop = VerifyStop { command: "make test".to_owned(), exit_code: 2, duration_ms: 10 };
    let tale = tale
        .event("verified", Some(2), process(), Event::VerifyStop(stop))
        .event("rejected", None, process(), Event::DoneRejected(rejected))
        .loop_ends("end", LoopOutcome::Failed, reason::VERIFY, limit("verify_attempts"));
    let causes =
        [("rejected once too often", "end"), ("`make test` ended with 2: 3 tests failed", "rejected")];
    tale.says(&tale.why(), "failed", &causes, &[Some(Act::Output(run_id(2))), Some(Act::Resume)]);
}

#[test]
fn a_limit_that_rejected_dones_used_up_names_the_rejection() {
    let rejected = DoneRejected { command: "make".to_owned(), exit_code: 2, output: "1 failed".to_owned() };
    let tale = Tale::driven()
        .root(1, 1)
        .done("done", "run", Some(1))
        .completes("stop", 1)
        .event("rejected", None, process(), Event::DoneRejected(rejected))
        .loop_ends("end", LoopOutcome::Failed, reason::EXHAUSTED, limit("max_restarts"));
    let causes = [
        ("max_restarts was reached", "end"),
        ("DONE was rejected: `make` ended with 2: 1 failed", "rejected"),
        ("completed: exit code 0", "stop"),
    ];
    tale.says(&tale.why(), "failed", &causes, &[Some(Act::Output(run_id(1))), Some(Act::Resume)]);
}

#[test]
fn a_dependency_that_ended_the_loop_at_once_is_named() {
    let text = TaskText {
        title: "x".to_owned(),
        source: "cli".to_owned(),
        depends_on: vec![task_id("a"), task_id("b")],
        thread_parent: None,
    };
    let mut tale = Tale::driven().event("made", None, person(), Event::TaskCreated(text)).loop_ends(
        "end",
        LoopOutcome::Failed,
        reason::DEPENDENCY,
        process(),
    );
    let completed = Other::There { status: TaskStatus::Completed, reason: String::new() };
    tale.seen.tasks.extend([(task_id("a"), completed), (task_id("b"), Other::Missing)]);
    let causes = [("cannot be waited for", "end"), ("-b is not there", "")];
    tale.says(&tale.why(), "failed", &causes, &[None, Some(Act::Resume)]);
}

#[test]
fn children_that_outlived_their_time_are_named() {
    let tale = Tale::driven().root(1, 1).child(2, 1).done("done", "run", Some(1)).completes("stop", 1);
    let tale = tale.loop_ends("end", LoopOutcome::Failed, reason::CHILDREN, limit("child_wait_timeout"));
    let causes = [
        ("1 child run has not ended within child_wait_timeout", "end"),
        ("is at work", "child start"),
        ("said DONE", "done"),
    ];
    tale.says(&tale.why(), "running", &causes, &[Some(Act::Resume), Some(Act::Stop)]);
}

#[test]
fn a_done_that_is_a_folder_is_named() {
    let mut tale = Tale::driven().loop_ends(
        "end",
        LoopOutcome::Failed,
        reason::DONE_NOT_A_FILE,
        Cause::File("DONE".to_owned()),
    );
    tale.seen.marker = Some(Marker::NotAFile);
    tale.says(&tale.why(), "failed", &[("DONE is a folder", "end")], &[None, Some(Act::Resume)]);
}

#[test]
fn a_stopped_loop_names_who_asked() {
    let tale = Tale::driven().root(1, 1).stop_asked("asked", None);
    let causes = [("asked for by user ann; 1 run has not ended yet", "asked"), ("is at work", "start")];
    tale.says(&tale.why(), "running", &causes, &[None, Some(Act::StopForce)]);
    let tale =
        tale.ends("stop", 1, stopped()).loop_ends("end", LoopOutcome::Stopped, reason::STOPPED, person());
    let causes = [("the loop was stopped", "end"), ("whole task was asked for by user ann", "asked")];
    tale.says(&tale.why(), "stopped", &causes, &[Some(Act::Resume)]);
    let causes = [
        ("was stopped", "stop"),
        ("whole task was asked for by user ann", "asked"),
        ("the loop was started by user ann", "intent"),
    ];
    tale.says(&tale.why_run(1), "stopped", &causes, &[Some(Act::Output(run_id(1)))]);
}

#[test]
fn a_loop_whose_root_was_stopped_names_who_asked() {
    let tale = Tale::driven().root(1, 1).stop_asked("asked", Some(1)).ends("stop", 1, stopped());
    let causes = [
        ("the loop ends with it", ""),
        ("was stopped", "stop"),
        ("stop of the run was asked for by user ann", "asked"),
    ];
    tale.says(&tale.why(), "stopped", &causes, &[]);
    let tale = tale.loop_ends("end", LoopOutcome::Stopped, reason::ROOT_STOPPED, process());
    let causes = [("its root run was stopped", "end"), ("was stopped", "stop"), ("by user ann", "asked")];
    tale.says(&tale.why(), "stopped", &causes, &[Some(Act::Resume)]);
}

#[test]
fn runs_go_on_without_a_loop_that_was_interrupted() {
    let signal = Cause::Signal("SIGINT".to_owned());
    let tale = Tale::driven().root(1, 1).loop_ends("end", LoopOutcome::Stopped, reason::INTERRUPTED, signal);
    let causes = [
        ("1 run goes on without the loop", ""),
        ("is at work", "start"),
        ("driver was interrupted (SIGINT)", "end"),
    ];
    tale.says(&tale.why(), "running", &causes, &[Some(Act::Task), Some(Act::Stop)]);
}

#[test]
fn a_loop_whose_driver_died_says_so_first() {
    let mut tale = Tale::driven().root(1, 1).fails("crash", 1);
    tale.seen.driver = Driver::Gone;
    let causes = [
        ("its driver (pid 77) ended without saying so", "loop"),
        ("the next one is due", ""),
        ("exit code 3", "crash"),
    ];
    tale.says(&tale.why(), "queued", &causes, &[Some(Act::Task), Some(Act::Adopt), Some(Act::Stop)]);
    tale.seen.driver = Driver::Foreign;
    assert!(tale.why().summary().contains("another machine"));
}

#[test]
fn a_stop_of_jobs_alone_names_who_asked_and_offers_no_loop() {
    let intent = RunIntent { agent: "shell".to_owned(), ..RunIntent::default() };
    let tale = Tale::empty()
        .event("intent", Some(1), person(), Event::RunIntent(intent))
        .starts("start", 1)
        .stop_asked("asked", None)
        .ends("stop", 1, stopped())
        .loop_ends("end", LoopOutcome::Stopped, reason::STOPPED, person());
    let causes = [("what ran in the task was stopped", "end"), ("asked for by user ann", "asked")];
    tale.says(&tale.why(), "stopped", &causes, &[]);
}
