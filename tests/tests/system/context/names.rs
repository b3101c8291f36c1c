//! How projects and tasks are named.

use super::*;

#[test]
fn a_project_that_the_environment_names_beats_the_folder() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    std::fs::create_dir_all(root.path().join("q")).unwrap();
    let mut command = root.command(&["bus", "discover", "--json"]);
    command.env("JRUN_PROJECT_ID", "q").current_dir(root.tree().task(&task).folder());
    let found = Done::of(command.output().unwrap(), &[]);
    let json: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!((json["project_id"].as_str(), json["task_id"].as_str()), (Some("q"), None), "{found:?}");
}

#[test]
fn a_task_may_be_named_with_its_project_everywhere() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let full = task.to_string();
    for args in [
        vec!["status", full.as_str()],
        vec!["status", "--task", full.as_str()],
        vec!["output", "--task", full.as_str()],
        vec!["bus", "post", "--task", full.as_str(), "--body", "x"],
        vec!["replay", full.as_str()],
        vec!["stop", "--task", "p/one"],
    ] {
        let done = root.run(&args);
        assert_eq!(done.code, 0, "{done:?}");
    }
    let slip = root.run(&["job", "--task", "feature/login", "--agent", "shell", "--prompt", "true"]);
    assert!(slip.code == 2 && !root.path().join("feature").exists(), "{slip:?}");
    for args in [
        &["status", "--task", "nope/one"][..],
        &["status", "nope/one"],
        &["stop", "--task", "nope/one"],
        &["output", "--task", "nope/one"],
        &["bus", "post", "--task", "nope/one", "--body", "x"],
    ] {
        let done = root.run(args);
        assert!(done.code == 5 && done.stderr.contains("no project `nope`"), "{done:?}");
    }
    let other = root.run(&["status", "--project", "q", "--task", full.as_str()]);
    assert!(other.code == 2 && other.stderr.contains("names the project `p`"), "{other:?}");
}

#[test]
fn printed_commands_can_be_pasted() {
    let root = Root::new();
    let blank = root.scratch().join("with blank's");
    let named = blank.to_str().unwrap();
    let config = root.scratch().join("c.hcl");
    std::fs::write(&config, "loop { max_restarts = 1 }\n").unwrap();
    let config = config.to_str().unwrap();
    let prompt = ["--project", "p", "--task", "gives-up", "--agent", "shell", "--prompt", "false"];
    let mut args = vec!["task", "--root", named, "--config", config];
    args.extend(prompt);
    let done = root.run(&args);
    assert_eq!(done.code, 3, "{done:?}");
    let at = done.stderr.find("`run-agent why").unwrap_or_else(|| panic!("{done:?}"));
    let printed = done.stderr[at + 1..].split('`').next().unwrap();
    assert!(printed.contains("--root '") && printed.contains("--config "), "{printed}");
    let shell = printed.replacen("run-agent", run_agent_tests::binary().to_str().unwrap(), 1);
    let pasted = root.command(&[]).get_envs().fold(Command::new("sh"), |mut sh, (name, value)| {
        match value {
            Some(value) => sh.env(name, value),
            None => sh.env_remove(name),
        };
        sh
    });
    let mut pasted = pasted;
    let pasted = Done::of(pasted.args(["-c", &shell]).current_dir("/").output().unwrap(), &[]);
    assert_eq!(pasted.code, 0, "{printed}: {pasted:?}");
}

#[test]
fn a_name_that_says_its_project_counts_inside_another() {
    let root = Root::new();
    let _ = root.task_with("here", "true");
    let args = ["job", "--project", "q", "--task", "there", "--agent", "shell", "--prompt", "true"];
    assert_eq!(root.run(&args).code, 0);
    let inside = root.path().join("p");
    for command in [&["status", "q/there"][..], &["watch", "q/there"], &["replay", "q/there"]] {
        let done = Done::of(root.command(command).current_dir(&inside).output().unwrap(), command);
        assert_eq!(done.code, 0, "{done:?}");
    }
}

#[test]
fn a_name_in_the_wrong_place_is_answered_with_where_it_goes() {
    let root = Root::new();
    let _ = root.task_with("login", "true");
    for (args, told) in [
        (&["stop", "login"][..], "--task login"),
        (&["resume", "login"], "--task login"),
        (&["bus", "read", "login"], "--task login"),
        (&["wait", "login"], "is a task, and a run is wanted"),
        (&["output", "login"], "is a task, and a run is wanted"),
        (&["status", "log"], "did you mean `login`?"),
    ] {
        let done = root.run(args);
        assert!(done.code != 0 && done.stderr.contains(told), "{done:?}");
    }
}
