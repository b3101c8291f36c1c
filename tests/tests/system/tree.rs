//! A delegation tree of several levels, and that the stream alone tells it.

use std::collections::BTreeMap;

use run_agent_core::store::Cursor;
use run_agent_core::world::{RunStatus, TaskStatus};
use run_agent_core::{RunId, World};
use run_agent_tests::{Root, name, shell_args};

/// Each agent writes down who it is; the root starts two children at once, each of those two grandchildren.
const ROOT: &str = r#"
echo "$JRUN_ID ${JRUN_PARENT_ID:-none}" >> "$JRUN_TASK_FOLDER/really.txt"
child='
    echo "$JRUN_ID $JRUN_PARENT_ID" >> "$JRUN_TASK_FOLDER/really.txt"
    grandchild="echo \"\$JRUN_ID \$JRUN_PARENT_ID\" >> \"\$JRUN_TASK_FOLDER/really.txt\"; run-agent bus post --type FACT --body leaf"
    a=$(run-agent job --detach --agent shell --prompt "$grandchild")
    b=$(run-agent job --detach --agent shell --prompt "$grandchild")
    run-agent wait "$a" "$b" --wait 60s
'
a=$(run-agent job --detach --agent shell --prompt "$child")
b=$(run-agent job --detach --agent shell --prompt "$child")
run-agent wait "$a" "$b" --wait 60s
run-agent done --message "all seven"
"#;

#[test]
fn a_tree_of_three_levels_finishes_and_the_stream_alone_tells_it() {
    let root = Root::new();
    let done = root.run(&["task", "--project", "p", "--agent", "shell", "--prompt", ROOT]);
    assert_eq!(done.code, 0, "{done:?}");
    let name = root.only_task();

    // What happened, as the agents themselves wrote it down.
    let really = std::fs::read_to_string(root.tree().task(&name).folder().join("really.txt")).unwrap();
    let really: BTreeMap<RunId, Option<RunId>> = really
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(run, parent)| (RunId::parse(run).unwrap(), RunId::parse(parent).ok()))
        .collect();
    assert_eq!(really.len(), 7, "one root, two children, four grandchildren");

    // What the stream tells, and nothing else.
    let entries =
        root.tree().store.open(&name.key()).unwrap().read(Cursor::START, usize::MAX).unwrap().entries;
    let fold = |entries: &[run_agent_core::Entry]| {
        let mut world = World::new();
        for entry in entries {
            world.apply(&name.key(), entry.at, &entry.message);
        }
        world
    };
    let world = fold(&entries);
    let task = world.task(&name.project, &name.task).unwrap();
    let told: BTreeMap<RunId, Option<RunId>> =
        task.runs.iter().map(|(id, run)| (id.clone(), run.parent.clone())).collect();
    assert_eq!(told, really);
    assert!(task.runs.values().all(|run| run.status() == RunStatus::Completed));
    assert_eq!(task.status(), TaskStatus::Completed);

    assert_eq!(fold(&entries), world, "replaying twice gives equal worlds");
    for cut in 0..entries.len() {
        let mut halves = fold(&entries[..cut]);
        for entry in &entries[cut..] {
            halves.apply(&name.key(), entry.at, &entry.message);
        }
        assert_eq!(halves, world, "a prefix of {cut} and then the rest");
    }
}

#[test]
fn children_of_one_parent_run_at_the_same_time() {
    let root = Root::new();
    // Each of two children ends only when it has seen the other one start.
    let prompt = r#"
        child='touch "$JRUN_TASK_FOLDER/here.$JRUN_ID"; while [ "$(ls "$JRUN_TASK_FOLDER" | grep -c "^here")" -lt 2 ]; do sleep 0.05; done'
        a=$(run-agent job --detach --agent shell --prompt "$child")
        b=$(run-agent job --detach --agent shell --prompt "$child")
        run-agent wait "$a" "$b" --wait 60s
        run-agent done
    "#;
    let done = root.run(&["task", "--project", "p", "--agent", "shell", "--prompt", prompt]);
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn the_demo_shows_what_it_promises() {
    let root = Root::new();
    let done = root.run(&["demo"]);
    assert_eq!(done.code, 0, "{done:?}");
    let name = root.only_task();
    let view = root.view(&name);
    let task = view.task();
    assert_eq!(task.status(), TaskStatus::Completed);
    assert_eq!(
        (task.ralph.attempts, task.ralph.restarts),
        (2, 1),
        "stopped once without DONE, then restarted"
    );
    let by_key: BTreeMap<&str, RunStatus> =
        task.runs.values().filter_map(|run| Some((run.key.as_deref()?, run.status()))).collect();
    let wanted = [
        ("editor", RunStatus::Failed),
        ("editor-again", RunStatus::Completed),
        ("survey", RunStatus::Completed),
        ("writer", RunStatus::Completed),
    ];
    assert_eq!(by_key, wanted.into());
    let messages = root.messages(&name);
    let question = messages.iter().find(|m| m.content.kind.as_str() == "QUESTION").unwrap();
    let answer = messages.iter().find(|m| m.content.kind.as_str() == "ANSWER").unwrap();
    assert_eq!(answer.content.parents[0].msg_id, question.id);
    assert_ne!(answer.content.run, question.content.run, "one child asks, another one answers");
    assert!(done.stdout.contains("A warm hello, world!"), "{done:?}");
    assert!(
        done.stdout.contains("root #2") && done.stdout.contains(root.bus(&name).to_str().unwrap()),
        "{done:?}"
    );
}

#[test]
fn the_output_of_a_task_is_that_of_who_was_given_it() {
    let root = Root::new();
    let _ = root.task_with("fan", "run-agent job --agent shell --prompt 'echo CHILD' >&2; echo ROOT-ANSWER");
    assert_eq!(root.ok(&["output", "--task", "fan"]), "ROOT-ANSWER");
}

#[test]
fn a_run_is_not_let_wait_for_its_own_end() {
    let root = Root::new();
    let task = name("selfish");
    let done = root.run(&shell_args("job", &task, "run-agent wait \"$JRUN_ID\"", &[]));
    assert_eq!(done.code, 2, "{done:?}");
    let run = root.view(&task).task().runs.keys().next().unwrap().clone();
    let said = root.ok(&["output", run.as_str(), "--stderr"]);
    assert!(said.contains("would wait for its own end"), "{said}");
}
