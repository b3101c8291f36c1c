//! What each CLI's own shell tool makes of commands that take longer than it waits (`docs/agents.md`): its limit is set to
//! some seconds where it can be set.

use run_agent_core::event::RunOutcome;
use run_agent_core::world::RunStatus;
use run_agent_tests::until;

use super::of_each_cli;
use super::rig::{Cli, Rig};

of_each_cli![a_child_may_live_longer_than_a_tool_call, a_child_outlives_the_tool_call_that_waits_for_it];

/// Longer than every limit that is set in the rig.
const CHILD: &str = "sleep 12; echo it lived > lived";

fn a_child_may_live_longer_than_a_tool_call(cli: &'static Cli) {
    let Some(rig) = Rig::of(cli, "").map(Rig::impatient) else { return };
    // As the preamble says: start, wait for a while, again and again, then read.
    let wait = "@fake tool xargs -I RUN run-agent wait RUN --wait 4s < child; echo code $? >> codes\n";
    let prompt = format!(
        "@fake tool run-agent bus read --tail 20\n\
         @fake tool run-agent bus post --type PROGRESS --body 'what was done'\n\
         @fake tool run-agent job --detach --agent shell --prompt '{CHILD}' > child\n\
         {}@fake tool xargs -I RUN run-agent output RUN < child\n\
         @fake tool run-agent done --message 'all is well'\n\
         @fake reply fine\n",
        wait.repeat(4)
    );
    let done = rig.task(&prompt);
    assert_eq!(done.code, 0, "{done:?}\n{}", rig.state());
    let view = rig.root.view(&rig.root.only_task());
    assert!(view.task().runs.values().all(|run| run.status() == RunStatus::Completed), "{}", rig.state());
    assert_eq!((view.task().runs.len(), view.task().ralph.restarts), (2, 0));
    let codes = std::fs::read_to_string(rig.root.scratch().join("codes")).unwrap();
    // xargs says 123 for every code from 1 to 125.
    assert!(
        codes.starts_with("code 123\n") && codes.ends_with("code 0\n"),
        "still running, and then not: {codes}"
    );
    assert!(rig.root.scratch().join("lived").is_file());
}

fn a_child_outlives_the_tool_call_that_waits_for_it(cli: &'static Cli) {
    let Some(rig) = Rig::of(cli, "").map(Rig::impatient) else { return };
    // What the preamble does not say: to wait in the call that starts the child. The call is cut, the child goes on.
    let prompt =
        format!("@fake tool run-agent job --agent shell --prompt '{CHILD}'\n@fake reply I was cut\n");
    let done = rig.run(&["job", "--project", "p", "--agent", cli.name, "--prompt", &prompt]);
    assert_eq!(done.code, 0, "{done:?}\n{}", rig.state());
    let name = rig.root.only_task();
    let ended = || rig.root.view(&name).task().active().next().is_none().then_some(());
    until("all has ended", ended, || rig.state());
    let view = rig.root.view(&name);
    let runs: Vec<_> = view.task().runs.values().collect();
    assert_eq!((runs.len(), runs[0].status()), (2, RunStatus::Completed), "{}", rig.state());
    if cli.name == "gemini" {
        // It ends whatever descends from the call, and the child's supervisor does while the command waits for it.
        let end = runs[1].end().map(|(end, _)| (end.status, end.error_class.as_deref()));
        assert_eq!(end, Some((RunOutcome::Failed, Some("killed"))), "{}", rig.state());
    } else {
        assert_eq!(runs[1].status(), RunStatus::Completed, "{}", rig.state());
        assert!(rig.root.scratch().join("lived").is_file());
    }
}
