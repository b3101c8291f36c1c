//! `doctor`: each damage is found by its name with its place, mended without losing a message, and a healthy root stays
//! what it was, byte for byte.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use run_agent_core::cause::Cause;
use run_agent_core::event::{ChildLink, Event, RunIntent};
use run_agent_core::{Cursor, Durability, MsgId, RunId};
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, alive, kill, name, processes_of, shell_args, supervisor_ends, text_of, until};
use serde_json::Value;

/// A task with two runs that have ended and some messages.
fn whole() -> (Root, TaskName) {
    whole_in(Root::new())
}

fn whole_in(root: Root) -> (Root, TaskName) {
    let task = root.task_with("whole", "echo one");
    let _ =
        root.ok(&["bus", "post", "--task", "p/whole", "--type", "FACT", "--body", "a fact of some length"]);
    let _ = root.task_with("whole", "echo two");
    let _ = root.ok(&["bus", "post", "--task", "p/whole", "--type", "FACT", "--body", "another fact"]);
    for run in root.view(&task).task().runs.keys() {
        supervisor_ends(run);
    }
    (root, task)
}

/// What a call of `doctor` tells, and its exit code.
fn doctor(root: &Root, more: &[&str]) -> (i32, Value) {
    let done = root.run(&[&["doctor", "--json"], more].concat());
    assert!(matches!(done.code, 0 | 1), "{done:?}");
    (done.code, serde_json::from_str(&done.stdout).unwrap())
}

fn names(told: &Value) -> Vec<String> {
    told["findings"].as_array().unwrap().iter().map(|f| f["finding"].as_str().unwrap().to_owned()).collect()
}

/// The messages that can be read.
fn ids(root: &Root, task: &TaskName) -> Vec<MsgId> {
    let Ok(stream) = root.tree().store.open(&task.key()) else { return Vec::new() };
    let page = stream.read(Cursor::START, 10_000).unwrap();
    page.entries.into_iter().map(|entry| entry.message.id).collect()
}

type Seen = BTreeMap<PathBuf, (u64, u32, i64, i64, Vec<u8>)>;

/// Every file and folder: inode, mode, time of change of its content, content.
fn snapshot(folder: &Path) -> Seen {
    fn add(path: &Path, seen: &mut Seen) {
        let meta = path.symlink_metadata().unwrap();
        // The page that those who live share says who sleeps.
        if path.ends_with("bus/ctl") {
            return;
        }
        let bytes = if meta.is_file() { std::fs::read(path).unwrap() } else { Vec::new() };
        seen.insert(path.to_owned(), (meta.ino(), meta.mode(), meta.mtime(), meta.mtime_nsec(), bytes));
        if meta.is_dir() {
            for entry in std::fs::read_dir(path).unwrap().flatten() {
                add(&entry.path(), seen);
            }
        }
    }
    let mut seen = Seen::new();
    add(folder, &mut seen);
    seen
}

/// The files of the one that are not so in the other.
fn differing<'a>(before: &Seen, after: &'a Seen) -> Vec<&'a Path> {
    after
        .iter()
        .filter(|(path, seen)| before.get(*path) != Some(seen))
        .map(|(path, _)| path.as_path())
        .collect()
}

#[test]
fn a_healthy_root_stays_what_it_was_with_repair_and_without() {
    let (root, task) = whole();
    // Who lives would sync what it posted, and note that.
    std::fs::write(root.path().join("config.hcl"), "storage { durability = \"none\" }\n").unwrap();
    let _ = root.ok(&["done", "--task", "p/whole"]);
    let prompt = r#"echo $$ > "$JRUN_TASK_FOLDER/pid"; while [ ! -f "$JRUN_TASK_FOLDER/go" ]; do sleep 0.05; done; run-agent done"#;
    let busy = name("busy");
    let mut driver = root.drive(&busy, prompt);
    let _ = text_of(&root.tree().task(&busy).folder().join("pid"));
    let folder = root.tree().task(&busy).run(&root.view(&busy).task().ralph.last_root.clone().unwrap());
    until(
        "the run is told",
        || std::fs::read_to_string(folder.info()).ok().filter(|t| t.contains("running")),
        String::new,
    );
    // With a roster and a checkpoint.
    let posts = "{\"body\":\"x\"}\n".repeat(1100);
    std::fs::write(root.scratch().join("posts"), posts).unwrap();
    let posted = root
        .command(&["bus", "post", "--task", "p/whole", "--stdin-ndjson"])
        .stdin(File::open(root.scratch().join("posts")).unwrap())
        .stdout(Stdio::null())
        .status();
    assert!(posted.unwrap().success());
    let _ = (root.ok(&["status", "--task", "p/whole"]), root.ok(&["list"]));
    assert!(root.tree().layout.checkpoint(&task.project, &task.task).exists());
    let before = snapshot(&root.path());
    for args in [&[][..], &["--repair"], &["--project", "p"], &["--task", "p/whole", "--repair"]] {
        let (code, told) = doctor(&root, args);
        assert_eq!((code, names(&told)), (0, vec![]), "{args:?} {told}");
        let after = snapshot(&root.path());
        assert!(before == after, "{args:?}: {:?}", differing(&before, &after));
    }
    std::fs::write(root.tree().task(&busy).folder().join("go"), "").unwrap();
    assert!(driver.wait().unwrap().success());
}

/// Makes a file or folder look as if nobody had touched it for two hours.
fn age(path: &Path) {
    File::open(path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
}

fn write_old(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    age(path);
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn cut(path: &Path, by: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - by).unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn first_run(root: &Root, task: &TaskName) -> run_agent_core::layout::RunPaths {
    let view = root.view(task);
    root.tree().run(task, view.task().runs.keys().next().unwrap())
}

/// One damage: what it is called, where it is told to be, and whether a repair leaves something to a person.
struct Damage {
    name: &'static str,
    place: &'static str,
    left: bool,
    make: fn(&Root, &TaskName),
}

const fn mended(name: &'static str, place: &'static str, make: fn(&Root, &TaskName)) -> Damage {
    Damage { name, place, left: false, make }
}

const fn left(name: &'static str, place: &'static str, make: fn(&Root, &TaskName)) -> Damage {
    Damage { name, place, left: true, make }
}

const BUS: &str = "TASK-MESSAGE-BUS.md";

fn bus(root: &Root, task: &TaskName) -> PathBuf {
    root.bus(task)
}

fn own(root: &Root) -> PathBuf {
    root.path().join(".run-agent")
}

/// What happens to a markdown file.
fn of_markdown() -> Vec<Damage> {
    vec![
        mended("torn_tail", BUS, |root, task| {
            let text = std::fs::read(bus(root, task)).unwrap();
            std::fs::write(bus(root, task), [&text[..], &text[..100]].concat()).unwrap();
        }),
        mended("cut_short", BUS, |root, task| cut(&bus(root, task), 1)),
        mended("cut_short", BUS, |root, task| cut(&bus(root, task), 20)),
        mended("cut_short", BUS, |root, task| cut(&bus(root, task), 700)),
        mended("damaged_entry", BUS, |root, task| edit(&bus(root, task), "a fact of some", "a fict of some")),
        mended("damaged_entry", BUS, |root, task| edit(&bus(root, task), "type: \"FACT\"", "type: \"NOTE\"")),
        mended("damaged_entry", BUS, |root, task| {
            edit(&bus(root, task), "a fact of some", "a longer fact of some");
        }),
        left("damaged_entry", BUS, |root, task| edit(&bus(root, task), "msg_id: ", "msg_ix; ")),
        left("empty_stream", "whole", |root, task| File::create(bus(root, task)).map(drop).unwrap()),
        left("empty_stream", "whole", |root, task| {
            std::fs::remove_file(bus(root, task)).unwrap();
            std::fs::remove_file(bus(root, task).with_extension("lock")).unwrap();
            age(root.tree().task(task).folder());
        }),
        mended("stray_rescue", ".rescue", |root, task| {
            let rescue = bus(root, task).with_extension("00000000000000000000.rescue");
            std::fs::copy(bus(root, task), rescue).map(drop).unwrap();
        }),
    ]
}

/// What happens to segments.
fn of_segments() -> Vec<Damage> {
    vec![
        left("damaged_frame", ".log at byte 128", |root, task| flip(&root.bus_data(task), 200)),
        left("damaged_frame", ".log", |root, task| flip(&root.bus_data(task), 20)),
        left("cut_off", ".torn-", |root, task| {
            std::fs::write(bus(root, task).join("00000000000000000000.log.torn-x-128"), "torn").unwrap();
        }),
        left("empty_stream", "whole", |root, task| std::fs::remove_dir_all(bus(root, task)).unwrap()),
        mended("half_made_task", "task-20010203-093000-half", |root, _| {
            let folder = root.path().join("p/task-20010203-093000-half");
            std::fs::create_dir_all(folder.join("bus")).unwrap();
            File::create(folder.join("bus/append.lock")).unwrap();
            age(&folder);
        }),
    ]
}

fn damages() -> Vec<Damage> {
    let mut all = if Root::new().is_markdown() { of_markdown() } else { of_segments() };
    all.extend(of_any_store());
    all
}

fn of_any_store() -> Vec<Damage> {
    vec![
        mended("run_info_missing", "whole", |root, task| {
            std::fs::remove_file(first_run(root, task).info()).unwrap();
        }),
        mended("run_info_broken", "whole", |root, task| {
            std::fs::write(first_run(root, task).info(), "x: [").unwrap();
        }),
        mended("run_info_behind", "whole", |root, task| {
            edit(&first_run(root, task).info(), "status: \"completed\"", "status: \"running\"");
        }),
        left("run_info_newer", "whole", |root, task| {
            edit(&first_run(root, task).info(), "version: 1", "version: 2");
        }),
        mended("output_missing", "whole", |root, task| {
            std::fs::remove_file(first_run(root, task).output()).unwrap();
        }),
        mended("run_folder_missing", "whole", |root, task| {
            std::fs::remove_dir_all(first_run(root, task).folder()).unwrap();
        }),
        mended("stale_doorbell", "whole", |root, task| {
            assert!(Command::new("mkfifo").arg(first_run(root, task).doorbell()).status().unwrap().success());
        }),
        mended("marker_disagrees", "whole", |root, task| {
            std::fs::write(root.tree().task(task).done(), "").unwrap();
        }),
        mended("marker_disagrees", "whole", |root, task| {
            let _ = root.ok(&["done", "--task", "p/whole"]);
            std::fs::remove_file(root.tree().task(task).done()).unwrap();
        }),
        left("marker_not_a_file", "whole", |root, task| {
            std::fs::create_dir(root.tree().task(task).done()).unwrap();
        }),
        mended("half_made_run", "20010203-0930001234-1-1", |root, task| {
            let run = root.tree().run(task, &RunId::parse("20010203-0930001234-1-1").unwrap());
            write_old(&run.prompt(), "x");
            write_old(&run.folder().join(".script.sh.17"), "x");
            age(run.folder());
        }),
        left("half_made_run", "20010203-0930001234-1-1", |root, task| {
            let run = root.tree().run(task, &RunId::parse("20010203-0930001234-1-1").unwrap());
            write_old(&run.stdout(), "an agent said this");
            age(run.folder());
        }),
        mended("half_made_task", "task-20010203-093000-half", |root, _| {
            let folder = root.path().join("p/task-20010203-093000-half");
            std::fs::create_dir_all(folder.join("runs")).unwrap();
            age(&folder);
        }),
        mended("stray_file", ".run-info.yaml.", |root, task| {
            write_old(&first_run(root, task).folder().join(".run-info.yaml.4194305"), "half");
        }),
        mended("stray_file", ".DONE.", |root, task| {
            write_old(&root.tree().task(task).folder().join(".DONE.4194305"), "");
        }),
        mended("stray_file", ".store.yaml.new", |root, _| {
            write_old(&own(root).join(".store.yaml.new.4194305"), "");
        }),
        mended("stray_trash", "trash", |root, _| write_old(&own(root).join("trash/x/y"), "z")),
        mended("stray_trash", ".deleted-", |root, task| {
            write_old(&root.tree().task(task).runs().join(".deleted-x/y"), "z");
        }),
        mended("stale_cache", "checkpoints", |root, task| {
            write_old(&root.tree().layout.checkpoint(&task.project, &task.task), "garbage");
        }),
        mended("stale_cache", "task-20010203-093000-gone", |root, _| {
            write_old(&own(root).join("checkpoints/p/task-20010203-093000-gone"), "x");
        }),
        mended("stale_cache", "checkpoints/gone", |root, _| {
            write_old(&own(root).join("checkpoints/gone/x"), "x");
        }),
        mended("stale_cache", "roster/p", |root, task| {
            write_old(&root.tree().layout.roster(&task.project), "garbage");
        }),
        mended("stale_cache", "roster/gone", |root, _| write_old(&own(root).join("roster/gone"), "x")),
        mended("dead_ticket", "slots/ticket-1", |root, _| {
            write_old(
                &own(root).join("slots/ticket-1-00000000000000000007"),
                "p/gone/20010203-0930001234-1-1",
            );
        }),
        mended("dead_ticket", "loops/ticket-0", |root, _| {
            write_old(&own(root).join("loops/ticket-0-00000000000000000007"), "p/gone");
        }),
        mended("store_file_missing", "store.yaml", |root, _| {
            std::fs::remove_file(own(root).join("store.yaml")).unwrap();
        }),
        left("store_file_broken", "store.yaml", |root, _| {
            std::fs::write(own(root).join("store.yaml"), "x").unwrap();
        }),
        left("config_broken", "config.hcl", |root, _| {
            std::fs::write(root.path().join("config.hcl"), "nonsense {").unwrap();
        }),
        mended("root_open_to_others", "root", |root, _| {
            std::fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        }),
        left("link", "task-20010203-093000-link", |root, task| {
            symlink(root.tree().task(task).folder(), root.path().join("p/task-20010203-093000-link"))
                .unwrap();
        }),
        mended("deleted_task", "whole", |root, _| {
            let killed = root
                .command(&["task", "delete", "p/whole", "--yes"])
                .env("RUN_AGENT_FAILPOINT", "delete.task_posted=kill")
                .output();
            assert!(!killed.unwrap().status.success());
        }),
        mended("deleted_run", "whole", |root, _| {
            let killed = root
                .command(&["gc", "--older-than", "0s", "--force"])
                .env("RUN_AGENT_FAILPOINT", "delete.run_posted=kill")
                .output();
            assert!(!killed.unwrap().status.success());
        }),
        mended("unfinished_stop", "stopped", |root, _| {
            let mut driver = root.drive(&name("stopped"), "echo $$ > \"$JRUN_TASK_FOLDER/pid\"; sleep 1000");
            let pid = text_of(&root.tree().task(&name("stopped")).folder().join("pid")).parse().unwrap();
            driver.kill().unwrap();
            driver.wait().unwrap();
            let stopped = root
                .command(&["stop", "--task", "p/stopped", "--force"])
                .env("RUN_AGENT_FAILPOINT", "stop.asked=kill")
                .output();
            assert!(!stopped.unwrap().status.success());
            kill(pid, "KILL");
            for run in root.view(&name("stopped")).task().runs.keys() {
                supervisor_ends(run);
            }
        }),
        mended("unfinished_link", "whole", |root, task| {
            let child = ChildLink {
                child_project_id: task.project.clone(),
                child_task_id: name("gone").task,
                child_run_id: None,
                link: "task".to_owned(),
                ended: false,
            };
            let run = root.view(task).task().runs.keys().next().cloned();
            let draft =
                Event::ChildLink(child).draft(&task.scope(run), &Cause::Timer("x".to_owned()), "starts it");
            root.tree().store.open(&task.key()).unwrap().append(vec![draft], Durability::None).unwrap();
        }),
        left("loop_without_driver", "driverless", |root, _| {
            let task = name("driverless");
            let mut driver = root.drive(&task, "echo $$ > \"$JRUN_TASK_FOLDER/pid\"; sleep 1000");
            let _ = text_of(&root.tree().task(&task).folder().join("pid"));
            driver.kill().unwrap();
            driver.wait().unwrap();
        }),
    ]
}

#[test]
fn each_damage_is_found_by_name_and_place_and_mended_without_losing_a_message() {
    for (number, damage) in damages().into_iter().enumerate() {
        let (root, task) = whole();
        let what = format!("{number}: {}", damage.name);
        assert_eq!(doctor(&root, &[]).0, 0, "{what}: the root is healthy before");
        (damage.make)(&root, &task);
        // Which messages can be read is asked of a copy: a reader takes a bus that was cut as it is.
        let copy = Root::new();
        let copied = Command::new("cp").arg("-a").args([root.path(), copy.path()]).status();
        assert!(copied.unwrap().success());
        let before = ids(&copy, &task);
        let (code, told) = doctor(&root, &["--repair"]);
        let found: Vec<&Value> =
            told["findings"].as_array().unwrap().iter().filter(|f| f["finding"] == damage.name).collect();
        assert!(
            found.iter().any(|f| f["place"].as_str().unwrap().contains(damage.place)),
            "{what} at {}: {told:#}",
            damage.place
        );
        let (again, after) = doctor(&root, &[]);
        let expected = i32::from(damage.left);
        assert_eq!((code, again), (expected, expected), "{what}: {told:#}\nafterwards {after:#}");
        if damage.left {
            assert!(names(&after).iter().all(|name| name == damage.name), "{what}: {after:#}");
        }
        let now = ids(&root, &task);
        let gone = !root.tree().task(&task).folder().exists();
        assert!(gone == (damage.name == "deleted_task"), "{what}");
        assert!(gone || before.iter().all(|id| now.contains(id)), "{what}: {before:?}\n{now:?}");
        if !gone && !damage.left {
            let next = root.run(&shell_args("job", &task, "exit 0", &[]));
            assert_eq!(next.code, 0, "{what}: the task is as good as before: {next:?}");
        }
    }
}

#[test]
fn without_repair_nothing_is_mended_and_each_damage_is_told() {
    for (number, damage) in damages().into_iter().enumerate() {
        let (root, task) = whole();
        (damage.make)(&root, &task);
        let before = snapshot(&root.path());
        let (code, told) = doctor(&root, &[]);
        assert_eq!(code, 1, "{number}: {}", damage.name);
        assert!(names(&told).iter().any(|name| name == damage.name), "{number}: {told:#}");
        // A bus that was cut is taken as it is by whoever reads it: no message is in doubt then.
        if !matches!(damage.name, "cut_short" | "empty_stream")
            && names(&told).iter().all(|name| name != "cut_short")
        {
            let after = snapshot(&root.path());
            let differs = differing(&before, &after);
            assert!(before == after, "{number}: {} {differs:?}", damage.name);
        }
    }
}

/// The steps at which a starter or supervisor is killed.
const STEPS: [&str; 13] = [
    "starter.folder",
    "starter.lock",
    "starter.intent",
    "starter.spawned",
    "starter.ordered",
    "supervisor.noted",
    "supervisor.shim",
    "supervisor.posted",
    "supervisor.let_go",
    "supervisor.reported",
    "supervisor.reaped",
    "supervisor.exit_noted",
    "supervisor.ended",
];

#[test]
fn what_a_kill_at_any_step_leaves_is_mended() {
    for step in STEPS {
        let (root, task) = whole();
        let killed = root
            .command(&shell_args("job", &task, "true", &[]))
            .env("RUN_AGENT_FAILPOINT", format!("{step}=kill"))
            .output();
        assert!(killed.is_ok());
        let paths = root.tree().task(&task).runs();
        let runs: Vec<RunId> = root.tree().runs(&task).unwrap();
        for run in &runs {
            until(
                "the processes of the run are over",
                || processes_of(run).is_empty().then_some(()),
                String::new,
            );
            supervisor_ends(run);
            age(&paths.join(run.as_str()));
        }
        let (code, told) = doctor(&root, &["--repair"]);
        let (again, after) = doctor(&root, &[]);
        assert_eq!((code, again), (0, 0), "{step}: {told:#} {after:#}");
        let view = root.view(&task);
        assert!(view.task().active().next().is_none(), "{step}");
        assert_eq!(
            view.task().runs.len(),
            root.tree().runs(&task).unwrap().len(),
            "{step}: each run has its folder"
        );
    }
}

#[test]
fn an_agent_alone_is_told_and_left_alone_and_closed_when_it_is_gone() {
    let (root, _) = whole();
    let task = name("alone");
    let job =
        "echo $$ > \"$JRUN_TASK_FOLDER/pid\"; while [ ! -f \"$JRUN_TASK_FOLDER/go\" ]; do sleep 0.05; done";
    let _ = root.ok(&shell_args("job", &task, job, &["--detach"]));
    let pid: u32 = text_of(&root.tree().task(&task).folder().join("pid")).parse().unwrap();
    let run = root.view(&task).task().runs.keys().next().unwrap().clone();
    let supervisor = root.view(&task).start_of(&run).unwrap().supervisor_pid;
    kill(supervisor, "KILL");
    // Its first thread may be gone while another still holds what the process had open.
    let lock = root.tree().run(&task, &run).supervisor_lock();
    let is_free = || run_agent_runner::files::is_locked(&lock).is_ok_and(|held| !held).then_some(());
    until("the supervisor is gone", is_free, String::new);
    let (code, told) = doctor(&root, &["--repair"]);
    assert_eq!((code, names(&told)), (1, vec!["agent_alone".to_owned()]), "{told:#}");
    assert!(alive(pid));
    std::fs::write(root.tree().task(&task).folder().join("go"), "").unwrap();
    until("the agent is gone", || (!alive(pid)).then_some(()), String::new);
    let (code, told) = doctor(&root, &[]);
    assert_eq!((code, names(&told)), (1, vec!["dead_run".to_owned()]), "{told:#}");
    assert_eq!(root.count(&task, "RUN_CRASH"), 0, "looking closes nothing");
    assert_eq!(doctor(&root, &["--repair"]).0, 0);
    assert_eq!(root.count(&task, "RUN_CRASH"), 1);
}

#[test]
fn a_run_of_another_machine_is_a_note_and_untouched() {
    let (root, task) = whole();
    let intent = RunIntent {
        agent: "shell".to_owned(),
        machine_id: "another".to_owned(),
        boot_id: "b".to_owned(),
        ..RunIntent::default()
    };
    let run = RunId::parse("20010203-0930001234-1-1").unwrap();
    let draft =
        Event::RunIntent(intent).draft(&task.scope(Some(run)), &Cause::Timer("x".to_owned()), "of another");
    root.tree().store.open(&task.key()).unwrap().append(vec![draft], Durability::None).unwrap();
    let before = snapshot(&root.path());
    let (code, told) = doctor(&root, &["--repair"]);
    assert_eq!((code, told["notes"][0]["finding"].as_str()), (0, Some("foreign_run")), "{told:#}");
    assert!(before == snapshot(&root.path()));
}

#[test]
fn a_flag_narrows_it_down_to_a_task() {
    let (root, task) = whole();
    let other = root.task_with("other", "true");
    for task in [&task, &other] {
        std::fs::write(root.tree().task(task).done(), "").unwrap();
    }
    let (_, told) = doctor(&root, &["--task", "p/other", "--repair"]);
    assert_eq!((names(&told).len(), &told["streams"]), (1, &1.into()), "{told:#}");
    assert_eq!((root.count(&task, "DONE"), root.count(&other, "DONE")), (0, 1));
}
