//! Supervisors that are killed in the middle of a stream: what was used is told once, by whoever comes after.

use run_agent_core::RunId;
use run_agent_core::world::RunStatus;
use run_agent_runner::files::is_locked;
use run_agent_tests::stand_in::{Script, StandIn};
use run_agent_tests::{Root, alive, kill, text_of, until};

use super::{root_with, step, told};

/// A run that has told of one step, of 1000 tokens in and 10 out, and whose supervisor was killed then.
fn lost(script: Script) -> (Root, RunId, u32) {
    let root = root_with(&["opencode"], "");
    StandIn::of(&root, "opencode").starts(script).install();
    let run = root.ok(&["job", "--project", "p", "--agent", "opencode", "--prompt", "work", "--detach"]);
    let run = RunId::parse(&run).unwrap();
    // Of the session, and of the step.
    let heard = || (told(&root, "RUN_USAGE").len() == 2).then_some(());
    until("the first step is told", heard, || format!("{:?}", root.messages(&root.only_task())));
    let name = root.only_task();
    kill(root.view(&name).start_of(&run).unwrap().supervisor_pid, "KILL");
    let lock = root.tree().run(&name, &run).supervisor_lock();
    until("the lock is free", || (!is_locked(&lock).unwrap()).then_some(()), String::new);
    let agent = text_of(&root.scratch().join("pid")).parse().unwrap();
    (root, run, agent)
}

fn script() -> Script {
    Script::new()
        .does("echo $$ > \"$here/pid\"")
        .prints(&step(1000, 10))
        .waits_for("go")
        .prints(&step(500, 20))
}

fn assert_told_once(root: &Root) {
    let view = root.view(&root.only_task());
    let used =
        (view.task().usage.input_tokens, view.task().usage.output_tokens, view.task().usage.cost_usd.micros);
    assert_eq!(used, (1500, 30, 2000), "{:?}", told(root, "RUN_USAGE"));
}

#[test]
fn who_takes_over_tells_what_was_not_told() {
    let (root, run, _) = lost(script());
    let mut waiter = root.command(&["wait", run.as_str(), "--wait", "60s"]).spawn().unwrap();
    let taken = || (root.count(&root.only_task(), "SUPERVISOR_RESTART") == 1).then_some(());
    until("somebody takes the run over", taken, String::new);
    std::fs::write(root.scratch().join("go"), "").unwrap();
    waiter.wait().unwrap();
    assert_told_once(&root);
}

#[test]
fn who_closes_the_run_tells_what_was_not_told() {
    let (root, run, agent) = lost(script().waits_for("never"));
    std::fs::write(root.scratch().join("go"), "").unwrap();
    let stdout = root.tree().run(&root.only_task(), &run).stdout();
    let printed = || (std::fs::read_to_string(&stdout).unwrap().lines().count() == 2).then_some(());
    until("the second step is printed", printed, String::new);
    kill(agent, "KILL");
    until("the agent is gone", || (!alive(agent)).then_some(()), String::new);
    // Two who look at once, and again: one closes the run.
    let looks = [1, 2].map(|_| root.command(&["status"]).arg(run.as_str()).spawn().unwrap());
    for mut look in looks {
        look.wait().unwrap();
    }
    let _ = root.run(&["list"]);
    assert_told_once(&root);
    assert_eq!(root.view(&root.only_task()).run(&run).unwrap().status(), RunStatus::Failed);
}
