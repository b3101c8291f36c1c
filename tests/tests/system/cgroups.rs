//! A run's cgroup goes with the run, whoever ends it; what is left of one is found and removed. Where this user can make
//! none there is nothing to test, and each test says so.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use run_agent_core::RunId;
use run_agent_runner::supervise::os::Cgroup;
use run_agent_runner::supervise::record;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, alive, kill, name, shell_args, supervisor_ends, text_of, until};
use serde_json::Value;

/// A run that is over, and what it started and that is meant to stay.
struct Kept {
    root: Root,
    task: TaskName,
    run: RunId,
    background: u32,
    cgroup: PathBuf,
}

/// `None`: no cgroup can be made here.
fn kept() -> Option<Kept> {
    let root = Root::made();
    let task = name("kept");
    // By its name it is a terminal multiplexer; it sleeps in a command of the shell itself, so that it has no children.
    let path = root.scratch().join("tmux");
    std::fs::write(&path, "#!/bin/sh\nmkfifo \"$0.pipe\"\nread -r _ < \"$0.pipe\"\n").unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    let prompt =
        format!("'{}' > /dev/null 2>&1 & echo $! > \"$JRUN_TASK_FOLDER/background\"", path.display());
    let _ = root.ok(&shell_args("job", &task, &prompt, &[]));
    let background = text_of(&root.tree().task(&task).folder().join("background")).parse().unwrap();
    let run = root.view(&task).task().runs.keys().next().unwrap().clone();
    supervisor_ends(&run);
    let notes = record::notes(&root.tree().run(&task, &run).supervisor_lock()).unwrap();
    let Some(cgroup) = notes.cgroup.filter(|path| path.exists()) else {
        eprintln!("skipped: no cgroup can be made here");
        kill(background, "KILL");
        return None;
    };
    Some(Kept { root, task, run, background, cgroup })
}

impl Kept {
    fn end_background(&self) {
        kill(self.background, "KILL");
        until("the background is gone", || (!alive(self.background)).then_some(()), String::new);
    }

    fn doctor(&self, more: &[&str]) -> (i32, Vec<String>) {
        let done = self.root.run(&[&["doctor", "--json"], more].concat());
        let told: Value = serde_json::from_str(&done.stdout).unwrap();
        let told = told["findings"].as_array().unwrap().iter();
        (done.code, told.map(|f| f["finding"].as_str().unwrap().to_owned()).collect())
    }
}

#[test]
fn what_stays_in_the_background_keeps_its_cgroup_until_doctor_finds_it_empty() {
    let Some(kept) = kept() else { return };
    assert!(alive(kept.background));
    assert_eq!(kept.doctor(&["--repair"]), (0, vec![]), "what is meant to stay is nothing to mend");
    assert!(alive(kept.background) && kept.cgroup.exists());
    kept.end_background();
    let left = vec!["left_cgroup".to_owned()];
    assert_eq!(kept.doctor(&[]), (1, left.clone()));
    assert!(kept.cgroup.exists(), "looking changes nothing");
    assert_eq!(kept.doctor(&["--repair"]), (0, left));
    assert!(!kept.cgroup.exists());
    assert_eq!(kept.doctor(&[]), (0, vec![]));
}

#[test]
fn what_a_run_that_is_over_has_at_work_in_its_cgroup_is_ended_by_a_repair() {
    let Some(kept) = kept() else { return };
    // It became another program: nothing that is meant to stay.
    let pipe = kept.root.scratch().join("tmux.pipe");
    kept.end_background();
    let mut stray = std::process::Command::new("sh");
    let enter =
        format!("echo $$ > '{}/cgroup.procs' && exec cat '{}'", kept.cgroup.display(), pipe.display());
    let mut stray = stray.args(["-c", &enter]).spawn().unwrap();
    let members = || std::fs::read_to_string(kept.cgroup.join("cgroup.procs")).unwrap();
    until("it is in the cgroup", || (!members().is_empty()).then_some(()), members);
    let left = vec!["left_cgroup".to_owned()];
    assert_eq!(kept.doctor(&[]), (1, left.clone()));
    assert_eq!(kept.doctor(&["--repair"]), (0, left));
    assert!(!stray.wait().unwrap().success(), "it was ended");
    assert!(!kept.cgroup.exists());
}

#[test]
fn a_deleted_run_and_a_deleted_task_take_their_empty_cgroups_along() {
    for delete in [&["gc", "--older-than", "0s", "--force"][..], &["task", "delete", "p/kept", "--yes"]] {
        let Some(kept) = kept() else { return };
        // The newest run of a task stays.
        let _ = kept.root.ok(&shell_args("job", &kept.task, "true", &[]));
        kept.root.view(&kept.task).task().runs.keys().for_each(supervisor_ends);
        kept.end_background();
        let _ = kept.root.ok(delete);
        assert!(!kept.root.tree().run(&kept.task, &kept.run).folder().exists(), "{delete:?}");
        assert!(!kept.cgroup.exists(), "{delete:?}");
    }
}

/// A cgroup of a run that no root knows, as old as that.
fn of_nobody(beside: &Path, number: u32, age: Duration) -> PathBuf {
    let path = beside.join(format!("run-agent-20010203-0930001234-{}-{number}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    File::open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    path
}

#[test]
fn gc_removes_the_old_empty_cgroups_of_runs_that_no_root_knows() {
    let Some(kept) = kept() else { return };
    let base = kept.cgroup.parent().unwrap();
    let (old, young) = (of_nobody(base, 1, DAY), of_nobody(base, 2, Duration::ZERO));
    File::open(&kept.cgroup).unwrap().set_modified(SystemTime::now() - DAY).unwrap();
    let _ = kept.root.ok(&["gc", "--dry-run"]);
    assert!(old.exists(), "a dry run changes nothing");
    let _ = kept.root.ok(&["gc"]);
    let left = (old.exists(), young.exists(), kept.cgroup.exists());
    std::fs::remove_dir(&young).unwrap();
    assert_eq!(
        left,
        (false, true, true),
        "one in which somebody may begin, and one in which somebody is, stay"
    );
    kept.end_background();
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn an_agent_that_removed_its_runs_folder_leaves_no_cgroup() {
    let root = Root::made();
    let task = name("bare");
    let prompt =
        "rm -rf \"$JRUN_RUN_FOLDER\"; touch \"$JRUN_TASK_FOLDER/bare\"; while :; do sleep 0.05; done";
    let run = RunId::parse(&root.ok(&shell_args("job", &task, prompt, &["--detach"]))).unwrap();
    let bare = root.tree().task(&task).folder().join("bare");
    until("the folder is gone", || bare.exists().then_some(()), String::new);
    let Some(cgroup) = Cgroup::for_run(&run).filter(Cgroup::is_there) else {
        return eprintln!("skipped: no cgroup can be made here");
    };
    let start = root.view(&task).start_of(&run).unwrap();
    kill(start.supervisor_pid, "KILL");
    kill(start.pid, "KILL");
    for pid in [start.supervisor_pid, start.pid] {
        until("both are gone", || (!alive(pid)).then_some(()), String::new);
    }
    assert!(cgroup.is_there());
    let _ = root.run(&["status", "--task", "p/bare"]);
    assert_eq!(root.count(&task, "RUN_CRASH"), 1);
    assert!(!cgroup.is_there());
}
