//! What the variables of a run and of the environment say about roots, projects and tasks.

use super::*;

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
    let text = root.ok(&["bus", "read", "--root", other, "--project", "q", "--json"]);
    assert!(text.contains("\"x\"") && !text.contains("run_id"), "{text}");
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
fn an_agent_of_another_root_is_told_what_this_root_refuses() {
    let root = Root::new();
    let backend = if root.is_markdown() { "segmented" } else { "fs" };
    let wanted = format!("storage {{ backend = \"{backend}\" }}\n");
    let task = root.task_with("one", "true");
    let other = root.scratch().join("other");
    let other = other.to_str().unwrap();
    let _ = root.ok(&["job", "--root", other, "--project", "q", "--agent", "shell", "--prompt", "true"]);
    std::fs::write(Path::new(other).join("config.hcl"), &wanted).unwrap();
    let post = ["bus", "post", "--root", other, "--project", "q", "--body", "x"];
    let done = agents_call(&root, &task, &post);
    assert!(done.code == 2 && done.stderr.contains(&format!("store migrate --to {backend}")), "{done:?}");
    // An agent of this very root can mend nothing of it, and goes on.
    let own = root.path().join("config.hcl");
    std::fs::write(own, &wanted).unwrap();
    assert_eq!(agents_call(&root, &task, &["bus", "post", "--body", "x"]).code, 0);
}

#[test]
fn a_bus_of_the_environment_may_be_written_with_dots() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let bus = root.path().join("p/../p").join(task.task.as_str()).join(root.bus(&task).file_name().unwrap());
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
