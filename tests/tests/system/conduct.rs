//! Conduct: clear errors, exit codes, JSON, closed pipes, broken files.

use std::process::Stdio;

use run_agent_tests::{Done, Root, name, shell_args, until};

/// One clear line and the right exit code.
fn refused(done: &Done, code: i32, words: &[&str]) {
    assert_eq!(done.code, code, "{done:?}");
    assert!(done.stderr.starts_with("error: "), "{done:?}");
    assert_eq!(done.stderr.trim_end().lines().count(), 1, "one line: {done:?}");
    for word in words {
        assert!(done.stderr.contains(word), "`{word}` in {done:?}");
    }
}

#[test]
fn ids_that_could_leave_the_root_are_refused_and_nothing_is_written() {
    let root = Root::new();
    let long = "x".repeat(10_000);
    for bad in
        ["..", "../x", "a/b", "a\\b", "a*", "a\nb", ".hidden", "global", "", "a b", "[x]", long.as_str()]
    {
        for args in [
            vec!["job", "--project", bad, "--agent", "shell", "--prompt", "true"],
            vec!["task", "--project", bad, "--agent", "shell", "--prompt", "true"],
            vec!["bus", "post", "--project", bad, "--body", "x"],
            vec!["list", "--project", bad],
        ] {
            refused(&root.run(&args), 2, &["project id"]);
        }
    }
    for bad in ["../x", "a/b", "a*", "task-20261121-093000-../../x", "a?", "a\u{1b}[31m", long.as_str()] {
        for args in [
            vec!["job", "--project", "p", "--task", bad, "--agent", "shell", "--prompt", "true"],
            vec!["status", "--project", "p", "--task", bad],
        ] {
            let done = root.run(&args);
            assert!(matches!(done.code, 2 | 5), "{bad:?}: {done:?}");
            assert!(!done.stderr.contains('\u{1b}'), "nothing of it reaches the terminal: {done:?}");
        }
    }
    for bad in ["../x", "x", "20261121-0930001234-1-1/../..", ""] {
        refused(&root.run(&["wait", bad]), 2, &["run id"]);
        refused(&root.run(&["stop", "--run", bad]), 2, &["run id"]);
    }
    assert_eq!(root.tree().projects().unwrap_or_default(), [], "no project was made");
    let outside: Vec<_> =
        std::fs::read_dir(root.scratch()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(outside, ["root"], "nothing outside the root");
}

#[test]
fn what_is_not_there_is_5_and_says_what() {
    let root = Root::new();
    let task = root.task_with("real", "true");
    refused(&root.run(&["list", "--project", "pp"]), 5, &["no project `pp`", "did you mean `p`?"]);
    refused(&root.run(&["status", "--task", "reel"]), 5, &["no task `reel`", "did you mean `real`?"]);
    refused(&root.run(&["wait", "20261121-0930001234-1-1"]), 5, &["no run"]);
    refused(&root.run(&["bus", "read", "--task", "real", "--since", "MSG-x"]), 5, &["no message MSG-x"]);
    refused(&root.run(&["ask", "--resume", "MSG-x", "--task", "real"]), 5, &["no message MSG-x"]);
    refused(
        &root.run(&["job", "--project", "p", "--agent", "nobody", "--prompt", "x"]),
        5,
        &["no agent `nobody`", "shell"],
    );
    refused(
        &root.run(&["job", "--project", "p", "--prompt", "x"]),
        5,
        &["looked for claude, codex, gemini", "--agent"],
    );
    assert_eq!(root.ok(&["status", "--task", "real", "--json"]).lines().count(), 1);
    assert_eq!(root.only_task(), task, "nothing was made on the way");
}

#[test]
fn an_empty_prompt_is_refused_and_a_null_stdin_is_no_terminal() {
    let root = Root::new();
    for prompt in ["", "  \n"] {
        refused(
            &root.run(&["task", "--project", "p", "--agent", "shell", "--prompt", prompt]),
            2,
            &["prompt is empty", "--prompt"],
        );
        refused(
            &root.run(&["job", "--project", "p", "--agent", "shell", "--prompt", prompt]),
            2,
            &["prompt is empty"],
        );
    }
    refused(&root.run(&["task", "--project", "p", "--agent", "shell"]), 2, &["prompt is empty"]);
    assert_eq!(root.tree().projects().unwrap(), [], "nothing was made");
    let task = root.task_with("emptied", "true");
    std::fs::write(root.tree().task(&task).prompt(), " \n").unwrap();
    refused(&root.run(&["task", "--task", "emptied", "--agent", "shell"]), 2, &["TASK.md is empty"]);
}

#[test]
fn another_prompt_for_an_existing_task_is_an_error_that_says_so() {
    let root = Root::new();
    let task = root.task_with("prompted", "run-agent done");
    refused(
        &root.run(&["task", "--task", "prompted", "--agent", "shell", "--prompt", "other"]),
        2,
        &["--update-prompt", "TASK.md"],
    );
    assert_eq!(std::fs::read_to_string(root.tree().task(&task).prompt()).unwrap(), "run-agent done");
    let done = root.run(&[
        "task",
        "--task",
        "prompted",
        "--agent",
        "shell",
        "--prompt",
        "run-agent done --message new",
        "--update-prompt",
    ]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(root.count(&task, "TASK_UPDATED"), 1);
}

#[test]
fn a_broken_run_info_fails_nothing_and_is_told_on_its_run() {
    let root = Root::new();
    let task = root.task_with("broken", "true");
    let view = root.view(&task);
    let (id, _) = view.task().runs.iter().next().unwrap();
    let info = root.tree().run(&task, id).info();
    // The supervisor brings the file up to date after it has posted the end.
    let text = || std::fs::read_to_string(&info).unwrap_or_default();
    until("the file tells the end", || text().contains("status: \"completed\"").then_some(()), text);
    for (text, word) in [("{", "not a run-info file"), ("version: 9\nrun_id: x\n", "version 9 is newer")] {
        std::fs::write(&info, text).unwrap();
        let status = root.json(&["status", "--task", "broken", "--json"]);
        assert_eq!(status["status"], "completed");
        assert!(status["notes"][0].as_str().unwrap().contains(word), "{status}");
        assert_eq!(root.run(&["list"]).code, 0);
        assert_eq!(root.run(&["stop", "--run", id.as_str()]).code, 0);
        assert_eq!(root.run(&["status", id.as_str()]).code, 0);
    }
    std::fs::remove_file(&info).unwrap();
    assert!(
        root.json(&["status", "--task", "broken", "--json"])["notes"][0]
            .as_str()
            .unwrap()
            .contains("cannot read")
    );
    assert_eq!(root.run(&["wait", id.as_str()]).code, 0);
}

#[test]
fn an_agent_whose_variables_disagree_is_told_what_disagrees() {
    let root = Root::new();
    let task = root.task_with("caller", "true");
    let call = |run: &str, args: &[&str]| {
        let mut command = root.command(args);
        command.env("JRUN_PROJECT_ID", "p").env("JRUN_TASK_ID", task.task.as_str()).env("JRUN_ID", run);
        Done::of(command.output().unwrap(), args)
    };
    for run in ["20261121-0930001234-1-1", "nonsense"] {
        for args in [&["job", "--agent", "shell", "--prompt", "true"][..], &["done"], &["ask", "x"]] {
            refused(&call(run, args), 2, &[run]);
        }
    }
    assert_eq!(root.view(&task).task().runs.len(), 1);
}

#[test]
fn flags_win_over_variables() {
    let root = Root::new();
    let (own, other) = (root.task_with("own", "true"), root.task_with("other", "true"));
    let mut post = root.command(&["bus", "post", "--task", "other", "--body", "for the other"]);
    post.env("JRUN_PROJECT_ID", "p").env("JRUN_TASK_ID", own.task.as_str());
    post.env("JRUN_MESSAGE_BUS", root.bus(&own));
    assert!(post.output().unwrap().status.success());
    assert!(root.messages(&other).iter().any(|m| m.content.body == "for the other"));
    assert!(!root.messages(&own).iter().any(|m| m.content.body == "for the other"));
}

#[test]
fn a_task_is_found_by_slug_and_prefix_and_an_ambiguous_name_lists_all() {
    let root = Root::new();
    let task = root.task_with("login", "true");
    let _ = root.task_with("logout", "true");
    assert_eq!(root.json(&["status", "login", "--json"])["id"], task.task.as_str());
    assert_eq!(root.json(&["status", "task-20261121-093000-logi", "--json"])["id"], task.task.as_str());
    refused(&root.run(&["status", "task-20261121-093000-log"]), 2, &["several", "login", "logout"]);
}

#[test]
fn a_name_that_several_projects_know_makes_no_new_task() {
    let root = Root::new();
    for project in ["p", "q"] {
        let args = ["job", "--project", project, "--task", "same", "--agent", "shell", "--prompt", "true"];
        assert_eq!(root.run(&args).code, 0);
    }
    for command in ["job", "task"] {
        refused(
            &root.run(&[command, "--task", "same", "--agent", "shell", "--prompt", "true"]),
            2,
            &["several", "p/", "q/"],
        );
    }
    assert_eq!(root.tree().projects().unwrap().len(), 2, "no third project was made");
}

#[test]
fn the_folder_around_the_working_folder_names_project_and_task() {
    let root = Root::new();
    let task = root.task_with("inside", "true");
    let mut status = root.command(&["status", "--json"]);
    status.current_dir(root.tree().task(&task).runs());
    let done = Done::of(status.output().unwrap(), &[]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains(task.task.as_str()));
    refused(&root.run(&["status"]), 2, &["which task?"]);
    refused(&root.run(&["bus", "post", "--body", "x"]), 2, &["which message bus?"]);
}

#[test]
fn every_command_prints_json() {
    let root = Root::new();
    let job = root.json(&["job", "--project", "p", "--agent", "shell", "--prompt", "echo hi", "--json"]);
    assert_eq!((job["status"].as_str(), job["exit_code"].as_i64()), (Some("completed"), Some(0)), "{job}");
    let name = root.only_task();
    let (task, run) = (name.task.as_str(), job["run_id"].as_str().unwrap());
    let detached =
        root.json(&["job", "--task", task, "--agent", "shell", "--prompt", "true", "--json", "--detach"]);
    let waited = root.json(&["wait", detached["run_id"].as_str().unwrap(), "--json"]);
    assert_eq!(
        (waited["still_running"].as_bool(), waited["runs"][0]["status"].as_str()),
        (Some(false), Some("completed"))
    );
    let posted = root.json(&["bus", "post", "--task", task, "--body", "x", "--json"]);
    let read = root.json(&["bus", "read", "--task", task, "--tail", "1", "--json"]);
    assert_eq!(
        (&read["msg_id"], &read["timestamp"], &read["body"]),
        (&posted["msg_id"], &posted["timestamp"], &"x".into())
    );
    assert_eq!(root.json(&["list", "--json"])["items"][0]["id"], task);
    assert_eq!(root.json(&["status", run, "--json"])["run_id"], run);
    assert_eq!(root.json(&["output", run, "--json"])["content"], "hi\n");
    assert_eq!(root.json(&["stop", "--run", run, "--json"])["had_ended"], true);
    assert_eq!(root.json(&["done", "--task", task, "--json"])["done"], true);
    let finished = root.json(&["task", "--task", task, "--agent", "shell", "--json"]);
    assert_eq!(finished["status"], "completed", "{finished}");
    let resumed = root.json(&["resume", "--task", task, "--no-start", "--json"]);
    assert_eq!(resumed["started"], false);
    let question = root.run(&["ask", "x", "--task", task, "--wait", "10ms", "--json"]);
    assert_eq!(question.code, 124);
    assert!(serde_json::from_str::<serde_json::Value>(&question.stdout).unwrap()["answer"].is_null());
    assert_eq!(root.json(&["demo", "--json"])["status"], "completed");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let root = Root::new();
    let task = root.task_with("pipe", "true");
    for n in 0..200 {
        let body = format!("{n} {}", "x".repeat(1000));
        assert_eq!(root.run(&["bus", "post", "--task", "pipe", "--body", &body]).code, 0);
    }
    for args in [
        &["bus", "read", "--task", "pipe", "--tail", "1000"][..],
        &["bus", "follow", "--task", "pipe", "--tail", "1000"],
    ] {
        let mut child = root.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        // A follower notices at its next message.
        let post = root.run(&["bus", "post", "--task", "pipe", "--body", "one more"]);
        assert_eq!(post.code, 0);
        let done = Done::of(child.wait_with_output().unwrap(), args);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    }
    assert_eq!(root.only_task(), task);
}

#[test]
fn output_shows_each_stream_and_both_in_order() {
    let root = Root::new();
    let prompt = "echo one; sleep 0.2; echo two >&2; sleep 0.2; echo three";
    let task = root.task_with("output", prompt);
    let show = |flag: &str| root.ok(&["output", "--task", "output", flag]);
    assert_eq!(show("--stdout"), "one\nthree");
    assert_eq!(show("--stderr"), "two");
    assert_eq!(show("--merged"), "one\ntwo\nthree");
    assert!(show("--prompt").ends_with(prompt));
    assert_eq!(root.ok(&["output", "--task", "output"]), "one\nthree", "what it printed is its answer");
    assert_eq!(root.ok(&["output", "--task", "output", "--tail", "1"]), "three");
    assert_eq!(root.only_task(), task);
    let own = root.run(&[
        "job",
        "--task",
        "output",
        "--agent",
        "shell",
        "--prompt",
        "echo chatter; echo answer > \"$JRUN_RUN_FOLDER/output.md\"",
    ]);
    assert_eq!(own.stdout, "answer\n", "the agent's own file wins: {own:?}");
    let followed = root.run(&["job", "--task", "output", "--agent", "shell", "--follow", "--prompt", prompt]);
    assert_eq!((followed.code, followed.stdout.as_str()), (0, "one\ntwo\nthree\n"), "{followed:?}");
}

#[test]
fn a_configuration_with_a_mistake_is_named() {
    let root = Root::new();
    std::fs::create_dir_all(root.path()).unwrap();
    std::fs::write(root.path().join("config.hcl"), "stop { grase = \"1s\" }\n").unwrap();
    let done = root.run(&["job", "--project", "p", "--agent", "shell", "--prompt", "true"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("config.hcl") && done.stderr.contains("grase"), "{done:?}");
}

#[test]
fn a_root_of_another_store_is_refused() {
    let root = Root::new();
    std::fs::create_dir_all(root.path().join(".run-agent")).unwrap();
    let store = root.path().join(".run-agent/store.yaml");
    std::fs::write(&store, "version: 1\nbackend: \"other\"\nformat: 1\n").unwrap();
    refused(&root.run(&["list"]), 2, &["the store `other`", "use the version that wrote it"]);
    std::fs::write(&store, "version: 2\nbackend: \"fs\"\n").unwrap();
    refused(&root.run(&["list"]), 2, &["version 2 is newer"]);
    assert_eq!(name("x").project.as_str(), "p");
}

#[test]
fn a_job_that_fails_says_its_last_words_and_where_all_of_them_are() {
    let root = Root::new();
    let task = name("words");
    let prompt = "echo first >&2; echo 'the last words' >&2; echo >&2; exit 3";
    let done = root.run(&shell_args("job", &task, prompt, &[]));
    let run = root.view(&task).task().runs.keys().next().unwrap().clone();
    assert_eq!(done.code, 3, "{done:?}");
    assert!(
        done.stderr.contains("failed: exit code 3: the last words; see") && !done.stderr.contains("first"),
        "{done:?}"
    );
    assert!(done.stderr.contains(&format!("; see run-agent output {run} --merged\n")), "{done:?}");
    let json = root.run(&shell_args("job", &task, prompt, &["--json"]));
    assert_eq!((json.code, json.stderr.as_str()), (3, ""));
}

#[test]
fn a_driver_that_does_not_tell_its_name_is_another_process() {
    let root = Root::new();
    let task = root.task_with("held", "true");
    let lock = std::fs::File::create(root.tree().task(&task).loop_lock()).unwrap();
    lock.lock().unwrap();
    let done = root.run(&["task", "--task", "held", "--agent", "shell"]);
    assert!(
        done.code == 4 && done.stderr.contains("is driven already by another process; follow"),
        "{done:?}"
    );
}
