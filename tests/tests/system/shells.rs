//! What a shell sees: closed pipes, completion, manual pages, the version.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use run_agent_tests::{Done, Root, binary, kill, until};

/// Runs a script in a shell that finds `run-agent`, with the root's own surroundings.
fn shell(root: &Root, shell: &[&str], script: &str) -> Done {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg(script).current_dir(root.scratch());
    for (name, value) in root.command(&[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let path = format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    Done::of(command.env("PATH", path).output().unwrap(), &[script])
}

const BASH: [&str; 4] = ["bash", "--norc", "--noprofile", "-c"];

fn has(shell: &str) -> bool {
    let there = Command::new(shell).arg("--version").output().is_ok();
    if !there {
        println!("{shell} is not installed: what it does is not looked at");
    }
    there
}

#[test]
fn a_reader_that_takes_one_line_ends_every_command_quietly() {
    let root = Root::new();
    let task = root.task_with("pipe", "seq 1 100000");
    for n in 0..60 {
        let body = format!("{n} {}", "x".repeat(4000));
        assert_eq!(root.run(&["bus", "post", "--task", "pipe", "--body", &body]).code, 0);
    }
    let id = task.task.as_str();
    for command in [
        "list".to_owned(),
        "status pipe".to_owned(),
        "status pipe --json".to_owned(),
        "output --task pipe".to_owned(),
        "output --task pipe --stdout".to_owned(),
        "output --task pipe --merged".to_owned(),
        "output --task pipe --follow".to_owned(),
        "output --task pipe --tail 90000".to_owned(),
        format!("bus read --task {id} --tail 1000"),
        format!("bus read --task {id} --tail 1000 --json"),
        format!(
            "bus read --task {id} --since $(run-agent bus read --task {id} --json --tail 1000 | head -1 | cut -d'\"' -f4)"
        ),
        "man".to_owned(),
        "man task".to_owned(),
        "completion bash".to_owned(),
        "completion zsh".to_owned(),
        "--help".to_owned(),
        "job --help".to_owned(),
        "--version".to_owned(),
        "job --task pipe --agent shell --prompt 'seq 1 100000' --follow".to_owned(),
    ] {
        let done = shell(
            &root,
            &BASH,
            &format!("run-agent {command} | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}"),
        );
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("0\n", ""), "{command}: {done:?}");
        // A reader that is gone before the first byte.
        let gone = shell(&root, &BASH, &format!("run-agent {command} | true; echo ${{PIPESTATUS[0]}}"));
        assert_eq!((gone.stdout.as_str(), gone.stderr.as_str()), ("0\n", ""), "{command}: {gone:?}");
    }
}

/// What bash offers for a line whose last word is being typed.
fn bash_offers(root: &Root, words: &[&str]) -> Vec<String> {
    let line: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "eval \"$(run-agent completion bash)\"; complete -p run-agent >/dev/null || exit 9; \
         set -- $(complete -p run-agent); while [ \"$1\" != -F ]; do shift; done; \
         COMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9; \"$2\" run-agent \"${{COMP_WORDS[COMP_CWORD]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        line.join(" "),
        words.len() - 1,
    );
    let done = shell(root, &BASH, &script);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    done.stdout.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn bash_completes_commands_flags_and_the_names_of_the_moment() {
    let root = Root::new();
    let (login, logout) = (root.task_with("login", "true"), root.task_with("logout", "true"));
    let run = root.view(&login).task().runs.keys().next().unwrap().to_string();
    let offers = |words: &[&str]| bash_offers(&root, words);
    assert_eq!(offers(&["run-agent", "compl"]), ["completion"]);
    assert!(offers(&["run-agent", "bus", ""]).contains(&"follow".to_owned()));
    assert!(offers(&["run-agent", "job", "--pro"]).contains(&"--project".to_owned()));
    assert_eq!(offers(&["run-agent", "list", "--project", ""]), ["p"]);
    let ids = [logout.task.as_str(), login.task.as_str()];
    let mut offered = offers(&["run-agent", "status", "--task", "task-"]);
    offered.sort();
    assert_eq!(offered, [ids[1], ids[0]]);
    assert_eq!(
        offers(&["run-agent", "resume", "--task", "logi"]),
        ["login"],
        "by the slug where that was begun"
    );
    assert!(offers(&["run-agent", "status", ""]).contains(&run), "a task or a run");
    assert_eq!(offers(&["run-agent", "output", "--task", "login", ""])[0], run);
    assert_eq!(offers(&["run-agent", "output", "--task", "logout", &run]), Vec::<String>::new());
    assert_eq!(offers(&["run-agent", "job", "--agent", "sh"]), ["shell"]);
    assert!(
        !offers(&["run-agent", ""]).iter().any(|name| name.starts_with('_')),
        "hidden commands stay hidden"
    );
}

#[test]
fn completion_of_a_root_that_is_not_there_makes_none() {
    let root = Root::new();
    assert_eq!(bash_offers(&root, &["run-agent", "status", "--task", ""]), Vec::<String>::new());
    assert!(!root.path().exists());
    let other = Root::new();
    let task = other.task_with("elsewhere", "true");
    let words = ["run-agent", "--root", &other.path().display().to_string(), "status", "--task", "task-"]
        .map(str::to_owned);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(bash_offers(&root, &words), [task.task.as_str()], "--root of the line counts");
}

#[test]
fn zsh_and_fish_take_their_scripts() {
    let root = Root::new();
    let task = root.task_with("shells", "true");
    for shell_name in ["zsh", "fish", "powershell"] {
        assert!(root.ok(&["completion", shell_name]).contains("RUN_AGENT_COMPLETE"), "{shell_name}");
    }
    if has("fish") {
        let script = "run-agent completion fish | source; complete -C 'run-agent status --task task-'";
        let done = shell(&root, &["fish", "--no-config", "-c"], script);
        assert!(done.stdout.contains(task.task.as_str()), "{done:?}");
    }
    if has("zsh") {
        let script = "autoload -Uz compinit && compinit -u -d \"$PWD/zdump\"; eval \"$(run-agent completion zsh)\"; print ${_comps[run-agent]}";
        let done = shell(&root, &["zsh", "-f", "-c"], script);
        assert!(done.code == 0 && !done.stdout.trim().is_empty(), "{done:?}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let root = Root::new();
    assert!(root.ok(&["man"]).contains(".TH run-agent 1"));
    for words in [&["man", "bus-post"][..], &["man", "bus", "post"], &["man", "run-agent-bus-post"]] {
        let page = root.ok(words);
        assert!(page.contains(".TH run-agent-bus-post 1") && page.contains("\\-\\-type"), "{page}");
    }
    let folder = root.scratch().join("man1");
    let folder_text = folder.display().to_string();
    assert_eq!(root.run(&["man", "--out", &folder_text]).code, 0);
    let mut names: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for page in ["run-agent.1", "run-agent-task.1", "run-agent-bus-follow.1"] {
        assert!(names.iter().any(|name| name == page), "{page} in {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("_shim")), "{names:?}");
    // Terminals of the locale `C` show no other characters, and `man` warns of them there.
    for name in &names {
        assert!(std::fs::read(folder.join(name)).unwrap().is_ascii(), "{name}");
    }
    if Path::new("/usr/bin/man").exists() {
        let done = shell(&root, &BASH, "man --warnings=all -l man1/run-agent-bus-post.1 | cat");
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    }
}

#[test]
fn the_version_says_what_was_built() {
    let root = Root::new();
    let text = root.ok(&["--version"]);
    assert!(text.starts_with("run-agent 0.") && text.contains("(commit ") && text.ends_with(')'), "{text}");
    let json = root.json(&["--version", "--json"]);
    for field in ["version", "commit", "date", "target", "profile"] {
        assert!(json[field].as_str().is_some_and(|value| !value.is_empty()), "{json}");
    }
}

#[test]
fn an_interrupt_leaves_no_half_written_file() {
    let root = Root::new();
    let task = root.task_with("cut", "true");
    let whole = root.ok(&["man", "job"]);
    for n in 0..20 {
        let folder = root.scratch().join(format!("man-{n}"));
        let mut writer = root.command(&["man", "--out", &folder.display().to_string()]);
        let mut writer = writer.stderr(Stdio::null()).spawn().unwrap();
        // Interrupted in the middle, at the latest when the first page is there.
        until("a page", || pages(&folder).next().or_else(|| ended(&mut writer)), String::new);
        kill(writer.id(), "INT");
        let _ = writer.wait();
        for page in pages(&folder).filter(|page| page.ends_with("run-agent-job.1")) {
            assert_eq!(std::fs::read_to_string(page).unwrap().trim_end(), whole);
        }
        let body = "x".repeat(60_000);
        let mut poster = root.command(&["bus", "post", "--task", "cut", "--body", &body]);
        let mut poster = poster.stdout(Stdio::null()).spawn().unwrap();
        kill(poster.id(), "INT");
        let _ = poster.wait();
    }
    let posted = root.messages(&task).into_iter().filter(|m| m.content.kind.as_str() == "INFO");
    assert!(posted.into_iter().all(|m| m.content.body.len() == 60_000), "whole or not at all");
}

fn pages(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "1"))
}

fn ended(child: &mut Child) -> Option<PathBuf> {
    child.try_wait().unwrap().map(|_| PathBuf::new())
}

/// What is offered for the last of these words.
fn offered(root: &Root, words: &[&str]) -> Done {
    let mut command = root.command(&["--", "run-agent"]);
    command
        .args(words)
        .env("RUN_AGENT_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    Done::of(command.output().unwrap(), words)
}

#[test]
fn completing_says_nothing_and_writes_nothing_whatever_the_configuration_is() {
    let root = Root::new();
    let _ = root.task_with("one", "true");
    std::fs::write(root.path().join("config.hcl"), "stroage {\n}\n").unwrap();
    let store = root.path().join(".run-agent/store.yaml");
    let text = std::fs::read_to_string(&store).unwrap().replace("sync_messages: 256", "sync_messages: 7");
    std::fs::write(&store, &text).unwrap();
    for words in [&["status", "--task", ""][..], &["job", "--agent", ""], &["status", "\u{20ac}\u{20ac}"]] {
        let done = offered(&root, words);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    }
    std::fs::write(root.path().join("config.hcl"), "limits {\n  max_tokens = 5\n}\n").unwrap();
    let agents = offered(&root, &["job", "--agent", ""]);
    assert_eq!((agents.stdout.trim(), agents.stderr.as_str()), ("shell\nlucky", ""), "{agents:?}");
    let agents = offered(&root, &["validate", "c"]);
    assert_eq!((agents.stdout.trim(), agents.stderr.as_str()), ("claude\ncodex", ""), "{agents:?}");
    assert_eq!(std::fs::read_to_string(&store).unwrap(), text);
}

#[test]
fn a_task_id_of_several_projects_is_offered_once() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    std::fs::create_dir_all(root.path().join("q").join(task.task.as_str())).unwrap();
    let done = offered(&root, &["status", "--task", "task-"]);
    assert_eq!(done.stdout.matches(task.task.as_str()).count(), 1, "{done:?}");
}

#[test]
fn open_questions_are_offered_to_whoever_answers() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let ask = |place: &[&str]| {
        root.ok(&[&["bus", "post", "--type", "QUESTION", "--body", "which?"][..], place].concat())
    };
    let (in_task, in_project) = (ask(&["--task", task.task.as_str()]), ask(&["--project", "p"]));
    let _ = root.ok(&["inbox"]);
    let done = offered(&root, &["inbox", "answer", "MSG"]);
    assert!(done.stdout.contains(&in_task), "{done:?}");
    let _ = root.ok(&["inbox", "answer", &in_task, "that"]);
    let look = || {
        // A stream that has just moved stands in no file yet.
        let _ = root.ok(&["inbox"]);
        let done = offered(&root, &["inbox", "answer", "MSG"]);
        (done.stdout.contains(&in_project) && !done.stdout.contains(&in_task)).then_some(())
    };
    until("the open one is offered", look, || offered(&root, &["inbox", "answer", ""]).stdout);
    assert!(offered(&root, &["why", "o"]).stdout.contains("one"));
}
