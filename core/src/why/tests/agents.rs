//! Why tasks and runs of real agents stand as they do: budgets, limits of accounts, refused tokens, calls that are tried
//! again.

use super::*;
use crate::event::{AgentDegraded, LoopBudget, LoopWaiting, Retrying, Usd};
use crate::plan::reason;

fn degraded(agent: &str, class: &str) -> Event {
    let until = Timestamp::from_second(900).unwrap();
    Event::AgentDegraded(AgentDegraded { agent: agent.to_owned(), error_class: class.to_owned(), until })
}

fn waiting(reason: &str, until: Option<Timestamp>) -> Event {
    Event::LoopWaiting(LoopWaiting { reason: reason.to_owned(), runs: Vec::new(), until, active_ms: 0 })
}

fn process() -> Cause {
    Cause::Process("runs".to_owned())
}

fn limit() -> Cause {
    Cause::Limit("limits.max_tokens".to_owned())
}

impl Tale {
    fn budget(self, label: &'static str, percent: u32) -> Self {
        let told = LoopBudget {
            percent,
            limit: "limits.max_tokens".to_owned(),
            tokens: u64::from(percent) * 10,
            cost_usd: Some(Usd { micros: 1_200_000 }),
        };
        self.event(label, None, limit(), Event::LoopBudget(told))
    }

    fn retries(self, label: &'static str, class: Option<&str>) -> Self {
        let retrying = Retrying {
            error_class: class.map(str::to_owned),
            http_status: class.and(Some(429)),
            attempt: 3,
            of: Some(10),
            detail: String::new(),
        };
        self.event(label, Some(1), process(), Event::RunRetrying(retrying))
    }
}

#[test]
fn a_run_whose_calls_fail_says_which_retry_it_is_until_they_are_answered() {
    let tale = Tale::driven().root(1, 1).retries("retry", Some("rate_limit"));
    let causes = [
        ("its calls fail since 1970-01-01T00:00:04Z: 429 rate_limit, retry 3 of 10", "retry"),
        ("user ann", "intent"),
    ];
    let why = tale.why();
    tale.says(&why, "running", &causes, &[None, Some(Act::Stop)]);
    assert_eq!(why.reason, "retrying");
    assert!(why.changes[0].text.contains("when its calls are answered again"), "{:?}", why.changes[0]);
    let tale = tale.retries("answered", None);
    tale.says(&tale.why(), "running", &[("is at work", "start"), ("user ann", "intent")], &[Some(Act::Stop)]);
    assert_eq!(tale.why().reason, "");
}

#[test]
fn a_loop_that_waits_for_a_usage_limit_says_until_when_and_what_it_costs() {
    let until = Timestamp::from_second(900).ok();
    let tale = Tale::driven()
        .root(1, 1)
        .ends("crash", 1, failed("the limit is reached", Some("usage_limit")))
        .event("degraded", Some(1), process(), degraded("claude", "usage_limit"))
        .event("waiting", None, process(), waiting(reason::WAIT_USAGE_LIMIT, until));
    let causes = [
        (
            "usage limit of every agent's account that may be started is reached until 1970-01-01T00:15:00Z",
            "waiting",
        ),
        ("agent claude is passed over until 1970-01-01T00:15:00Z: its run failed (usage_limit)", "degraded"),
        ("failed (usage_limit): the limit is reached", "crash"),
    ];
    let why = tale.why();
    tale.says(&why, "waiting", &causes, &[None, Some(Act::Stop)]);
    assert!(why.changes[0].text.ends_with("no restart is spent on it"), "{:?}", why.changes[0]);
}

#[test]
fn a_loop_without_an_agent_that_is_let_in_names_the_agent_and_what_to_do() {
    let tale = Tale::driven()
        .root(1, 1)
        .ends("crash", 1, failed("401 no such key", Some("auth")))
        .event("degraded", Some(1), process(), degraded("claude", "auth"))
        .loop_ends("end", LoopOutcome::Failed, reason::NO_AGENT, process());
    let causes = [
        ("no agent is left", "end"),
        ("agent claude is passed over until 1970-01-01T00:15:00Z: its run failed (auth)", "degraded"),
        ("failed (auth): 401 no such key", "crash"),
    ];
    let why = tale.why();
    tale.says(&why, "failed", &causes, &[None, Some(Act::Output(run_id(1))), Some(Act::Resume)]);
    assert!(why.changes[0].text.starts_with("give agent claude a token"), "{:?}", why.changes[0]);
    let run = tale.why_run(1);
    assert!(run.changes.iter().any(|change| change.text.starts_with("give agent")), "{:?}", run.changes);
}

#[test]
fn a_loop_near_the_end_of_its_budget_says_so_last() {
    let tale = Tale::driven().root(1, 1).budget("budget", 80);
    let causes = [
        ("is at work", "start"),
        ("started by user ann", "intent"),
        ("80 % of the budget are used (limits.max_tokens: 800 tokens and 1.200000 USD)", "budget"),
    ];
    tale.says(&tale.why(), "running", &causes, &[Some(Act::Stop)]);
}

#[test]
fn a_loop_whose_budget_is_used_up_names_it_while_it_stops_and_after() {
    let asked = Stopping { by: "limits.max_tokens".to_owned(), grace_ms: 1000, keep_children: false };
    let tale = Tale::driven().root(1, 1).budget("budget", 100).event(
        "asked",
        None,
        limit(),
        Event::LoopStopping(asked),
    );
    let causes = [
        ("the budget is used up, and what runs is stopped; 1 run has not ended yet", "asked"),
        ("all of the budget is used (limits.max_tokens: 1000 tokens", "budget"),
        ("is at work", "start"),
    ];
    tale.says(&tale.why(), "running", &causes, &[None, Some(Act::StopForce)]);
    let tale =
        tale.ends("stop", 1, stopped()).loop_ends("end", LoopOutcome::Failed, reason::BUDGET, process());
    let causes = [
        ("gave up: its budget is used up", "end"),
        ("all of the budget is used", "budget"),
        ("what ran was stopped for it", "asked"),
        ("was stopped", "stop"),
        ("a stop of the whole task was asked for", "asked"),
    ];
    let why = tale.why();
    tale.says(&why, "failed", &causes, &[Some(Act::Output(run_id(1))), Some(Act::Resume), None]);
}

#[test]
fn a_budget_that_lets_runs_finish_waits_for_them() {
    let tale = Tale::driven().root(1, 1).child(2, 1).completes("root stop", 1).budget("budget", 100).event(
        "waiting",
        None,
        process(),
        waiting(reason::BUDGET, None),
    );
    let causes = [
        ("nothing new is started", "waiting"),
        ("all of the budget is used", "budget"),
        ("is at work", "child start"),
    ];
    let acts = [None, Some(Act::WhyRun(run_id(2))), Some(Act::StopRun(run_id(2)))];
    tale.says(&tale.why(), "waiting", &causes, &acts);
}
