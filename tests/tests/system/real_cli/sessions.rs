//! `loop.session = "resume"`: the next root run takes the conversation up, and what was used before counts once.

use run_agent_core::RunId;
use run_agent_core::world::TaskStatus;

use super::of_each_cli;
use super::rig::{Cli, Rig};

of_each_cli![a_conversation_is_taken_up_and_its_usage_counts_once];

fn a_conversation_is_taken_up_and_its_usage_counts_once(cli: &'static Cli) {
    let settings = "loop {\n  session = \"resume\"\n  restart_delay = \"0s\"\n}";
    let Some(rig) = Rig::of(cli, settings) else { return };
    // The third run says DONE; the script is the same each time. Gemini's tool refuses command substitution.
    let prompt = "@fake usage in=1000 out=50 cached=200\n\
                  @fake tool echo x >> runs; sed -n 3p runs | grep -q x && run-agent done\n\
                  @fake reply as far as I got\n";
    let done = rig.task(prompt);
    assert_eq!(done.code, 0, "{done:?}\n{}", rig.state());
    let name = rig.root.only_task();
    let view = rig.root.view(&name);
    assert_eq!((view.task().status(), view.task().runs.len()), (TaskStatus::Completed, 3), "{}", rig.state());
    let runs: Vec<&RunId> = view.task().runs.keys().collect();
    let sessions: Vec<_> = runs.iter().map(|id| view.task().runs[*id].session_id.clone()).collect();
    assert!(sessions[0].is_some() && sessions.iter().all(|id| *id == sessions[0]), "{sessions:?}");
    for run in runs {
        rig.assert_usage(run, 2, [1000, 50, 200]);
    }
    rig.assert_cost_is_what_it_printed();
}
