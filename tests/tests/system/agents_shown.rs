//! What people and programs see of real agents: stand-ins print what those print, and the real tool shows it.

use run_agent_tests::stand_in::{Script, StandIn, claude};
use run_agent_tests::{Root, until};

/// A root whose `claude` does this.
fn with_claude(script: Script) -> Root {
    let root = Root::made();
    StandIn::of(&root, "claude").starts(script).install();
    root
}

fn finished(text: &str) -> Script {
    Script::new()
        .prints(&claude::init())
        .prints(&claude::text(text))
        .prints(&claude::result(text, 12_300, 1_200, 0.05))
}

#[test]
fn an_agents_answer_is_what_the_job_prints() {
    let answer = "Two  blanks.\n\n```sh\n  ls\n```";
    let root = with_claude(finished(answer));
    assert_eq!(root.ok(&["job", "--project", "p", "--agent", "claude", "--prompt", "x"]), answer);
}
