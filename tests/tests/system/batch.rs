//! `job batch`: order, parallelism, and that the same call again goes on wherever it was killed.

use std::collections::BTreeMap;
use std::process::Stdio;

use run_agent_core::world::RunStatus;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Done, Root, kill, name, until};

/// Writes the file, and gives the arguments.
fn batch<'a>(root: &Root, task: &'a TaskName, text: &str) -> Vec<&'a str> {
    std::fs::write(root.scratch().join("b.yaml"), text).unwrap();
    vec!["job", "batch", "--project", "p", "--task", task.task.as_str(), "--spec", "b.yaml"]
}

fn statuses(done: &Done) -> BTreeMap<String, String> {
    let value: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    value["items"].as_array().unwrap().iter().map(|item| (text(&item["id"]), text(&item["status"]))).collect()
}

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    args.iter().chain(more).copied().collect()
}

#[test]
fn what_depends_on_others_comes_behind_them_and_the_rest_runs_at_once() {
    let root = Root::new();
    let task = name("order");
    // `left` and `right` end only when each has seen the other.
    let meet = r#"touch "$JRUN_TASK_FOLDER/$me"; until [ -e "$JRUN_TASK_FOLDER/left" ] && [ -e "$JRUN_TASK_FOLDER/right" ]; do sleep 0.02; done; echo $me >> "$JRUN_TASK_FOLDER/order""#;
    let text = format!(
        "agent: shell\ntasks:\n- {{id: last, depends_on: [left, right], prompt: 'echo last >> \"$JRUN_TASK_FOLDER/order\"'}}\n- id: left\n  prompt: |\n    me=left; {meet}\n- id: right\n  prompt: |\n    me=right; {meet}\n"
    );
    let args = batch(&root, &task, &text);
    let order = root.ok(&with(&args, &["--dry-run"]));
    let ids: Vec<&str> = order.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(ids, ["left", "right", "last", "a"], "{order}");
    assert!(root.tree().projects().unwrap().is_empty(), "a dry run makes nothing");
    let done = root.run(&with(&args, &["--json"]));
    assert_eq!(done.code, 0, "{done:?}");
    let order = std::fs::read_to_string(root.tree().task(&task).folder().join("order")).unwrap();
    assert!(order.ends_with("last\n") && order.lines().count() == 3, "{order}");
}

#[test]
fn a_failure_ends_the_batch_or_only_what_depends_on_it() {
    let root = Root::new();
    let text = "agent: shell\ntasks:\n- {id: bad, prompt: exit 3}\n- {id: after, prompt: 'true', depends_on: bad}\n- {id: other, prompt: 'true', depends_on: first}\n- {id: first, prompt: sleep 0.2}\n";
    let stops = name("stops");
    let done = root.run(&with(&batch(&root, &stops, text), &["--json", "--max-parallel", "1"]));
    let wanted = |pairs: [(&str, &str); 4]| pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(
        statuses(&done),
        wanted([
            ("bad", "failed"),
            ("after", "not_started"),
            ("other", "not_started"),
            ("first", "not_started")
        ])
    );
    let goes_on = name("goes-on");
    let done = root.run(&with(&batch(&root, &goes_on, text), &["--json", "--continue-on-fail"]));
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(
        statuses(&done),
        wanted([("bad", "failed"), ("after", "not_started"), ("other", "completed"), ("first", "completed")])
    );
    assert!(
        done.stderr.contains("bad: failed after") && done.stderr.contains("run-agent output"),
        "{done:?}"
    );
}

#[test]
fn the_same_call_again_leaves_out_what_is_done_and_runs_what_failed_again() {
    let root = Root::new();
    let task = name("again");
    let text = "agent: shell\ntasks:\n- {id: good, prompt: 'echo x >> \"$JRUN_TASK_FOLDER/good\"'}\n- {id: flaky, depends_on: good, prompt: '[ -e \"$JRUN_TASK_FOLDER/mended\" ]'}\n";
    let args = batch(&root, &task, text);
    assert_eq!(root.run(&args).code, 1);
    std::fs::write(root.tree().task(&task).folder().join("mended"), "").unwrap();
    let again = root.run(&args);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(
        again.stderr.contains("good: is done") && again.stderr.contains("this is attempt 2"),
        "{again:?}"
    );
    let third = root.run(&args);
    assert_eq!((third.code, root.view(&task).task().runs.len()), (0, 3), "{third:?}");
    let good = std::fs::read_to_string(root.tree().task(&task).folder().join("good")).unwrap();
    assert_eq!(good, "x\n", "done once");
    // Another prompt is another item.
    let changed = batch(&root, &task, &text.replace("echo x", "echo y"));
    assert_eq!((root.run(&changed).code, root.view(&task).task().runs.len()), (0, 4));
}

#[test]
fn a_batch_that_was_killed_is_joined_where_it_was() {
    let root = Root::new();
    let task = name("killed");
    let text = "agent: shell\ntasks:\n- id: slow\n  prompt: |\n    echo x >> \"$JRUN_TASK_FOLDER/slow\"; until [ -e \"$JRUN_TASK_FOLDER/go\" ]; do sleep 0.02; done\n- {id: next, prompt: 'true', depends_on: slow}\n";
    let args = batch(&root, &task, text);
    for signal in ["KILL", "INT"] {
        let mut first = root.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let slow = root.tree().task(&task).folder().join("slow");
        until("slow is at work", || slow.exists().then_some(()), String::new);
        if signal == "INT" {
            // It listens from before its first look at the stream; what it says shows that it did.
            use std::io::{BufRead, BufReader, Read};
            let mut said = BufReader::new(first.stderr.take().unwrap());
            let mut line = String::new();
            said.read_line(&mut line).unwrap();
            assert!(line.contains("slow: is running already"), "{line}");
            kill(first.id(), "INT");
            assert_eq!(first.wait().unwrap().code(), Some(130));
            said.read_to_string(&mut line).unwrap();
            assert!(line.contains("interrupted; what runs goes on"), "{line}");
        } else {
            first.kill().unwrap();
            first.wait().unwrap();
        }
    }
    let two: Vec<_> = (0..2)
        .map(|_| root.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        .collect();
    std::fs::write(root.tree().task(&task).folder().join("go"), "").unwrap();
    for mut batch in two {
        assert_eq!(batch.wait().unwrap().code(), Some(0));
    }
    let view = root.view(&task);
    assert_eq!(view.task().runs.len(), 2, "joined, not doubled, by two at once");
    assert!(view.task().runs.values().all(|run| run.status() == RunStatus::Completed));
    let slow = std::fs::read_to_string(root.tree().task(&task).folder().join("slow")).unwrap();
    assert_eq!(slow, "x\n");
}

#[test]
fn without_a_task_the_files_name_finds_the_batch_again() {
    let root = Root::new();
    std::fs::write(
        root.scratch().join("Nightly Checks.json"),
        r#"[{"id": 1, "prompt": "true", "agent": "shell"}]"#,
    )
    .unwrap();
    let args = ["job", "batch", "--project", "p", "--spec", "Nightly Checks.json"];
    for _ in 0..2 {
        assert_eq!(root.run(&args).code, 0);
    }
    let task = root.only_task();
    assert!(task.task.slug().starts_with("batch-nightly-checks-"), "{task}");
    assert_eq!(root.view(&task).task().runs.len(), 1);
    // Another folder's file of the same name is another batch.
    let other = root.scratch().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(root.scratch().join("Nightly Checks.json"), other.join("Nightly Checks.json")).unwrap();
    assert_eq!(root.command(&args).current_dir(&other).status().unwrap().code(), Some(0));
    assert_eq!(root.tree().tasks(&task.project).unwrap().len(), 2);
}

#[test]
fn the_folder_of_its_own_is_a_part_of_what_an_item_is_and_the_callers_is_none() {
    let root = Root::new();
    let task = name("folders");
    let (one, two) = (root.scratch().join("one"), root.scratch().join("two"));
    for folder in [&one, &two] {
        std::fs::create_dir(folder).unwrap();
    }
    let spec = root.scratch().join("b.yaml");
    for (cwd, runs) in [("one", 1), ("two", 2), ("one/../one", 2)] {
        let text = format!("- {{id: a, prompt: 'true', agent: shell, cwd: {cwd}}}\n");
        assert_eq!(root.run(&batch(&root, &task, &text)).code, 0);
        assert_eq!(root.view(&task).task().runs.len(), runs, "in {cwd}");
    }
    // In a project without a root folder the caller's is worked in, and the batch is the same from everywhere.
    let args = batch(&root, &task, "- {id: b, prompt: pwd, agent: shell}\n");
    let args: Vec<&str> =
        args.iter().map(|arg| if *arg == "b.yaml" { spec.to_str().unwrap() } else { arg }).collect();
    for folder in [&one, &two] {
        let done = root.command(&args).current_dir(folder).output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        assert_eq!(root.view(&task).task().runs.len(), 3, "from {}", folder.display());
    }
    let run = root.view(&task).task().runs.keys().next_back().unwrap().clone();
    assert_eq!(root.ok(&["output", run.as_str(), "--stdout"]), one.to_str().unwrap());
}

#[test]
fn a_project_that_the_batch_makes_has_its_folder_from_the_first_call_on() {
    let root = Root::new();
    let top = root.scratch().join("repo");
    std::fs::create_dir_all(top.join(".git")).unwrap();
    std::fs::create_dir(top.join("below")).unwrap();
    std::fs::write(top.join("b.yaml"), "- {id: a, prompt: pwd, agent: shell}\n").unwrap();
    for _ in 0..2 {
        let args = ["job", "batch", "--spec", "../b.yaml"];
        let done = Done::of(root.command(&args).current_dir(top.join("below")).output().unwrap(), &args);
        assert_eq!(done.code, 0, "{done:?}");
    }
    let view = root.view(&root.only_task());
    assert_eq!(view.task().runs.len(), 1);
    let run = view.task().runs.keys().next().unwrap();
    assert_eq!(root.ok(&["output", run.as_str(), "--stdout"]), top.to_str().unwrap());
}

#[test]
fn a_batch_comes_from_a_pipe_and_by_a_link_as_well() {
    let root = Root::new();
    let text = "- {id: a, prompt: 'true', agent: shell}\n";
    let file = root.scratch().join("b.yaml");
    std::fs::write(&file, text).unwrap();
    std::os::unix::fs::symlink(&file, root.scratch().join("link.yaml")).unwrap();
    for spec in ["b.yaml", "link.yaml"] {
        assert_eq!(root.run(&["job", "batch", "--project", "p", "--spec", spec]).code, 0);
    }
    assert_eq!(root.view(&root.only_task()).task().runs.len(), 1, "one file is one batch");
    for more in [&[][..], &["--task", "piped"]] {
        let args = [&["job", "batch", "--project", "p", "--spec", "/dev/stdin"][..], more].concat();
        let mut piped = root.command(&args);
        let mut piped =
            piped.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut piped.stdin.take().unwrap(), text.as_bytes()).unwrap();
        let done = Done::of(piped.wait_with_output().unwrap(), &args);
        assert_eq!(done.code, 0, "{done:?}");
    }
}

#[test]
fn the_way_to_go_on_can_be_typed_from_anywhere() {
    let root = Root::new();
    let folder = root.scratch().join("a folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("sp ec.yaml"), "- {id: a, prompt: 'false', agent: shell}\n").unwrap();
    let args = ["job", "batch", "--project", "p", "--spec", "sp ec.yaml"];
    let done = Done::of(root.command(&args).current_dir(&folder).output().unwrap(), &args);
    let wanted = format!("--spec '{}'", folder.join("sp ec.yaml").display());
    assert!(done.code == 1 && done.stderr.trim_end().ends_with(&wanted), "{done:?}");
}

#[test]
fn a_batch_inside_an_agent_makes_children_of_its_run() {
    let root = Root::new();
    std::fs::write(root.scratch().join("b.yaml"), "- {id: a, prompt: 'true', agent: shell}\n").unwrap();
    let task =
        root.task_with("inside", &format!("run-agent job batch --spec {}/b.yaml", root.scratch().display()));
    let view = root.view(&task);
    let children: Vec<_> = view.task().runs.values().filter(|run| run.parent.is_some()).collect();
    assert_eq!((view.task().runs.len(), children.len()), (2, 1));
}

#[test]
fn a_wrong_file_is_told_with_its_line_before_anything_is_made() {
    let root = Root::new();
    let task = name("wrong");
    for (text, wanted) in [
        (
            "- {id: a, prompt: x, agent: shell}\n- {id: b, promt: x}\n",
            "b.yaml:2: unknown key `promt`; did you mean `prompt`?",
        ),
        ("- {id: a, prompt: x, agent: shel}\n", "b.yaml:1: no agent `shel`"),
        (
            "- {id: a, prompt: x, agent: shell, depends_on: a}\n",
            "b.yaml:1: these depend on each other in a circle: a → a",
        ),
        ("- id: a\n  prompt: x\n  agent: shell\n  cwd: nowhere\n", "b.yaml:4: the agent's working folder"),
    ] {
        let done = root.run(&batch(&root, &task, text));
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.contains(wanted), "{wanted}: {done:?}");
    }
    assert!(root.tree().projects().unwrap().is_empty());
    let text = "- {id: a, prompt: x, agent: shel}\n- {id: b, prompt: x, agent: shell, cwd: nowhere}\n";
    let two = root.run(&batch(&root, &task, text)).stderr;
    assert!(
        two.contains("b.yaml:1: no agent `shel`") && two.contains("\nb.yaml:2: the agent's working"),
        "{two}"
    );
    let both = root.run(&["job", "--prompt", "x", "batch", "--spec", "b.yaml"]);
    assert_eq!(both.code, 2, "{both:?}");
}

#[test]
fn files_that_never_end_are_read_to_a_limit() {
    let root = Root::new();
    let task = name("endless");
    for done in [
        root.run(&batch(&root, &task, "- {id: a, prompt_file: /dev/zero, agent: shell}\n")),
        root.run(&["job", "batch", "--project", "p", "--spec", "/dev/zero"]),
        root.run(&["job", "--project", "p", "--agent", "shell", "--prompt-file", "/dev/zero"]),
    ] {
        assert_eq!((done.code, done.stderr.contains("bytes, the most that is read")), (2, true), "{done:?}");
    }
}

#[test]
fn lucky_items_take_turns() {
    let root = Root::made();
    let agent = |name: &str| format!("agent \"{name}\" {{\n type = \"command\"\n argv = [\"true\"]\n}}\n");
    let config = format!("agents {{ order = [\"a\", \"b\"] }}\n{}{}", agent("a"), agent("b"));
    std::fs::write(root.path().join("config.hcl"), config).unwrap();
    let task = name("turns");
    let text =
        "agent: lucky\ntasks:\n- {id: one, prompt: x}\n- {id: two, prompt: x}\n- {id: three, prompt: x}\n";
    let args = with(&batch(&root, &task, text), &["--json", "--max-parallel", "1"]);
    let done = root.json(&args);
    let agents: Vec<_> = root.view(&task).task().runs.values().map(|run| run.agent.clone()).collect();
    assert_eq!(agents, ["a", "b", "a"]);
    assert_eq!(done["items"][1]["agent"], "b", "{done}");
    let again = root.json(&args);
    assert!(again["items"].as_array().unwrap().iter().all(|item| item["done_before"] == true), "{again}");
}
