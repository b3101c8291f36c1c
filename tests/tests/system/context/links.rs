//! Links in and around a root.

use run_agent_core::{ProjectId, StreamKey};

use super::*;

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
    let bus = root.tree().store.place(&StreamKey::project(ProjectId::parse("q").unwrap()));
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
fn runs_that_are_a_link_are_refused_before_anything_is_made() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let (runs, elsewhere) = (root.tree().task(&task).runs(), root.scratch().join("runs"));
    std::fs::rename(&runs, &elsewhere).unwrap();
    symlink(&elsewhere, &runs).unwrap();
    let mark = root.scratch().join("ran");
    let prompt = format!("touch {}", mark.display());
    let bus = std::fs::read(root.bus_data(&task)).unwrap();
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
    assert_eq!(std::fs::read(root.bus_data(&task)).unwrap(), bus);
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
