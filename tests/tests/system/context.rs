//! Where a command works: roots that are named, found and passed over; projects and tasks of flags, variables, folders.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use run_agent_runner::files::is_locked;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Done, Root, until};

/// A command in a folder, with no root named.
fn inside(root: &Root, folder: &Path, args: &[&str]) -> Done {
    Done::of(root.command(args).env_remove("JRUN_ROOT").current_dir(folder).output().unwrap(), args)
}

fn root_of(done: &Done) -> String {
    let json: serde_json::Value =
        serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    json["root"].as_str().unwrap().to_owned()
}

/// Copies a folder once nothing in it goes away any more: a supervisor cleans up after its run was seen to end.
fn copied(root: &Root, task: &TaskName, from: &Path, to: &Path) {
    let runs = root.view(task).task().runs.keys().cloned().collect::<Vec<_>>();
    let lives = |run| is_locked(&root.tree().run(task, run).supervisor_lock()).unwrap();
    until("the supervisors have gone", || (!runs.iter().any(lives)).then_some(()), String::new);
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// A root with a project, and a copy of it with a configuration that names an agent.
fn root_and_copy() -> (Root, std::path::PathBuf) {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let copy = root.scratch().join("checkout");
    copied(&root, &task, &root.path(), &copy);
    std::fs::write(
        copy.join("config.hcl"),
        "agent \"evil\" {\n  type = \"command\"\n  argv = [\"true\"]\n}\n",
    )
    .unwrap();
    (root, copy)
}

const DISCOVER: [&str; 5] = ["bus", "discover", "--project", "p", "--json"];

#[test]
fn a_root_is_inferred_only_in_the_folder_that_it_was_made_in() {
    let (root, copy) = root_and_copy();
    let own = inside(&root, &root.path().join("p"), &DISCOVER);
    assert_eq!((root_of(&own), own.stderr.as_str()), (root.path().display().to_string(), ""));
    let shown = inside(&root, &copy, &["config", "path", "--json"]);
    assert!(!shown.stdout.contains("checkout"), "{shown:?}");
    assert_eq!(shown.stderr.lines().count(), 1, "{shown:?}");
    assert!(shown.stderr.starts_with("warning: "), "{shown:?}");
    assert!(shown.stderr.contains(&format!("--root {}", copy.display())), "{shown:?}");
    let started = inside(&root, &copy, &["job", "--project", "p", "--agent", "evil", "--prompt", "x"]);
    assert_eq!(started.code, 5, "{started:?}");
}

#[test]
fn a_root_that_was_moved_is_inferred_again_once_it_was_named() {
    let (root, copy) = root_and_copy();
    std::fs::write(copy.join("config.hcl"), "").unwrap();
    assert_eq!(inside(&root, &copy, &DISCOVER).code, 5);
    assert_eq!(inside(&root, &root.scratch(), &["list", "--root", copy.to_str().unwrap()]).code, 0);
    let found = inside(&root, &copy, &DISCOVER);
    assert_eq!((root_of(&found), found.stderr.as_str()), (copy.display().to_string(), ""));
}

#[test]
fn a_link_to_a_real_roots_own_folder_makes_no_root() {
    let (root, copy) = root_and_copy();
    std::fs::remove_dir_all(copy.join(".run-agent")).unwrap();
    symlink(root.path().join(".run-agent"), copy.join(".run-agent")).unwrap();
    let shown = inside(&root, &copy, &["config", "path", "--json"]);
    assert!(!shown.stdout.contains("checkout") && shown.stderr.starts_with("warning: "), "{shown:?}");
}

#[test]
fn a_checkout_inside_a_root_leads_to_the_root_around_it() {
    let (root, copy) = root_and_copy();
    let nested = root.path().join("p/checkout");
    std::fs::rename(&copy, &nested).unwrap();
    let found = inside(&root, &nested, &DISCOVER);
    assert_eq!(root_of(&found), root.path().display().to_string());
    assert!(found.stderr.starts_with("warning: "), "{found:?}");
}

#[test]
fn the_default_root_needs_no_line_of_its_own() {
    let (root, copy) = root_and_copy();
    let home = root.scratch().join("run-agent");
    std::fs::write(copy.join("config.hcl"), "").unwrap();
    std::fs::rename(&copy, &home).unwrap();
    let found = inside(&root, &home, &DISCOVER);
    assert_eq!((root_of(&found), found.stderr.as_str()), (home.display().to_string(), ""));
}

/// The environment of a run's agent, of the newest run of a task.
fn as_agent(root: &Root, task: &TaskName, command: &mut Command) {
    let run = root.view(task).task().runs.keys().next_back().unwrap().clone();
    command
        .env("JRUN_PROJECT_ID", task.project.as_str())
        .env("JRUN_TASK_ID", task.task.as_str())
        .env("JRUN_ID", run.as_str())
        .env("JRUN_MESSAGE_BUS", root.tree().layout.bus_file(&task.key()));
}

fn agents_call(root: &Root, task: &TaskName, args: &[&str]) -> Done {
    let mut command = root.command(args);
    as_agent(root, task, &mut command);
    Done::of(command.output().unwrap(), args)
}

#[test]
fn the_variables_of_a_run_say_nothing_about_another_root() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let other = root.scratch().join("other");
    let other = other.to_str().unwrap();
    let post = ["bus", "post", "--root", other, "--project", "q", "--body", "x"];
    std::fs::create_dir_all(Path::new(other).join("q")).unwrap();
    let posted = agents_call(&root, &task, &post);
    assert_eq!(posted.code, 0, "{posted:?}");
    let text = std::fs::read_to_string(Path::new(other).join("q/PROJECT-MESSAGE-BUS.md")).unwrap();
    assert!(!text.contains("run_id"), "{text}");
    let job = ["job", "--root", other, "--project", "q", "--agent", "shell", "--prompt", "true"];
    let job = agents_call(&root, &task, &job);
    assert_eq!(job.code, 0, "{job:?}");
    // The same root by another name is the run's own.
    let link = root.scratch().join("link");
    symlink(root.path(), &link).unwrap();
    let own = agents_call(&root, &task, &["bus", "discover", "--root", link.to_str().unwrap(), "--json"]);
    assert!(own.stdout.contains("JRUN_MESSAGE_BUS") && own.stdout.contains("-one"), "{own:?}");
}

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
fn a_root_is_the_same_through_links_and_dots() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let link = root.scratch().join("link");
    symlink(root.path(), &link).unwrap();
    let dots = root.path().join("../root");
    for named in [&link, &dots] {
        let args = ["status", "--root", named.to_str().unwrap(), "--json"];
        let mut command = root.command(&args);
        command.env_remove("JRUN_ROOT").current_dir(root.tree().task(&task).folder());
        let found = Done::of(command.output().unwrap(), &args);
        assert_eq!(found.code, 0, "{found:?}");
        let mut command = root.command(&["bus", "discover"]);
        as_agent(&root, &task, &mut command);
        let found = Done::of(command.env("JRUN_ROOT", named).output().unwrap(), &[]);
        assert_eq!(found.code, 0, "{found:?}");
    }
}

#[test]
fn links_below_the_root_are_not_followed_out_of_it() {
    let root = Root::new();
    let task = root.task_with("one", "echo mine");
    let run = root.view(&task).task().runs.keys().next().unwrap().clone();
    let secret = root.scratch().join("secret");
    std::fs::write(&secret, "SECRET\n").unwrap();
    let paths = root.tree().run(&task, &run);
    for file in [paths.output(), paths.stdout(), paths.stderr(), paths.prompt()] {
        std::fs::remove_file(&file).unwrap();
        symlink(&secret, &file).unwrap();
    }
    for form in ["", "--stdout", "--stderr", "--prompt", "--merged", "--follow", "--json", "--tail=3"] {
        let args: Vec<&str> =
            ["output", "--task", "one", form].into_iter().filter(|a| !a.is_empty()).collect();
        let done = root.run(&args);
        assert!(done.code == 1 && !done.stdout.contains("SECRET"), "{done:?}");
        assert!(done.stderr.contains("is a link"), "{done:?}");
    }
    let elsewhere = root.scratch().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, root.path().join("q")).unwrap();
    let bus = root.path().join("q/PROJECT-MESSAGE-BUS.md");
    let mut by_variable = root.command(&["bus", "post", "--body", "x"]);
    for done in [
        root.run(&["bus", "post", "--project", "q", "--body", "x"]),
        root.run(&["bus", "post", "--project", "q", "--task", task.task.as_str(), "--body", "x"]),
        root.run(&["job", "--project", "q", "--agent", "shell", "--prompt", "true"]),
        Done::of(by_variable.env("JRUN_MESSAGE_BUS", bus).output().unwrap(), &[]),
    ] {
        assert!(done.code == 1 && done.stderr.contains("is a link"), "{done:?}");
    }
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
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
fn runs_that_are_a_link_are_refused_before_anything_is_made() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let (runs, elsewhere) = (root.tree().task(&task).runs(), root.scratch().join("runs"));
    std::fs::rename(&runs, &elsewhere).unwrap();
    symlink(&elsewhere, &runs).unwrap();
    let mark = root.scratch().join("ran");
    let prompt = format!("touch {}", mark.display());
    let bus = std::fs::read(root.tree().layout.bus_file(&task.key())).unwrap();
    let full = task.to_string();
    for args in [
        &["job", "--task", full.as_str(), "--agent", "shell", "--prompt", prompt.as_str()][..],
        &["task", "--task", full.as_str(), "--agent", "shell"],
        &["wrap", "--task", full.as_str(), "--", "touch", mark.to_str().unwrap()],
        &["status", full.as_str()],
        &["stop", "--task", full.as_str()],
    ] {
        let done = root.run(args);
        assert!(done.code == 1 && done.stderr.contains("runs is a link"), "{done:?}");
    }
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 1, "only the first run");
    assert!(!mark.exists());
    assert_eq!(std::fs::read(root.tree().layout.bus_file(&task.key())).unwrap(), bus);
}

#[test]
fn a_project_that_is_a_link_is_refused_however_it_is_named() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let outside = root.scratch().join("q");
    copied(&root, &task, &root.path().join("p"), &outside);
    symlink(&outside, root.path().join("q")).unwrap();
    let full = format!("q/{}", task.task);
    for name in [full.as_str(), "q/one"] {
        for args in [
            &["status", name][..],
            &["status", "--task", name],
            &["watch", name],
            &["replay", name],
            &["stop", "--task", name],
            &["bus", "read", "--task", name],
            &["bus", "post", "--task", name, "--body", "x"],
        ] {
            let done = root.run(args);
            assert!(done.code == 1 && done.stderr.contains("root/q is a link"), "{done:?}");
        }
    }
}

#[test]
fn files_of_a_task_that_are_links_are_not_read() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let (paths, run) = (root.tree().task(&task), root.view(&task).task().runs.keys().next().unwrap().clone());
    let secret = root.scratch().join("secret");
    std::fs::write(&secret, "project_root: /SECRET\n").unwrap();
    let home = root.tree().layout.home_folders(&task.project);
    for file in [paths.prompt(), paths.run(&run).info(), home.clone()] {
        let _ = std::fs::remove_file(&file);
        symlink(&secret, &file).unwrap();
    }
    let status = root.run(&["status", "one"]);
    assert!(status.code == 0 && status.stdout.contains("run-info.yaml is a link"), "{status:?}");
    let go_on = ["task", "--task", "one", "--agent", "shell"];
    let given = [&go_on[..], &["--prompt", "false"]].concat();
    for args in [&go_on[..], &given] {
        let done = root.run(args);
        assert!(done.code == 1 && done.stderr.contains("TASK.md is a link"), "{done:?}");
    }
    let job = root.run(&["job", "--task", "one", "--agent", "shell", "--prompt", "true"]);
    assert!(job.code == 1 && job.stderr.contains("home-folders.md is a link"), "{job:?}");
    std::fs::remove_file(&home).unwrap();
    // A prompt that is given takes the link's place, and leaves alone what it led to.
    let update = [&go_on[..], &["--prompt", "run-agent done", "--update-prompt"]].concat();
    assert_eq!(root.run(&update).code, 0);
    assert!(std::fs::read_to_string(&secret).unwrap().contains("SECRET"));
}

/// The root around the working folder, with this for the text of its store file.
fn around_with(text: impl Fn(&str) -> String) -> (Root, Done) {
    let root = Root::new();
    let _ = root.task_with("one", "true");
    let file = root.path().join(".run-agent/store.yaml");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text(&before)).unwrap();
    let done = inside(&root, &root.path().join("p"), &["list"]);
    (root, done)
}

#[test]
fn no_other_root_is_taken_instead_of_one_that_cannot_be_used() {
    let without_folder = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("folder:"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let (_, newer) = around_with(|text| text.replace("format: 1", "format: 2"));
    assert!(newer.code == 2 && newer.stderr.contains("format 2 is newer"), "{newer:?}");
    let (_, other) = around_with(|text| text.replace("\"fs\"", "\"segmented\""));
    assert!(other.code == 2 && other.stderr.contains("the store `segmented`"), "{other:?}");
    let (_, unknown) = around_with(|text| without_folder(text).replace("version: 1", "version: 2"));
    assert!(unknown.code == 2 && unknown.stderr.contains("version 2 is newer"), "{unknown:?}");
    let (_, foreign) = around_with(|text| without_folder(text).replace("\"fs\"", "\"segmented\""));
    assert!(foreign.code == 0 && foreign.stderr.contains("is passed over"), "{foreign:?}");
    for done in [newer, other, unknown] {
        assert!(!done.stderr.contains("passed over") && done.stderr.contains("--root"), "{done:?}");
    }
}

#[test]
fn a_root_is_found_through_a_link_to_its_store_file() {
    let root = Root::new();
    let _ = root.task_with("one", "true");
    let (file, aside) = (root.path().join(".run-agent/store.yaml"), root.scratch().join("store.yaml"));
    std::fs::rename(&file, &aside).unwrap();
    symlink(&aside, &file).unwrap();
    assert_eq!(root_of(&inside(&root, &root.path().join("p"), &DISCOVER)), root.path().display().to_string());
}

#[test]
fn the_warning_of_a_root_that_is_passed_over_says_what_naming_it_means() {
    let (root, copy) = root_and_copy();
    let shown = inside(&root, &copy, &["list"]);
    assert!(shown.stderr.contains("names commands to run; only if you trust it"), "{shown:?}");
}

#[test]
fn a_shell_that_asks_for_names_is_told_no_warning() {
    let (root, copy) = root_and_copy();
    let mut command = root.command(&["--", "run-agent", "status", ""]);
    command
        .env("RUN_AGENT_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", "2")
        .env("_CLAP_COMPLETE_COMP_TYPE", "9");
    let done = Done::of(command.env_remove("JRUN_ROOT").current_dir(&copy).output().unwrap(), &[]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}

#[test]
fn an_agent_of_another_root_is_told_what_this_root_refuses() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let other = root.scratch().join("other");
    let other = other.to_str().unwrap();
    let _ = root.ok(&["job", "--root", other, "--project", "q", "--agent", "shell", "--prompt", "true"]);
    std::fs::write(Path::new(other).join("config.hcl"), "storage { backend = \"segmented\" }\n").unwrap();
    let post = ["bus", "post", "--root", other, "--project", "q", "--body", "x"];
    let done = agents_call(&root, &task, &post);
    assert!(done.code == 2 && done.stderr.contains("holds its events in the store `fs`"), "{done:?}");
    // An agent of this very root can mend nothing of it, and goes on.
    let own = root.path().join("config.hcl");
    std::fs::write(own, "storage { backend = \"segmented\" }\n").unwrap();
    assert_eq!(agents_call(&root, &task, &["bus", "post", "--body", "x"]).code, 0);
}

#[test]
fn a_bus_of_the_environment_may_be_written_with_dots() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let bus = root.path().join("p/../p").join(task.task.as_str()).join("TASK-MESSAGE-BUS.md");
    let post = |bus: &Path| {
        let mut command = root.command(&["bus", "post", "--body", "dotted"]);
        Done::of(command.env("JRUN_MESSAGE_BUS", bus).output().unwrap(), &[])
    };
    assert_eq!(post(&bus).code, 0);
    assert_eq!(root.messages(&task).last().unwrap().content.body, "dotted");
    let out = post(&root.path().join("p/../../x/TASK-MESSAGE-BUS.md"));
    assert!(out.code == 2 && out.stderr.contains("is no message bus below"), "{out:?}");
}

#[test]
fn the_depth_of_a_run_holds_in_another_root() {
    let root = Root::new();
    let other = root.scratch().join("other");
    // Each agent hands on to the other root.
    let script = root.scratch().join("ping");
    let text = format!(
        "if [ \"$JRUN_ROOT\" = {own} ]; then next={other}; else next={own}; fi\n\
         echo $JRUN_DEPTH >> {log}\n\
         run-agent --root $next job --project p --agent shell --prompt '. {script}' 2>> {log}\n",
        own = root.path().display(),
        other = other.display(),
        log = root.scratch().join("log").display(),
        script = script.display(),
    );
    std::fs::write(&script, text).unwrap();
    let config = root.scratch().join(".config/run-agent");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.hcl"), "limits { max_depth = 2 }\n").unwrap();
    let prompt = format!(". {}", script.display());
    let _ = root.run(&["job", "--project", "p", "--agent", "shell", "--prompt", &prompt]);
    let log = std::fs::read_to_string(root.scratch().join("log")).unwrap();
    let depths: Vec<&str> = log.lines().filter(|line| line.parse::<u32>().is_ok()).collect();
    assert_eq!(depths, ["0", "1", "2"], "{log}");
    assert!(log.contains("above the limit of 2"), "{log}");
}

#[test]
fn commands_that_only_look_make_no_root() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let id = task.task.as_str();
    let typo = root.scratch().join("typo");
    let empty = root.scratch().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for place in [&typo, &empty] {
        for args in [
            &["list"][..],
            &["status", "one"],
            &["watch"],
            &["replay", "one"],
            &["output", "--task", "one"],
            &["bus", "read", "--project", "p"],
            &["bus", "search", "x"],
            &["bus", "export", "--project", "p"],
            &["bus", "discover", "--project", "p"],
            &["bus", "poll", "--project", "p"],
            &["bus", "follow", "--project", "p"],
            &["wait", "20261121-1200000000-1-1"],
            &["stop", "--task", "one"],
            &["resume", "--task", "one"],
            &["done", "--task", id],
            &["ask", "--project", "p", "what?"],
            &["store", "verify"],
            &["store", "stats"],
        ] {
            let args = [&["--root", place.to_str().unwrap()], args].concat();
            let done = root.run(&args);
            assert!(done.code == 5 && done.stderr.contains("is no storage folder"), "{done:?}");
        }
        assert!(!typo.exists());
        assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
    }
    let by_variable = Done::of(root.command(&["list"]).env("JRUN_ROOT", &typo).output().unwrap(), &[]);
    assert!(by_variable.code == 5 && !typo.exists(), "{by_variable:?}");
    for args in [&["config", "show"][..], &["config", "path"], &["config", "validate"]] {
        let args = [&["--root", typo.to_str().unwrap()], args].concat();
        let done = root.run(&args);
        assert!(done.code == 0 && !typo.exists(), "{done:?}");
    }
    let _ = root.ok(&["--root", typo.to_str().unwrap(), "config", "init"]);
    assert_eq!(root.run(&["--root", typo.to_str().unwrap(), "list"]).code, 0);
}

#[test]
fn the_default_root_is_empty_before_its_first_use() {
    let root = Root::new();
    let home = root.scratch().join("run-agent");
    let listed = inside(&root, &root.scratch(), &["list"]);
    assert!(listed.code == 0 && listed.stderr.contains("no tasks yet"), "{listed:?}");
    assert_eq!(inside(&root, &root.scratch(), &["status", "one"]).code, 5);
    assert_eq!(inside(&root, &root.scratch(), &["store", "verify"]).code, 0);
    assert!(!home.exists());
}

#[test]
fn commands_that_an_error_names_look_where_this_one_looked() {
    let root = Root::new();
    let _ = root.task_with("one", "true");
    let blank = root.scratch().join("with blank");
    std::fs::rename(root.path(), &blank).unwrap();
    let named = blank.to_str().unwrap();
    for args in [
        &["status", "nowhere-near"][..],
        &["status", "--project", "nowhere-near"],
        &["status", "20261121-1200000000-1-1"],
    ] {
        let args = [&["--root", named], args].concat();
        let done = root.run(&args);
        assert!(done.code == 5 && done.stderr.contains(&format!(" --root '{named}'`")), "{done:?}");
    }
    assert!(!root.run(&["list", "--project", "nowhere-near"]).stderr.contains("--root"));
    let demo = root.run(&["--root", named, "demo"]);
    assert!(demo.stdout.contains(&format!("run-agent --root '{named}' status")), "{demo:?}");
}

#[test]
fn a_folder_of_the_same_name_is_told_that_its_agent_works_in_the_other() {
    let root = Root::new();
    let (one, other) = (root.scratch().join("one/web"), root.scratch().join("other/web"));
    let job = |folder: &Path, more: &[&str]| {
        std::fs::create_dir_all(folder).unwrap();
        let args: Vec<&str> =
            ["job", "--agent", "shell", "--prompt", "pwd"].iter().chain(more).copied().collect();
        Done::of(root.command(&args).current_dir(folder).output().unwrap(), &args)
    };
    assert!(!job(&one, &[]).stderr.contains("note:"));
    assert!(!job(&one, &[]).stderr.contains("note:"), "its own folder needs no word");
    let told = job(&other, &[]);
    assert!(
        told.stderr.contains("the project web works in ") && told.stdout.contains("/one/web"),
        "{told:?}"
    );
    for chosen in [&["--project", "web"][..], &["--cwd", "."]] {
        let done = job(&other, chosen);
        assert!(done.code == 0 && !done.stderr.contains("note:"), "{done:?}");
    }
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
