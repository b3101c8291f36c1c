//! Stops: in the middle of a tool call, and of an answer.

use run_agent_core::world::RunStatus;
use run_agent_tests::{processes_of, until};

use super::of_each_cli;
use super::rig::{Cli, Rig};

of_each_cli![
    a_stop_in_the_middle_of_a_tool_call_leaves_no_process,
    a_stop_in_the_middle_of_an_answer_leaves_no_process
];

fn a_stop_in_the_middle_of_a_tool_call_leaves_no_process(cli: &'static Cli) {
    let Some(rig) = Rig::of(cli, "") else { return };
    let run = rig.detached(
        "@fake tool (setsid sleep 601 &) ; (env -i setsid sleep 602 &) ; touch at-work; sleep 600\n@fake reply never said",
    );
    let at_work = rig.root.scratch().join("at-work");
    until("the tool call", || at_work.exists().then_some(()), || rig.state());
    assert_eq!(rig.run(&["stop", "--run", run.as_str()]).code, 0);
    let view = rig.root.view(&rig.root.only_task());
    assert_eq!(view.run(&run).unwrap().status(), RunStatus::Stopped);
    assert_eq!(processes_of(&run), [0u32; 0]);
    let (end, _) = view.run(&run).unwrap().end().unwrap();
    assert_eq!(end.left_overs, None, "nothing was left that could not be ended");
}

fn a_stop_in_the_middle_of_an_answer_leaves_no_process(cli: &'static Cli) {
    let Some(rig) = Rig::of(cli, "") else { return };
    let run = rig.detached("@fake tool touch at-work\n@fake midstall 60\n@fake reply never said to its end");
    let at_work = rig.root.scratch().join("at-work");
    until("the tool call", || at_work.exists().then_some(()), || rig.state());
    assert_eq!(rig.run(&["stop", "--run", run.as_str()]).code, 0);
    let view = rig.root.view(&rig.root.only_task());
    assert_eq!(view.run(&run).unwrap().status(), RunStatus::Stopped);
    assert_eq!(processes_of(&run), [0u32; 0]);
}
