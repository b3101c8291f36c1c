//! What goes wrong at the provider: the class, what is shown while the CLI tries again, and what the loop does.
//!
//! Some CLIs try again for minutes, or for ever: where their ends are not the point, they are stopped when it is told.

use run_agent_core::world::{RunStatus, TaskStatus};

use super::of_each_cli;
use super::rig::{Cli, Rig};

of_each_cli![
    a_refused_token_moves_on_to_the_next_agent,
    too_many_requests_are_told_and_another_agent_goes_on,
    a_time_to_wait_is_waited_for_and_told,
    an_error_that_passes_costs_no_restart,
    a_connection_that_is_cut_is_told_and_tried_again,
    an_answer_that_stalls_is_given_up_and_tried_again,
];

fn a_refused_token_moves_on_to_the_next_agent(cli: &'static Cli) {
    let Some(rig) = Rig::followed(cli) else { return };
    let done = rig.task("@fake status 401\n");
    assert_eq!(done.code, 0, "{done:?}\n{}", rig.state());
    assert_moved_on(&rig, "auth");
    let name = rig.root.only_task();
    assert_eq!((rig.root.view(&name).task().ralph.restarts, rig.root.count(&name, "LOOP_BACKOFF")), (0, 0));
}

/// The CLI failed once with this class and was passed over, and the next agent did the work.
fn assert_moved_on(rig: &Rig, class: &str) {
    let view = rig.root.view(&rig.root.only_task());
    let agents: Vec<_> = view.task().runs.values().map(|run| run.agent.as_str()).collect();
    assert_eq!(agents, [rig.cli.name, "next"], "{}", rig.state());
    assert_eq!(view.task().status(), TaskStatus::Completed);
    let first = view.task().runs.values().next().unwrap();
    assert_eq!(first.end().unwrap().0.error_class.as_deref(), Some(class), "{}", rig.state());
    assert_eq!(rig.root.count(&rig.root.only_task(), "AGENT_DEGRADED"), 1);
}

fn too_many_requests_are_told_and_another_agent_goes_on(cli: &'static Cli) {
    let Some(rig) = Rig::followed(cli) else { return };
    if cli.name == "opencode" {
        // It tries again for minutes; of its log the provider's words say what for.
        let task = rig.detached_task("@fake status 429\n");
        rig.hears("RUN_RETRYING", "rate_limit");
        return rig.stop(&task);
    }
    let done = rig.task("@fake status 429\n");
    assert_eq!(done.code, 0, "{done:?}\n{}", rig.state());
    assert_moved_on(&rig, "rate_limit");
}

fn a_time_to_wait_is_waited_for_and_told(cli: &'static Cli) {
    let Some(rig) = Rig::followed(cli) else { return };
    let task = rig.detached_task(
        "@fake status 429 x1\n@fake retry-after 8\n@fake tool run-agent done\n@fake reply fine\n",
    );
    rig.hears("RUN_RETRYING", "retrying");
    let ended = rig.run(&["watch", "--task", &task, "--timeout", "60s"]);
    assert_eq!(ended.code, 0, "{ended:?}\n{}", rig.state());
    let view = rig.root.view(&rig.root.only_task());
    assert_eq!(view.task().runs.len(), 1, "the CLI waits by itself: {}", rig.state());
}

fn an_error_that_passes_costs_no_restart(cli: &'static Cli) {
    let Some(rig) = Rig::of(cli, "") else { return };
    let prompt = "@fake status 500 x2\n@fake usage in=1000 out=50 cached=200\n@fake tool run-agent done\n@fake reply fine\n";
    let done = rig.task(prompt);
    assert_eq!(done.code, 0, "{done:?}\n{}", rig.state());
    let view = rig.root.view(&rig.root.only_task());
    assert_eq!((view.task().runs.len(), view.task().ralph.restarts), (1, 0), "{}", rig.state());
    // Codex says nothing of a request whose answer was an error of the server.
    let told = rig.root.count(&rig.root.only_task(), "RUN_RETRYING");
    assert_eq!(told > 0, cli.name != "codex", "{}", rig.state());
    if told > 0 {
        assert!(rig.told("RUN_RETRYING", "answered again").is_some(), "{}", rig.state());
    }
    rig.assert_usage(view.task().runs.keys().next().unwrap(), 2, [1000, 50, 200]);
}

fn a_connection_that_is_cut_is_told_and_tried_again(cli: &'static Cli) {
    let Some(rig) = Rig::of(cli, "") else { return };
    let task = rig.detached_task("@fake cut\n@fake reply this is an answer in several pieces\n");
    if matches!(cli.name, "claude" | "opencode") {
        // The one asks at last for an answer in one piece, and has it; the other tries again for ever.
        rig.hears("RUN_RETRYING", "network");
        return rig.stop(&task);
    }
    rig.hears("LOOP_RESTART", "attempt 2");
    rig.stop(&task);
    let view = rig.root.view(&rig.root.only_task());
    let (end, _) = view.task().runs.values().next().unwrap().end().unwrap();
    assert_eq!(end.error_class.as_deref(), Some("network"), "{}", rig.state());
    assert_eq!(rig.root.count(&rig.root.only_task(), "AGENT_DEGRADED"), 0);
}

fn an_answer_that_stalls_is_given_up_and_tried_again(cli: &'static Cli) {
    let settings = "watch {\n  idle_after = \"4s\"\n  stuck_after = \"8s\"\n}";
    let Some(rig) = Rig::of(cli, settings) else { return };
    let prompt = "@fake midstall 600\n@fake reply this is an answer in several pieces\n";
    // On a busy machine the timers of codex and opencode pass for work: a time limit ends what silence does not.
    let busy = matches!(cli.name, "codex" | "opencode");
    let limit = if busy { "20s" } else { "10m" };
    let args = ["task", "--project", "p", "--prompt", prompt, "--detach", "--timeout", limit];
    let task = rig.ok(&args);
    rig.hears("LOOP_RESTART", "attempt 2");
    assert!(
        busy || rig.told("RUN_IDLE", "").is_some() && rig.told("RUN_STUCK", "").is_some(),
        "{}",
        rig.state()
    );
    rig.stop(&task);
    let view = rig.root.view(&rig.root.only_task());
    assert_eq!(view.task().runs.values().next().unwrap().status(), RunStatus::Failed);
}
