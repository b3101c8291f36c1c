//! A task that comes to DONE, with a child of another kind of agent that asks a question.

use run_agent_core::RunId;
use run_agent_core::world::{RunStatus, TaskStatus};
use run_agent_tests::processes_of;

use super::of_each_cli;
use super::rig::{Cli, NOBODY, Rig};

of_each_cli![
    it_posts_delegates_answers_its_child_and_says_done,
    an_ordinary_user_has_its_task_done,
    its_last_message_is_the_output_with_blanks_and_code_blocks,
];

/// The root waits for the question as an agent does that cannot block for long.
const ANSWER: &str = r#"until question=$(run-agent inbox --json | grep -o 'MSG-[0-9A-Za-z-]*' | head -n 1) && [ -n "$question" ]; do sleep 0.2; done
run-agent bus post --type ANSWER --parent "$question:answers" --body left
"#;

const CHILD: &str = "@fake usage in=100 out=10 cached=20
@fake tool run-agent ask 'left or right?' --wait 90s > answer
@fake reply the child went its way
";

fn prompt(cli: &Cli) -> String {
    format!(
        "@fake usage in=1000 out=50 cached=200\n\
         @fake tool run-agent bus post --type FACT --body 'from the shell tool'\n\
         @fake tool run-agent job --detach --agent {} --prompt-file child.md > child\n\
         @fake tool sh answer.sh\n\
         @fake tool xargs -I RUN run-agent wait RUN --wait 90s < child\n\
         @fake tool setsid sleep 600 >/dev/null 2>&1 &\n\
         @fake tool run-agent done --message 'all is well'\n\
         @fake reply the work is finished\n",
        cli.other
    )
}

fn with_files(rig: &Rig) {
    std::fs::write(rig.root.scratch().join("child.md"), CHILD).unwrap();
    std::fs::write(rig.root.scratch().join("answer.sh"), ANSWER).unwrap();
}

fn it_posts_delegates_answers_its_child_and_says_done(cli: &'static Cli) {
    let Some(rig) = Rig::of(cli, "") else { return };
    works(&rig);
}

fn an_ordinary_user_has_its_task_done(cli: &'static Cli) {
    let Some(rig) = Rig::of(cli, "") else { return };
    with_files(&rig);
    if let Some(rig) = rig.owned_by(NOBODY) {
        works(&rig);
    }
}

fn works(rig: &Rig) {
    let cli = rig.cli;
    with_files(rig);
    let done = rig.task(&prompt(cli));
    assert_eq!(done.code, 0, "{done:?}\n{}", rig.state());
    let name = rig.root.only_task();
    let view = rig.root.view(&name);
    assert_eq!((view.task().status(), view.task().ralph.restarts), (TaskStatus::Completed, 0));
    let bodies: Vec<_> = rig.messages().into_iter().map(|m| m.content.body).collect();
    assert!(bodies.iter().any(|body| body == "from the shell tool"), "{bodies:?}");
    let answer = std::fs::read_to_string(rig.root.scratch().join("answer")).unwrap();
    assert!(answer.contains("left"), "the child was answered: {answer}");

    let runs: Vec<&RunId> = view.task().runs.keys().collect();
    let [root, child] = runs[..] else { panic!("{runs:?}") };
    let (of_root, of_child) = (&view.task().runs[root], &view.task().runs[child]);
    assert_eq!((of_child.parent.as_ref(), of_child.depth), (Some(root), 1));
    assert_eq!((of_root.agent.as_str(), of_child.agent.as_str()), (cli.name, cli.other));
    assert_eq!((of_root.status(), of_child.status()), (RunStatus::Completed, RunStatus::Completed));
    let (end, _) = of_root.end().unwrap();
    assert!(end.left_overs.as_ref().is_some_and(|left| left.starts_with("sleep[")), "{end:?}");
    assert_eq!(processes_of(root), [0u32; 0]);
    assert_eq!(processes_of(child), [0u32; 0]);
    assert_eq!(rig.ok(&["output", root.as_str()]), "the work is finished");
    assert_eq!(rig.ok(&["output", child.as_str()]), "the child went its way");
    rig.assert_usage(root, 7, [1000, 50, 200]);
    rig.assert_usage(child, 2, [100, 10, 20]);
}

fn its_last_message_is_the_output_with_blanks_and_code_blocks(cli: &'static Cli) {
    let Some(rig) = Rig::of(cli, "") else { return };
    let reply = r"# Found\n\n  two blanks, then  two more\n\n```rust\nfn main() {\n    let x =  1;\n\n}\n```\n\n- a\n  - b\n\n| a | b |";
    let prompt = format!("@fake chunks 23 0\n@fake tool true\n@fake reply {reply}\n");
    let done = rig.run(&["job", "--project", "p", "--agent", cli.name, "--prompt", &prompt]);
    assert_eq!(done.code, 0, "{done:?}\n{}", rig.state());
    let name = rig.root.only_task();
    let view = rig.root.view(&name);
    let run = view.task().runs.keys().next().unwrap();
    let output = std::fs::read_to_string(rig.root.tree().run(&name, run).output()).unwrap();
    assert_eq!(output.trim_end_matches('\n'), reply.replace(r"\n", "\n"));
}
