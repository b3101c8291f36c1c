//! Why runs stand as they do.

use super::*;
use crate::event::{Parked, Silence, SupervisorRestart};
use crate::plan::reason::TIME_LIMIT;

fn idle(silent_s: u64) -> Event {
    Event::RunIdle(Silence { silent_s })
}

fn timer() -> Cause {
    Cause::Timer("idle_after".to_owned())
}

fn job(n: u32) -> Tale {
    let intent = RunIntent { agent: "shell".to_owned(), ..RunIntent::default() };
    Tale::empty().event("intent", Some(n), person(), Event::RunIntent(intent))
}

#[test]
fn a_job_is_running_because_a_person_started_it() {
    let tale = job(1).starts("start", 1);
    let causes = [("is at work", "start"), ("started by user ann", "intent")];
    tale.says(&tale.why(), "running", &causes, &[Some(Act::StopRun(run_id(1)))]);
    assert_eq!(tale.why_run(1).causes, tale.why().causes, "a job's task is what its run is");
}

#[test]
fn a_child_is_running_because_a_run_started_it() {
    let tale = Tale::driven().root(1, 1).child(2, 1);
    let words = format!("by run {}", run_id(1));
    let causes = [("is at work", "child start"), (words.as_str(), "child intent")];
    tale.says(&tale.why_run(2), "running", &causes, &[Some(Act::StopRun(run_id(2)))]);
}

#[test]
fn a_later_attempt_is_running_because_the_one_before_failed() {
    let restart = crate::event::LoopRestart {
        attempt: 2,
        reason: "the agent failed: exit code 3".to_owned(),
        previous_run_id: Some(run_id(1)),
        active_ms: 0,
    };
    let tale = Tale::driven()
        .root(1, 1)
        .fails("crash", 1)
        .event("restart", None, timer(), Event::LoopRestart(restart))
        .root(2, 2);
    let causes = [
        ("(attempt 2) is at work", "start"),
        ("attempt 2: the agent failed", "restart"),
        ("(attempt 1) failed: exit code 3", "crash"),
    ];
    tale.says(&tale.why(), "running", &causes, &[Some(Act::Stop)]);
}

#[test]
fn a_task_of_jobs_is_running_because_of_the_one_at_work_and_names_those_that_wait() {
    let parked = Event::RunParked(Parked { ahead: Some(0) });
    let intent = RunIntent { agent: "shell".to_owned(), ..RunIntent::default() };
    let tale = job(1).starts("start", 1).event("queued", Some(2), person(), Event::RunIntent(intent));
    let tale = tale.event("parked", Some(2), timer(), parked);
    let causes = [("is at work", "start"), ("started by user ann", "intent"), ("waits for a slot", "queued")];
    tale.says(&tale.why(), "running", &causes, &[Some(Act::StopRun(run_id(1)))]);
}

#[test]
fn a_root_run_names_what_it_started_and_may_wait_for() {
    let tale = Tale::driven().root(1, 1).child(2, 1);
    let causes =
        [("is at work", "start"), ("-1-2 of shell is at work", "child start"), ("started", "intent")];
    tale.says(&tale.why(), "running", &causes, &[Some(Act::Stop)]);
}

#[test]
fn a_parked_run_waits_for_a_slot() {
    let tale = job(1).event("parked", Some(1), timer(), Event::RunParked(Parked { ahead: Some(3) }));
    let causes =
        [("other agents to complete: 3 stood before it", "parked"), ("started by user ann", "intent")];
    tale.says(&tale.why(), "queued", &causes, &[None, Some(Act::StopRun(run_id(1)))]);
}

#[test]
fn a_run_that_was_only_made_is_about_to_start() {
    let tale = job(1);
    let causes = [("is about to start", "intent"), ("started by user ann", "intent")];
    tale.says(&tale.why(), "queued", &causes, &[None, Some(Act::StopRun(run_id(1)))]);
}

#[test]
fn a_run_that_was_killed_from_outside_names_the_signal() {
    let end = RunEnd { signal: Some(9), exit_code: Some(137), ..failed("killed by SIGKILL", Some("killed")) };
    let tale = job(1).starts("start", 1).ends("crash", 1, end);
    let causes =
        [("was killed by SIGKILL; nobody asked run-agent", "crash"), ("started by user ann", "intent")];
    tale.says(&tale.why(), "failed", &causes, &[Some(Act::Output(run_id(1)))]);
    assert_eq!(tale.why().since, Timestamp::from_second(3).ok(), "since its end");
}

#[test]
fn a_run_that_failed_names_the_last_line_of_its_errors() {
    let tale = job(1).starts("start", 1);
    let scope =
        Scope { project: tale.key.project.clone(), task: tale.key.task.clone(), run: Some(run_id(1)) };
    let event = Event::RunEnd(failed("exit code 3", Some("crash")));
    let line = "shell failed after 12 ms: exit code 3: no such file\n\nstderr:\n…";
    let tale = tale.message("crash", event.draft(&scope, &Cause::Process("exit:3".to_owned()), line));
    let causes = [("failed: exit code 3: no such file", "crash"), ("started by", "intent")];
    tale.says(&tale.why(), "failed", &causes, &[Some(Act::Output(run_id(1)))]);
}

#[test]
fn a_run_that_was_stopped_names_who_asked() {
    let tale = job(1).starts("start", 1).stop_asked("asked", Some(1)).ends("stop", 1, stopped());
    let causes =
        [("was stopped", "stop"), ("asked for by user ann", "asked"), ("started by user ann", "intent")];
    tale.says(&tale.why(), "stopped", &causes, &[Some(Act::Output(run_id(1)))]);
}

#[test]
fn a_run_that_is_being_stopped_names_who_asked() {
    let tale = job(1).starts("start", 1).stop_asked("asked", Some(1));
    let causes = [("asked for by user ann; its processes get 30 s", "asked"), ("is at work", "start")];
    tale.says(&tale.why(), "running", &causes, &[Some(Act::StopForce)]);
}

#[test]
fn a_run_past_its_own_limit_names_the_limit() {
    let end = failed(&format!("{TIME_LIMIT} of 30s reached"), Some("killed"));
    let tale = job(1).starts("start", 1).ends("crash", 1, RunEnd { signal: Some(15), ..end });
    let causes = [("was ended: time limit of 30s reached", "crash"), ("started by", "intent")];
    tale.says(&tale.why(), "failed", &causes, &[Some(Act::Output(run_id(1)))]);
}

#[test]
fn an_idle_run_is_idle_until_it_lives_again() {
    let tale = job(1).starts("start", 1).event("idle", Some(1), timer(), idle(300));
    let acts = [Some(Act::Output(run_id(1))), Some(Act::StopRun(run_id(1)))];
    let causes = [("is idle: no sign of life since ", "idle"), ("started by", "intent")];
    tale.says(&tale.why(), "running", &causes, &acts);
    let tale = tale.event("active", Some(1), timer(), Event::RunActive(Silence { silent_s: 310 }));
    let causes = [("is at work", "start"), ("started by", "intent")];
    tale.says(&tale.why(), "running", &causes, &acts[1..]);
}

#[test]
fn a_stuck_run_was_ended_for_its_silence() {
    let stuck = Event::RunStuck(Silence { silent_s: 900 });
    let tale = job(1).starts("start", 1).event("stuck", Some(1), timer(), stuck);
    let causes = [("is stuck: no sign of life since ", "stuck"), ("started by", "intent")];
    let acts = [Some(Act::Output(run_id(1))), Some(Act::StopRun(run_id(1)))];
    tale.says(&tale.why(), "running", &causes, &acts);
    let tale = tale.ends("crash", 1, failed("stuck: no sign of life for 900 s", Some("killed")));
    let causes = [
        ("was ended: stuck: no sign of life", "crash"),
        ("silence reached watch.stuck_after", "stuck"),
        ("started by", "intent"),
    ];
    tale.says(&tale.why(), "failed", &causes, &[Some(Act::Output(run_id(1)))]);
}

#[test]
fn a_lost_supervisor_is_named_while_its_agent_goes_on_and_after() {
    let mut tale = job(1).starts("start", 1);
    tale.seen.runs.insert(run_id(1), Life::AgentAlone { pid: 4711 });
    let causes = [("supervisor of run", "start"), ("started by", "intent")];
    let why = tale.why();
    tale.says(&why, "running", &causes, &[None, Some(Act::StopRun(run_id(1)))]);
    assert!(why.summary().contains("its agent (pid 4711) goes on"));
    let tale = tale.ends("crash", 1, RunEnd { exit_code: None, ..failed("supervisor lost", Some("killed")) });
    let causes =
        [("its supervisor was lost, and with it the agent's exit code", "crash"), ("started", "intent")];
    tale.says(&tale.why(), "failed", &causes, &[Some(Act::Output(run_id(1)))]);
}

#[test]
fn a_run_whose_starter_was_killed_never_had_an_agent() {
    let tale = job(1).ends("crash", 1, RunEnd { exit_code: None, ..failed("starter lost", Some("killed")) });
    let causes = [("failed before its agent was started: starter lost", "crash"), ("started", "intent")];
    tale.says(&tale.why(), "failed", &causes, &[]);
}

#[test]
fn a_run_of_another_machine_is_foreign() {
    let mut tale = job(1).starts("start", 1);
    tale.seen.runs.insert(run_id(1), Life::Foreign);
    let causes = [("started on another machine", "start"), ("started by", "intent")];
    tale.says(&tale.why(), "running", &causes, &[None, Some(Act::StopRun(run_id(1)))]);
}

#[test]
fn a_run_that_was_taken_over_says_so() {
    let taken = SupervisorRestart {
        reason: "supervisor lost".to_owned(),
        previous_pid: Some(3),
        ..SupervisorRestart::default()
    };
    let tale = job(1).starts("start", 1).event("taken", Some(1), person(), Event::SupervisorRestart(taken));
    let causes =
        [("is at work", "start"), ("taken over: supervisor lost", "taken"), ("started by", "intent")];
    tale.says(&tale.why(), "running", &causes, &[Some(Act::StopRun(run_id(1)))]);
}

#[test]
fn a_run_that_asks_waits_for_its_answer() {
    let tale = job(1).starts("start", 1).post("question", Kind::QUESTION, Some(1), "may I?\nreally");
    let causes = [
        ("waits for an answer", "start"),
        ("it asks: may I?", "question"),
        ("started by user ann", "intent"),
    ];
    let answer = Act::Answer(tale.labels["question"].clone());
    tale.says(&tale.why_run(1), "running", &causes, &[Some(answer), Some(Act::StopRun(run_id(1)))]);
}

#[test]
fn an_entry_that_cannot_be_read_any_more_leaves_an_answer_without_evidence() {
    let mut tale = job(1).starts("start", 1).fails("crash", 1);
    tale.messages.clear();
    tale.labels.clear();
    tale.says(&tale.why(), "failed", &[("failed: exit code 3", "")], &[Some(Act::Output(run_id(1)))]);
}
