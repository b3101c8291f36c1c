//! What comes from outside: words that are no text, values without end, pipes where a file is looked for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use run_agent_tests::{Done, Root};

fn with(root: &Root, args: &[&str], word: &[u8]) -> Done {
    Done::of(root.command(args).arg(OsStr::from_bytes(word)).output().unwrap(), args)
}

/// A named pipe that nobody writes to.
fn pipe(path: &std::path::Path) {
    let _ = std::fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// The command under a limit: whoever waits for a pipe waits for ever.
fn in_time(root: &Root, args: &[&str]) -> Done {
    let mut limited = Command::new("timeout");
    limited.arg("20").arg(run_agent_tests::binary()).args(args);
    for (name, value) in root.command(&[]).get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let done = Done::of(limited.current_dir(root.scratch()).output().unwrap(), args);
    assert_ne!(done.code, 124, "{done:?}");
    done
}

#[test]
fn words_that_are_no_text_are_wrong_usage_and_no_panic() {
    let root = Root::new();
    for args in [&["nosuch"][..], &["list", "--nosuch"], &["--json", "nosuch"], &["bus", "post", "--type"]] {
        let done = with(&root, args, b"\xff\xfe");
        assert!(done.code == 2 && !done.stderr.contains("panicked"), "{done:?}");
    }
}

#[test]
fn a_root_that_is_no_text_is_shown_as_near_as_can_be() {
    let root = Root::new();
    let odd = root.scratch().join(OsStr::from_bytes(b"odd-\xff"));
    std::fs::create_dir_all(odd.join("p")).unwrap();
    let post = ["bus", "post", "--project", "p", "--body", "x"];
    assert_eq!(Done::of(root.command(&post).env("JRUN_ROOT", &odd).output().unwrap(), &post).code, 0);
    for args in [&["bus", "discover", "--project", "p", "--json"][..], &["config", "path", "--json"]] {
        let done = Done::of(root.command(args).env("JRUN_ROOT", &odd).output().unwrap(), args);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.stdout.contains("odd-\u{fffd}"), "{done:?}");
    }
}

#[test]
fn an_empty_time_limit_of_the_environment_is_none_and_zero_is_no_limit() {
    let root = Root::new();
    let job = ["job", "--project", "p", "--agent", "shell", "--prompt", "sleep 0.3"];
    let run = |more: &[&str], variable: &str| {
        let args: Vec<&str> = job.iter().chain(more).copied().collect();
        Done::of(root.command(&args).env("JRUN_AGENT_TIMEOUT", variable).output().unwrap(), &args)
    };
    assert_eq!(run(&[], "").code, 0);
    assert_eq!(run(&["--timeout", "0"], "").code, 0);
    assert_eq!(run(&["--timeout", "0"], "10ms").code, 0, "a flag beats the variable");
    assert_eq!(run(&[], "10ms").code, 124);
    let wrong = run(&[], "soon");
    assert!(wrong.code == 2 && wrong.stderr.contains("JRUN_AGENT_TIMEOUT: `soon`"), "{wrong:?}");
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_waited_for_by_nobody() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    pipe(&root.path().join("config.hcl"));
    let post = ["bus", "post", "--task", "one", "--body", "x"];
    assert_eq!(in_time(&root, &post).code, 0, "a broken configuration costs nobody the bus");
    let told = in_time(&root, &["config", "show"]);
    assert!(told.code == 2 && told.stderr.contains("not a regular file"), "{told:?}");
    std::fs::remove_file(root.path().join("config.hcl")).unwrap();
    pipe(&root.tree().task(&task).prompt());
    let resumed = in_time(&root, &["task", "--task", "one", "--agent", "shell"]);
    assert!(resumed.stderr.contains("not a regular file"), "{resumed:?}");
    pipe(&root.scratch().join(".bashrc"));
    let setup = in_time(&root, &["shell-setup", "install", "--shell", "bash"]);
    assert!(setup.stderr.contains("not a regular file"), "{setup:?}");
    pipe(&root.path().join(".run-agent/store.yaml"));
    assert_eq!(in_time(&root, &post).code, 2);
    // Nor is the default root taken in its stead.
    let mut around = Command::new("timeout");
    around.arg("20").arg(run_agent_tests::binary()).arg("list").env("HOME", root.scratch());
    let around =
        Done::of(around.env_remove("JRUN_ROOT").current_dir(root.path().join("p")).output().unwrap(), &[]);
    assert!(around.code == 2 && around.stderr.contains("not a regular file"), "{around:?}");
}

#[test]
fn errors_hold_nothing_that_a_terminal_acts_on() {
    let root = Root::new();
    for bad in ["\u{1b}[31mred", "a\u{202e}b", "a\u{200b}b", "a\u{7}"] {
        let path = root.scratch().join(bad);
        let path = path.to_str().unwrap();
        for args in [
            vec!["list", "--config", path],
            vec!["config", "validate", path],
            vec!["bus", "post", "--project", "p", "--body", "x", "--attach", path],
        ] {
            let done = root.run(&args);
            assert_ne!(done.code, 0);
            assert!(!done.stderr.contains(['\u{1b}', '\u{202e}', '\u{200b}', '\u{7}']), "{done:?}");
        }
    }
}

#[test]
fn no_error_repeats_a_value_at_full_length() {
    let root = Root::new();
    let long = "x".repeat(100_000);
    let config = root.scratch().join("c.hcl");
    std::fs::write(&config, format!("loop {{ max_restarts = \"{long}\" }}\n")).unwrap();
    for args in [
        vec!["list", "--project", long.as_str()],
        vec!["status", long.as_str()],
        vec!["wait", long.as_str()],
        vec!["list", "--color", long.as_str()],
        vec!["config", "validate", config.to_str().unwrap()],
        vec!["--json", "status", long.as_str()],
    ] {
        let done = root.run(&args);
        assert_ne!(done.code, 0);
        assert!(done.stderr.len() < 2000, "{}", done.stderr.len());
    }
}

#[test]
fn a_pipe_in_the_place_of_a_bus_or_its_lock_is_waited_for_by_nobody() {
    let root = Root::of_markdown();
    let (broken, _sound) = (root.task_with("broken", "true"), root.task_with("sound", "true"));
    let bus = root.tree().layout.bus_file(&broken.key());
    let text = std::fs::read(&bus).unwrap();
    std::fs::remove_file(&bus).unwrap();
    pipe(&bus);
    let listed = in_time(&root, &["list"]);
    assert!(listed.stdout.contains("sound") && listed.stdout.contains("unreadable"), "{listed:?}");
    for args in [
        &["status", "broken"][..],
        &["bus", "read", "--task", "broken"],
        &["bus", "export", "--task", "broken"],
        &["bus", "post", "--task", "broken", "--body", "x"],
    ] {
        let done = in_time(&root, args);
        assert!(done.code == 1 && done.stderr.contains("not a regular file"), "{done:?}");
    }
    std::fs::remove_file(&bus).unwrap();
    std::fs::write(&bus, text).unwrap();
    let lock = bus.with_extension("lock");
    std::fs::remove_file(&lock).unwrap();
    pipe(&lock);
    for args in
        [&["bus", "read", "--task", "broken"][..], &["bus", "post", "--task", "broken", "--body", "x"]]
    {
        let done = in_time(&root, args);
        assert!(done.code == 1 && done.stderr.contains("lock"), "{done:?}");
    }
}

#[test]
fn a_path_stands_whole_in_what_is_said_however_long_it_is() {
    let root = Root::new();
    let part = "a-long-name-".repeat(15);
    let long = root.scratch().join(&part).join(&part).join(&part);
    let long = long.to_str().unwrap();
    let _ = root.ok(&["--root", long, "job", "--project", "p", "--agent", "shell", "--prompt", "true"]);
    for json in [&[][..], &["--json"]] {
        let done = root.run(&[json, &["--root", long, "status", "nosuch"]].concat());
        assert!(done.code == 5 && done.stderr.contains(long), "{done:?}");
    }
    let failed =
        root.run(&["--root", long, "job", "--project", "p", "--agent", "shell", "--prompt", "exit 3"]);
    assert!(failed.stderr.contains(&format!("run-agent --root {long} output ")), "{failed:?}");
}

#[test]
fn a_value_that_begins_with_a_dash_is_taken_or_told_whole() {
    let root = Root::new();
    let _ = root.task_with("dash", "true");
    let _ = root.ok(&["bus", "post", "--task", "dash", "--link", "-x", "--meta", "-k=v", "--body", "x"]);
    for verb in [&["ask"][..], &["bus", "search"]] {
        let done = root.run(&[verb, &["- which?"]].concat());
        assert!(done.code == 2 && done.stderr.contains("use `-- '- which?'`"), "{done:?}");
    }
}

#[test]
fn a_file_in_the_place_of_the_working_folder_is_told_as_one() {
    let root = Root::new();
    let file = root.scratch().join("file");
    std::fs::write(&file, "").unwrap();
    let done = root.run(&[
        "job",
        "--project",
        "p",
        "--agent",
        "shell",
        "--prompt",
        "x",
        "--cwd",
        file.to_str().unwrap(),
    ]);
    assert!(done.code == 2 && done.stderr.contains("file is no folder"), "{done:?}");
}
