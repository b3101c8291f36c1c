//! Accounts: a limit that is reached is waited for and burns nothing, another agent goes on meanwhile; a refused one is
//! passed over at once.

use run_agent_core::world::TaskStatus;
use run_agent_core::{Message, Timestamp};
use run_agent_tests::stand_in::{Script, StandIn, claude};
use run_agent_tests::until;

use super::{agents_of, codex, root_with, task, told};

fn limited(seconds: i64) -> Script {
    let until = Timestamp::now().as_second() + seconds;
    Script::new()
        .prints(&claude::init())
        .prints(&claude::limited(until))
        .prints(&claude::refused(429, "rate_limit", "You've hit your session limit"))
        .exits(1)
}

fn works() -> Script {
    Script::new().says_done().prints(&claude::init()).prints(&claude::result("all is well", 10, 5, 0.001))
}

#[test]
fn a_limit_is_waited_for_until_its_reset_and_burns_no_restart() {
    let root = root_with(&["claude"], "");
    StandIn::of(&root, "claude").starts(limited(3)).starts(works()).install();
    let done = task(&root, &["--max-restarts", "0"]);
    assert_eq!(done.code, 0, "{done:?}");
    let view = root.view(&root.only_task());
    assert_eq!((view.task().status(), view.task().ralph.restarts), (TaskStatus::Completed, 0));
    assert_eq!(agents_of(&root), ["claude", "claude"]);
    let waiting =
        root.messages(&root.only_task()).into_iter().find(|m| m.content.kind.as_str() == "LOOP_WAITING");
    let waiting = waiting.map(|m| m.content.meta).unwrap_or_default();
    assert_eq!(waiting.get("reason").map(String::as_str), Some("usage_limit"), "{waiting:?}");
    let runs: Vec<_> = view.task().runs.values().collect();
    let until: Timestamp = waiting["until"].parse().unwrap();
    assert_eq!(runs[0].end().unwrap().0.retry_at, Some(until), "as the agent said");
    assert!(runs[1].started().is_some() && done.stderr.contains("waiting until"), "{done:?}");
    assert_eq!(told(&root, "LOOP_BACKOFF"), [""; 0]);
}

#[test]
fn a_rate_that_is_refused_for_hours_is_waited_out_after_one_run() {
    let root = root_with(&["claude"], "");
    let said = "This request would exceed your account's rate limit. Please try again in 2 hours.";
    let refused = Script::new().prints(&claude::init()).prints(&claude::refused(429, "rate_limit", said));
    StandIn::of(&root, "claude").starts(refused.exits(1)).install();
    let id = root.ok(&["task", "--project", "p", "--prompt", "work", "--detach"]);
    let waits = || {
        let reason = |m: Message| m.content.meta.get("reason").cloned();
        let of_kind = |m: &Message| m.content.kind.as_str() == "LOOP_WAITING";
        root.messages(&root.only_task()).into_iter().find(of_kind).and_then(reason)
    };
    let reason = until("the loop waits", waits, || root.run(&["status", "--task", &id]).stdout);
    assert_eq!((reason.as_str(), agents_of(&root).len()), ("usage_limit", 1));
    assert_eq!(root.run(&["stop", "--task", &id]).code, 0);
}

#[test]
fn another_agent_works_while_one_has_reached_its_limit() {
    let root = root_with(&["claude", "codex"], "");
    StandIn::of(&root, "claude").starts(limited(3600)).install();
    StandIn::of(&root, "codex")
        .starts(Script::new().prints(&codex("not yet", 10, 5)))
        .starts(Script::new().says_done().prints(&codex("all is well", 10, 5)))
        .install();
    let done = task(&root, &[]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(agents_of(&root), ["claude", "codex", "codex"], "the limited one is passed over");
    assert_eq!(told(&root, "LOOP_WAITING"), [""; 0]);
    assert_eq!(root.view(&root.only_task()).task().ralph.restarts, 1, "the limit burnt none");
}

#[test]
fn a_refused_account_moves_on_to_the_next_agent_at_once() {
    let root = root_with(&["claude", "codex"], "");
    let refused = claude::refused(401, "authentication_failed", "Invalid API key");
    StandIn::of(&root, "claude")
        .starts(Script::new().prints(&claude::init()).prints(&refused).exits(1))
        .install();
    StandIn::of(&root, "codex")
        .starts(Script::new().says_done().prints(&codex("all is well", 10, 5)))
        .install();
    let done = task(&root, &["--max-restarts", "0"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(agents_of(&root), ["claude", "codex"]);
    assert_eq!((told(&root, "AGENT_DEGRADED").len(), told(&root, "LOOP_BACKOFF").len()), (1, 0));
}

#[test]
fn with_every_account_refused_the_loop_ends_and_says_why() {
    let root = root_with(&["claude"], "");
    let refused = claude::refused(401, "authentication_failed", "Invalid API key");
    StandIn::of(&root, "claude")
        .starts(Script::new().prints(&claude::init()).prints(&refused).exits(1))
        .install();
    let done = task(&root, &[]);
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(root.view(&root.only_task()).task().reason(), "no_agent");
    assert!(done.stderr.contains("claude: auth"), "{done:?}");
}

#[test]
fn trouble_of_the_provider_pauses_and_tries_the_same_agent_again() {
    let root = root_with(&["claude"], "");
    let refused = claude::refused(529, "overloaded", "Overloaded");
    StandIn::of(&root, "claude")
        .starts(
            Script::new()
                .prints(&claude::init())
                .prints(&claude::retry(1, 529, "overloaded"))
                .prints(&refused)
                .exits(1),
        )
        .starts(works())
        .install();
    let done = task(&root, &[]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!((told(&root, "LOOP_BACKOFF").len(), told(&root, "AGENT_DEGRADED").len()), (1, 0));
    assert_eq!(told(&root, "RUN_RETRYING").len(), 1);
    let view = root.view(&root.only_task());
    let first = view.task().runs.values().next().unwrap();
    assert_eq!(first.end().unwrap().0.error_class.as_deref(), Some("overloaded"));
}

#[test]
fn a_rate_that_is_limited_for_hours_is_waited_for_as_a_limit_of_the_account() {
    let root = root_with(&["claude"], "");
    let refused = claude::refused(429, "rate_limit", "API rate limit reached. Please try again in 2 hours.");
    StandIn::of(&root, "claude")
        .starts(Script::new().prints(&claude::init()).prints(&refused).exits(1))
        .install();
    let task = root.ok(&["task", "--project", "p", "--prompt", "work", "--detach"]);
    let waits = || (root.view(&root.only_task()).task().status() == TaskStatus::Waiting).then_some(());
    until("the loop waits", waits, || format!("{:#?}", root.messages(&root.only_task())));
    assert_eq!(agents_of(&root), ["claude"]);
    assert_eq!(root.view(&root.only_task()).task().reason(), "usage_limit");
    assert_eq!(root.run(&["stop", "--task", &task]).code, 0);
}

#[test]
fn agents_that_are_passed_over_for_no_time_do_not_fail_for_ever() {
    let root = root_with(&["claude", "codex"], "");
    let path = root.path().join("config.hcl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("agents {\n", "agents {\n  cooldown = \"0s\"\n")).unwrap();
    let refused = claude::refused(401, "authentication_failed", "Invalid API key");
    StandIn::of(&root, "claude")
        .starts(Script::new().prints(&claude::init()).prints(&refused).exits(1))
        .install();
    let failed = r#"{"type":"turn.failed","error":{"message":"unexpected status 401 Unauthorized"}}"#;
    StandIn::of(&root, "codex").starts(Script::new().prints(failed).exits(1)).install();
    let done = task(&root, &[]);
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(root.view(&root.only_task()).task().reason(), "no_agent");
    assert!(agents_of(&root).len() < 12, "{:?}", agents_of(&root));
}
