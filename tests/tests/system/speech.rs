//! How commands speak: errors for people and for programs, near names, colours, widths, progress, the log.

use std::process::Command;

use run_agent_core::RunId;
use run_agent_tests::{Done, Root};

/// The error object that a command with `--json` leaves on stderr.
fn error_of(done: &Done) -> serde_json::Value {
    let text = done.stderr.trim_end();
    assert_eq!(text.lines().count(), 1, "one object: {done:?}");
    assert_eq!(done.stdout, "", "{done:?}");
    serde_json::from_str::<serde_json::Value>(text).unwrap_or_else(|e| panic!("{e}: {done:?}"))["error"]
        .take()
}

#[test]
fn an_error_is_one_json_object_where_json_is_asked_for() {
    let root = Root::new();
    let _ = root.task_with("real", "true");
    let run = "20261121-0930001234-1-1";
    for (args, exit, code) in [
        (&["status", "--task", "reel"][..], 5, "unknown_task"),
        (&["list", "--project", "pp"], 5, "unknown_project"),
        (&["wait", run], 5, "unknown_run"),
        (&["job", "--project", "p", "--agent", "shel", "--prompt", "x"], 5, "unknown_agent"),
        (&["bus", "read", "--task", "real", "--since", "MSG-x"], 5, "unknown_message"),
        (&["wait", "nonsense"], 2, "invalid_name"),
        (&["bus", "post", "--task", "real", "--type", "RUN_STOP", "--body", "x"], 2, "refused"),
        (&["job", "--project", "p", "--agent", "shell", "--prompt", " "], 2, "usage"),
        (&["output", "--task", "real", "--tail", "x"], 2, "usage"),
        (&["job", "--detach", "--follow"], 2, "usage"),
        (&["nonsense"], 2, "usage"),
        (&["bus"], 2, "usage"),
        (&[], 2, "usage"),
    ] {
        // The flag counts wherever it stands.
        for args in [[&["--json"], args].concat(), [args, &["--json"]].concat()] {
            let done = root.run(&args);
            let error = error_of(&done);
            assert_eq!((done.code, error["code"].as_str()), (exit, Some(code)), "{done:?}");
            assert_eq!(error["exit"], exit, "{done:?}");
            assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{done:?}");
            assert!(error["candidates"].is_array() && error.get("hint").is_some(), "{done:?}");
        }
    }
}

#[test]
fn a_name_that_is_nearly_right_is_answered_with_the_right_one() {
    let root = Root::new();
    let task = root.task_with("login", "true");
    let run = root.view(&task).task().runs.keys().next().unwrap().clone();
    let mut near = run.to_string();
    let _ = near.pop();
    near.push('7');
    assert!(RunId::parse(&near).is_ok());
    for (args, name) in [
        (vec!["taks"], "task"),
        (vec!["bus", "raed"], "read"),
        (vec!["output", "--folow"], "--follow"),
        (vec!["list", "--project", "pp"], "p"),
        (vec!["status", "--task", "loign"], "login"),
        (vec!["status", &near], run.as_str()),
        (vec!["job", "--project", "p", "--agent", "shel", "--prompt", "x"], "shell"),
        (vec!["list", "--color", "alway"], "always"),
        (vec!["man", "bus-pots"], "bus-post"),
    ] {
        let done = root.run(&args);
        assert!(
            done.stderr.contains("did you mean") && done.stderr.contains(&format!("`{name}`")),
            "{done:?}"
        );
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
        let error = error_of(&root.run(&[args.clone(), vec!["--json"]].concat()));
        assert_eq!(error["candidates"][0], name, "{error}");
    }
    let done = root.run(&["bus", "post", "--task", "login", "--type", "PROGRES", "--body", "x"]);
    assert_eq!((done.code, done.stdout.lines().count()), (0, 1), "own types are legal: {done:?}");
    assert!(done.stderr.contains("note: ") && done.stderr.contains("PROGRESS"), "{done:?}");
    let own = root.run(&["bus", "post", "--task", "login", "--type", "WEATHER", "--body", "x"]);
    assert_eq!(own.stderr, "", "{own:?}");
}

#[test]
fn what_the_screen_shows_of_a_run_is_enough_to_name_it() {
    let root = Root::new();
    let task = root.task_with("short", "echo hi");
    let run = root.view(&task).task().runs.keys().next().unwrap().to_string();
    let short = run.splitn(3, '-').nth(2).unwrap();
    for part in [short, &run[..run.len() - 3]] {
        assert_eq!(root.json(&["status", part, "--json"])["run_id"], run.as_str());
        assert_eq!(root.ok(&["output", part]), "hi");
        assert_eq!(root.run(&["wait", part]).code, 0);
    }
    let _ = root.task_with("other", "true");
    let several = root.run(&["status", "20", "--json"]);
    let error = error_of(&several);
    assert_eq!((several.code, error["code"].as_str()), (2, Some("ambiguous_name")), "{several:?}");
    assert_eq!(error["candidates"].as_array().map(Vec::len), Some(2), "{several:?}");
    assert_eq!(error_of(&root.run(&["status", "1999", "--json"]))["code"], "invalid_name");
}

#[test]
fn colours_follow_the_flag_then_the_environment_then_the_terminal() {
    let root = Root::new();
    let _ = root.task_with("colour", "true");
    let coloured = |args: &[&str], set: &[(&str, &str)]| {
        let mut command = root.command(args);
        command.envs(set.iter().copied());
        let done = Done::of(command.output().unwrap(), args);
        assert_eq!(done.code, 0, "{done:?}");
        done.stdout.contains('\u{1b}')
    };
    for args in [&["list"][..], &["status", "colour"], &["bus", "read", "--task", "colour"], &["--help"]] {
        let with = |flag: &[&'static str]| [args, flag].concat();
        assert!(!coloured(args, &[]), "{args:?}: a pipe is no terminal");
        assert!(coloured(&with(&["--color", "always"]), &[("NO_COLOR", "1")]), "{args:?}");
        assert!(coloured(args, &[("CLICOLOR_FORCE", "1")]), "{args:?}");
        assert!(!coloured(args, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), "{args:?}");
        assert!(!coloured(&with(&["--color=never"]), &[("CLICOLOR_FORCE", "1")]), "{args:?}");
    }
    let json = root.ok(&["status", "colour", "--json", "--color", "always"]);
    assert!(!json.contains('\u{1b}'), "JSON is for programs: {json}");
}

#[test]
fn the_causes_and_the_log_are_told_when_asked_for_and_not_before() {
    let root = Root::new();
    let task = root.task_with("log", "true");
    assert_eq!(root.run(&["list"]).stderr, "");
    assert!(root.run(&["list", "-v"]).stderr.contains("storage folder"));
    let mut command = root.command(&["list"]);
    let done = Done::of(command.env("RUN_AGENT_LOG", "run_agent=debug").output().unwrap(), &[]);
    assert!(done.stderr.contains("DEBUG"), "{done:?}");
    let wrong = Done::of(root.command(&["list"]).env("RUN_AGENT_LOG", "a=b=c").output().unwrap(), &[]);
    assert!(wrong.code == 0 && wrong.stderr.starts_with("warning: RUN_AGENT_LOG"), "{wrong:?}");
    let bus = root.bus_data(&task);
    std::fs::remove_file(&bus).unwrap();
    std::fs::create_dir(&bus).unwrap();
    let plain = root.run(&["bus", "read", "--task", task.task.as_str()]);
    let told = root.run(&["bus", "read", "--task", task.task.as_str(), "--verbose"]);
    assert!(plain.code != 0 && !plain.stderr.contains("caused by"), "{plain:?}");
    assert!(told.stderr.matches("caused by: ").count() > 1, "{told:?}");
}

/// Runs a shell line on a terminal of so many columns, and gives what came to the screen.
fn on_terminal(root: &Root, columns: usize, line: &str) -> String {
    let shell = format!("stty cols {columns} rows 40; {line}");
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &shell, "/dev/null"]).stdin(std::process::Stdio::null());
    for (name, value) in root.command(&[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let path = format!(
        "{}:{}",
        run_agent_tests::binary().parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = command.env("PATH", path).env("TERM", "xterm").output().unwrap();
    String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n")
}

/// The text without colours.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            let _ = chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            out.push(c);
        }
    }
    out
}

#[test]
fn tables_fit_the_terminal_and_times_are_relative_there() {
    let root = Root::new();
    let _ = root.task_with("wide", "true # 日本語の題 and a title that is longer than any terminal is wide");
    for columns in [30, 60, 80, 200] {
        let text = on_terminal(&root, columns, "run-agent list");
        assert!(text.contains('\u{1b}'), "a terminal has colours: {text:?}");
        for line in plain(&text).lines() {
            // A wide character takes two columns.
            let width: usize = line.chars().map(|c| if c > '\u{2fff}' { 2 } else { 1 }).sum();
            assert!(width <= columns, "{columns}: {line:?}");
        }
        assert!(plain(&text).contains("wide"), "the end of the name stays: {text:?}");
        assert_eq!(text.contains("ago") || text.contains("now"), columns > 30, "{text:?}");
    }
    let piped = root.ok(&["list"]);
    assert!(piped.contains("longer than any terminal") && piped.contains("Z  "), "{piped}");
}

#[test]
fn an_inbox_fits_the_terminal_and_keeps_the_id_that_an_answer_needs() {
    let root = Root::new();
    let task = root.task_with("asks", "true");
    let question = "may I drop the table that nobody has read from for as long as anybody can remember?";
    let place = ["--task", task.task.as_str()];
    let _ = root
        .ok(&[&["bus", "post", "--type", "QUESTION", "--blocking", "--body", question][..], &place].concat());
    for columns in [50, 80, 200] {
        let text = plain(&on_terminal(&root, columns, "run-agent inbox 2>/dev/null"));
        assert!(text.lines().all(|line| line.chars().count() <= columns), "{columns}: {text}");
        assert!(text.contains("PID") && text.contains("-0001"), "{columns}: {text}");
    }
    assert!(plain(&on_terminal(&root, 60, "run-agent list")).contains("ASKS"));
}

#[test]
fn a_wait_is_shown_on_a_terminal_and_leaves_nothing_behind() {
    let root = Root::new();
    let line = "run-agent job --project p --agent shell --prompt 'sleep 1; echo the answer'";
    let text = on_terminal(&root, 80, line);
    assert!(text.contains("waiting for run"), "{text:?}");
    let at_end = text.rsplit("\r\u{1b}[K").next().unwrap();
    assert_eq!(at_end, "the answer\n", "the line is erased before the result: {text:?}");
    let piped = root.run(&["job", "--project", "p", "--agent", "shell", "--prompt", "true"]);
    assert!(!piped.stderr.contains('\r') && !piped.stderr.contains("waiting"), "{piped:?}");
}

#[test]
fn the_live_story_says_each_thing_once() {
    let root = Root::new();
    let done = root.run(&["task", "--project", "p", "--agent", "shell", "--prompt", "run-agent done"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("RUN_START") && !done.stderr.contains("RUN_INTENT"), "{done:?}");
    assert!(root.messages(&root.only_task()).iter().any(|m| m.content.kind.as_str() == "RUN_INTENT"));
}

/// What stands on the screen when lines that are drawn again are wiped out.
fn screen(text: &str) -> String {
    let mut shown = String::new();
    for (n, piece) in text.split("\r\u{1b}[K").enumerate() {
        if n > 0 {
            shown.truncate(shown.rfind('\n').map_or(0, |end| end + 1));
        }
        shown.push_str(piece);
    }
    plain(&shown)
}

#[test]
fn text_that_is_followed_on_a_terminal_is_wiped_out_by_no_line_of_progress() {
    let root = Root::new();
    // Each pause is longer than some frames of the line that is drawn.
    let work =
        "sleep 1; printf \"The quick \"; sleep 1; printf \"brown fox\"; sleep 1; run-agent done >/dev/null";
    let shown = on_terminal(
        &root,
        80,
        &format!("run-agent task --project p --agent shell --max-restarts 0 --follow --prompt '{work}'"),
    );
    assert!(screen(&shown).contains("\nThe quick brown fox\n"), "{:?}", screen(&shown));
    assert!(shown.contains("waiting for run"), "before its text the line is drawn: {shown:?}");
}
