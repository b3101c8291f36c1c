//! `wrap`: a command by hand is a run with its own exit code, signals and stdin, on a terminal and elsewhere.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use run_agent_core::RunId;
use run_agent_core::world::RunStatus;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Done, Root, alive, kill, name, processes_of, text_of, until};

fn args<'a>(task: &'a TaskName, script: &'a str) -> Vec<&'a str> {
    vec!["wrap", "--project", "p", "--task", task.task.as_str(), "--", "sh", "-c", script]
}

/// The command on a terminal of its own, which `script` makes; what the terminal shows comes out of it.
fn on_terminal(root: &Root, args: &[&str]) -> Command {
    let quoted: Vec<String> = args.iter().map(|arg| format!("'{}'", arg.replace('\'', r"'\''"))).collect();
    let inner = root.command(&[]);
    // Without `exec` a shell may stay in between, which takes the terminal's signals too.
    let line = format!("exec '{}' {}", inner.get_program().to_string_lossy(), quoted.join(" "));
    let mut command = Command::new("script");
    command.args(["-qefc", &line, "/dev/null"]).envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?))));
    for (name, _) in inner.get_envs().filter(|(_, value)| value.is_none()) {
        command.env_remove(name);
    }
    command.current_dir(root.scratch()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn only_run(root: &Root, task: &TaskName) -> (RunId, run_agent_core::world::Run) {
    let view = root.view(task);
    assert_eq!(view.task().runs.len(), 1);
    view.task().runs.iter().next().map(|(id, run)| (id.clone(), run.clone())).unwrap()
}

/// Waits until the run has ended, looking as any later process does.
fn ended(root: &Root, task: &TaskName) -> run_agent_core::world::Run {
    until(
        "the run ends",
        || {
            let _ = root.run(&["status", "--task", task.task.as_str()]);
            let (_, run) = only_run(root, task);
            (!run.is_active()).then_some(run)
        },
        || root.run(&["status", "--task", task.task.as_str()]).stdout,
    )
}

#[test]
fn a_command_by_hand_keeps_its_streams_and_its_exit_code() {
    let root = Root::new();
    let task = name("wrapped");
    let script = r#"cat; echo "to stderr" >&2; echo "$JRUN_ID" > "$JRUN_TASK_FOLDER/id"; exit 7"#;
    let mut wrap = root
        .command(&args(&task, script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wrap.stdin.take().unwrap().write_all(b"from \xff stdin\n").unwrap();
    let done = wrap.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(7));
    assert_eq!(done.stdout, b"from \xff stdin\n");
    assert!(String::from_utf8_lossy(&done.stderr).ends_with("to stderr\n"));

    let (id, run) = only_run(&root, &task);
    assert_eq!(text_of(&root.tree().task(&task).folder().join("id")), id.as_str());
    assert_eq!((run.status(), run.end().unwrap().0.exit_code), (RunStatus::Failed, Some(7)));
    let start = root.view(&task).start_of(&id).unwrap();
    assert_eq!((run.agent.as_str(), start.process_ownership.as_str()), ("sh", "managed"));
    let paths = root.tree().run(&task, &id);
    assert_eq!(std::fs::read(paths.stdout()).unwrap(), b"from \xff stdin\n");
    assert_eq!(std::fs::read(paths.stderr()).unwrap(), b"to stderr\n");
    let prompt = std::fs::read_to_string(paths.prompt()).unwrap();
    assert!(prompt.starts_with("sh -c 'cat;") && prompt.contains("Started by hand in"), "{prompt}");
}

#[test]
fn a_command_that_is_not_there_makes_nothing() {
    let root = Root::new();
    let done = root.run(&["wrap", "--project", "p", "--", "no-such-program"]);
    assert_eq!(done.code, 5, "{done:?}");
    assert!(done.stderr.contains("`no-such-program` was found on PATH"), "{done:?}");
    assert!(root.tree().projects().unwrap().is_empty());
}

#[test]
fn each_command_by_hand_is_a_task_of_its_own_unless_one_is_named() {
    let root = Root::new();
    for _ in 0..2 {
        assert_eq!(root.run(&["wrap", "--project", "p", "--", "true"]).code, 0);
    }
    assert_eq!(root.tree().tasks(&name("x").project).unwrap().len(), 2);
}

#[test]
fn ctrl_c_and_a_reader_that_goes_away_reach_the_command() {
    let root = Root::new();
    let task = name("signals");
    let script = r#"trap 'exit 9' INT; echo $$ > "$JRUN_TASK_FOLDER/pid"; while :; do sleep 0.05; done"#;
    let mut wrap = root.command(&args(&task, script)).stderr(Stdio::null()).spawn().unwrap();
    let _ = text_of(&root.tree().task(&task).folder().join("pid"));
    kill(wrap.id(), "INT");
    assert_eq!(wrap.wait().unwrap().code(), Some(9));
    assert_eq!(ended(&root, &task).end().unwrap().0.exit_code, Some(9));

    let mut yes =
        root.command(&["wrap", "--project", "p", "--", "yes"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut head = [0; 4];
    yes.stdout.take().unwrap().read_exact(&mut head).unwrap();
    assert_eq!((&head, yes.wait().unwrap().code()), (b"y\ny\n", Some(141)), "it ends as by SIGPIPE");
}

#[test]
fn a_reader_that_is_slow_holds_up_no_signal() {
    let root = Root::new();
    let task = name("slow");
    // More than a pipe holds, so that `wrap` is stuck in writing it.
    let script =
        r#"head -c 300000 /dev/zero; echo $$ > "$JRUN_TASK_FOLDER/pid"; while :; do sleep 0.05; done"#;
    let mut wrap = root.command(&args(&task, script)).stdout(Stdio::piped()).spawn().unwrap();
    let pid: u32 = text_of(&root.tree().task(&task).folder().join("pid")).parse().unwrap();
    kill(wrap.id(), "TERM");
    until("the command is gone", || (!alive(pid)).then_some(()), String::new);
    let mut out = Vec::new();
    wrap.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    assert_eq!((out.len(), wrap.wait().unwrap().code()), (300_000, Some(143)), "and nothing is lost");
}

#[test]
fn a_command_off_the_terminal_survives_a_killed_wrap() {
    let root = Root::new();
    let task = name("survivor");
    let script = r#"echo $$ > "$JRUN_TASK_FOLDER/pid"; while [ ! -f "$JRUN_TASK_FOLDER/go" ]; do sleep 0.05; done; exit 5"#;
    let mut wrap = root.command(&args(&task, script)).stderr(Stdio::null()).spawn().unwrap();
    let pid: u32 = text_of(&root.tree().task(&task).folder().join("pid")).parse().unwrap();
    wrap.kill().unwrap();
    wrap.wait().unwrap();
    assert!(alive(pid));
    std::fs::write(root.tree().task(&task).folder().join("go"), "").unwrap();
    assert_eq!(ended(&root, &task).end().unwrap().0.exit_code, Some(5));
}

#[test]
fn on_a_terminal_the_command_has_the_terminal_in_the_foreground() {
    let root = Root::new();
    let task = name("terminal");
    let script = r#"
        [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo "all three are terminals"
        [ "$(ps -o tpgid= -p $$ | tr -d ' ')" = "$(ps -o pgid= -p $$ | tr -d ' ')" ] && echo "in front"
        read line; echo "read $line"; sleep 300 & echo $! > "$JRUN_TASK_FOLDER/left"; exit 4"#;
    let mut terminal = on_terminal(&root, &args(&task, script)).spawn().unwrap();
    // Kept open: a terminal whose keyboard is gone hangs up.
    let mut keyboard = terminal.stdin.take().unwrap();
    keyboard.write_all(b"hello\n").unwrap();
    let mut shown = String::new();
    terminal.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
    assert_eq!(terminal.wait().unwrap().code(), Some(4), "{shown}");
    for wanted in ["all three are terminals", "in front", "read hello"] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    let (id, run) = only_run(&root, &task);
    assert_eq!((run.status(), run.end().unwrap().0.exit_code), (RunStatus::Failed, Some(4)));
    assert_eq!(root.view(&task).start_of(&id).unwrap().process_ownership, "external");
    let info = std::fs::read_to_string(root.tree().run(&task, &id).info()).unwrap();
    assert!(info.contains("process_ownership: \"external\""), "{info}");
    assert!(root.ok(&["output", id.as_str()]).contains("ran on a terminal"));
    let left: u32 = text_of(&root.tree().task(&task).folder().join("left")).parse().unwrap();
    assert!(run.end().unwrap().0.left_overs.is_none());
    kill(left, "KILL");
}

#[test]
fn ctrl_c_on_the_terminal_reaches_the_command_and_its_end_is_recorded() {
    let root = Root::new();
    let task = name("interrupt");
    let script = r#"trap 'exit 6' INT; echo ready > "$JRUN_TASK_FOLDER/ready"; while :; do sleep 0.05; done"#;
    let mut terminal = on_terminal(&root, &args(&task, script)).spawn().unwrap();
    let mut keyboard = terminal.stdin.take().unwrap();
    let _ = text_of(&root.tree().task(&task).folder().join("ready"));
    keyboard.write_all(b"\x03").unwrap();
    assert_eq!(terminal.wait().unwrap().code(), Some(6));
    assert_eq!(only_run(&root, &task).1.end().unwrap().0.exit_code, Some(6));
}

#[test]
fn a_wrap_that_is_killed_on_its_terminal_has_its_run_closed_once_the_command_is_gone() {
    let root = Root::new();
    let task = name("lost");
    let script = r#"trap '' HUP; echo $$ > "$JRUN_TASK_FOLDER/pid"; while :; do sleep 0.05; done"#;
    let mut terminal = on_terminal(&root, &args(&task, script)).stdout(Stdio::null()).spawn().unwrap();
    let keyboard = terminal.stdin.take();
    let pid: u32 = text_of(&root.tree().task(&task).folder().join("pid")).parse().unwrap();
    let wrap = only_run(&root, &task).1.start().unwrap().supervisor_pid;
    kill(wrap, "KILL");
    until("wrap is gone", || (!alive(wrap)).then_some(()), String::new);
    assert!(alive(pid));
    // A process looks gone when its first thread is; the others hold its lock a moment longer.
    let status = || root.run(&["status", "--task", task.task.as_str()]);
    let told = || status().stdout.contains("its supervisor was lost").then_some(());
    until("the loss is told", told, || format!("{:?}", status()));
    kill(pid, "KILL");
    until("the command is gone", || (!alive(pid)).then_some(()), String::new);
    let lookers: Vec<_> = (0..6)
        .map(|_| {
            root.command(&["status", "--task", task.task.as_str()]).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut looker in lookers {
        looker.wait().unwrap();
    }
    assert_eq!(ended(&root, &task).end().unwrap().0.reason, "supervisor lost");
    assert_eq!(root.count(&task, "RUN_CRASH") + root.count(&task, "RUN_STOP"), 1);
    drop(keyboard);
    let _ = terminal.wait();
}

#[test]
fn a_command_on_a_terminal_is_stopped_like_any_run() {
    let root = Root::new();
    let task = name("stopped");
    let script = r#"echo $$ > "$JRUN_TASK_FOLDER/pid"; while :; do sleep 0.05; done"#;
    let mut terminal = on_terminal(&root, &args(&task, script)).stdout(Stdio::null()).spawn().unwrap();
    let _keyboard = terminal.stdin.take();
    let pid: u32 = text_of(&root.tree().task(&task).folder().join("pid")).parse().unwrap();
    let (id, _) = only_run(&root, &task);
    let _ = root.ok(&["stop", "--run", id.as_str(), "--grace", "5s"]);
    assert!(!alive(pid) && processes_of(&id).is_empty());
    assert_eq!(ended(&root, &task).status(), RunStatus::Stopped);
    assert_eq!(terminal.wait().unwrap().code(), Some(143));
}

#[test]
fn a_command_wrapped_inside_an_agent_is_its_child() {
    let root = Root::new();
    let task = root.task_with("nested", "run-agent wrap --agent inner -- true");
    let view = root.view(&task);
    let (parent, _) = view.task().runs.iter().find(|(_, run)| run.agent == "shell").unwrap();
    let (_, child) = view.task().runs.iter().find(|(_, run)| run.agent == "inner").unwrap();
    assert_eq!((child.parent.as_ref(), child.depth, child.status()), (Some(parent), 1, RunStatus::Completed));
}

#[test]
fn a_kill_of_wrap_at_any_step_on_a_terminal_leaves_a_run_with_one_end() {
    for step in [
        "starter.intent",
        "supervisor.noted",
        "supervisor.shim",
        "supervisor.posted",
        "supervisor.reaped",
        "supervisor.exit_noted",
    ] {
        let root = Root::new();
        let task = name("step");
        let mut command = on_terminal(&root, &args(&task, "exit 3"));
        command.env("RUN_AGENT_FAILPOINT", format!("{step}=kill")).stdout(Stdio::null());
        let mut terminal = command.spawn().unwrap();
        let keyboard = terminal.stdin.take();
        terminal.wait().unwrap();
        drop(keyboard);
        let run = ended(&root, &task);
        assert_eq!(run.status(), RunStatus::Failed, "{step}");
        let noted = (step == "supervisor.exit_noted").then_some(3);
        assert_eq!(run.end().unwrap().0.exit_code, noted, "{step}");
        assert_eq!(root.count(&task, "RUN_CRASH"), 1, "{step}");
    }
}

#[test]
fn the_time_limit_is_told_with_its_own_code() {
    let root = Root::new();
    let done = root.run(&["wrap", "--project", "p", "--timeout", "100ms", "--", "sleep", "60"]);
    assert_eq!((done.code, done.stderr.contains("time limit")), (124, true), "{done:?}");
}

#[test]
fn a_time_limit_of_zero_is_none() {
    let root = Root::new();
    let done = root.run(&["wrap", "--project", "p", "--timeout", "0", "--", "sleep", "0.3"]);
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn a_folder_that_is_no_text_is_refused_before_anything_is_made() {
    use std::os::unix::ffi::OsStrExt;
    let root = Root::new();
    let odd = root.scratch().join(std::ffi::OsStr::from_bytes(b"odd-\xff"));
    std::fs::create_dir_all(odd.join("root")).unwrap();
    let args = ["wrap", "--project", "p", "--", "true"];
    let from = Done::of(root.command(&args).current_dir(&odd).output().unwrap(), &args);
    assert!(from.code == 2 && from.stderr.contains("odd-\u{fffd} has a name that is not UTF-8"), "{from:?}");
    assert!(root.tree().projects().unwrap().is_empty());
    let below = odd.join("root");
    let into = Done::of(root.command(&args).env("JRUN_ROOT", &below).output().unwrap(), &args);
    assert!(into.code == 2 && into.stderr.contains("the storage folder"), "{into:?}");
    assert!(!below.join("p").exists());
}

#[test]
fn a_command_without_the_dashes_is_told_where_they_go() {
    let root = Root::new();
    let done = root.run(&["wrap", "echo", "hi"]);
    assert!(
        done.code == 2 && done.stderr.contains("put `--` before the command: run-agent wrap -- echo"),
        "{done:?}"
    );
    let flag = root.run(&["wrap", "--agnet", "x", "--", "true"]);
    assert!(!flag.stderr.contains("before the command"), "{flag:?}");
}

#[test]
fn a_working_folder_that_was_removed_is_told_as_such() {
    let root = Root::new();
    for verb in ["wrap -- true", "job --agent shell --prompt true", "wrap --project p -- true"] {
        let gone = root.scratch().join("gone");
        std::fs::create_dir(&gone).unwrap();
        let inner = root.command(&[]);
        let script =
            format!("cd {0} && rmdir {0} && exec {1} {verb}", gone.display(), inner.get_program().display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?))));
        let done = Done::of(command.output().unwrap(), &[verb]);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(
            done.stderr.contains("the working folder is not there any more; call from another"),
            "{done:?}"
        );
    }
}
