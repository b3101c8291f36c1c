//! `store migrate`: nothing is lost, doubled or changed, whoever posts, dies or stands in the way meanwhile.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use run_agent_core::{Message, StreamKey};
use run_agent_runner::Tree;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Done, Root, kill, many, name, shell_args, text_of, until};
use serde_json::Value;

/// The store that a root of this run has at first, and the other one.
fn stores(root: &Root) -> [&'static str; 2] {
    if root.is_markdown() { ["fs", "segmented"] } else { ["segmented", "fs"] }
}

fn migrate(root: &Root, to: &str, more: &[&str]) -> Done {
    root.run(&[&["store", "migrate", "--to", to], more].concat())
}

fn moved(root: &Root, to: &str, more: &[&str]) -> Value {
    let done = migrate(root, to, &[&["--json"], more].concat());
    assert_eq!(done.code, 0, "{done:?}");
    serde_json::from_str(&done.stdout).unwrap()
}

fn backend(root: &Root) -> String {
    let text = std::fs::read_to_string(root.tree().layout.store_file()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("backend: ")).unwrap();
    line.trim_matches('"').to_owned()
}

/// What people and programs see of a root, but for where its events lie.
fn seen(root: &Root, tasks: &[TaskName]) -> Vec<String> {
    let mut seen = vec![root.ok(&["list", "--json", "--limit", "0"])];
    for task in tasks {
        let named = task.to_string();
        seen.push(root.ok(&["status", &named, "--json"]));
        seen.push(root.ok(&["bus", "export", "--format", "ndjson", "--task", &named]));
        seen.push(root.ok(&["replay", &named, "--json"]));
    }
    seen
}

/// Every file of a stream, of whichever store.
fn files(root: &Root, task: &TaskName) -> Vec<PathBuf> {
    let folder = root.tree().task(task).folder().to_owned();
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of_bus = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name == "bus" || name.starts_with("TASK-MESSAGE-BUS")
    };
    names.filter(of_bus).collect()
}

/// What `doctor` finds. The runs of many tasks have no folders.
fn findings(root: &Root) -> BTreeSet<String> {
    let told: Value = serde_json::from_str(&root.run(&["doctor", "--json"]).stdout).unwrap();
    let names =
        told["findings"].as_array().unwrap().iter().map(|f| f["finding"].as_str().unwrap().to_owned());
    names.filter(|name| name != "run_folder_missing").collect()
}

fn ids(root: &Root, task: &TaskName) -> Vec<String> {
    let text = root.ok(&["bus", "export", "--format", "ndjson", "--task", &task.to_string()]);
    let messages = text.lines().map(|line| serde_json::from_str::<Message>(line).unwrap());
    messages.map(|message| message.id.to_string()).collect()
}

#[test]
fn a_root_goes_there_and_back_and_looks_the_same() {
    let count = if std::env::var_os("RUN_AGENT_DEEP").is_some() { 1000 } else { 30 };
    let root = Root::made();
    many::tasks(&root.tree(), "p", count);
    let long = many::name("p", 1);
    many::messages(&root.tree(), &long, 1500);
    let task = root.task_with("real", "run-agent bus post --type QUESTION --body 'which?\n---\n'");
    let large = root.scratch().join("large");
    std::fs::write(&large, "x".repeat(100_000)).unwrap();
    let _ = root.ok(&["bus", "post", "--task", "p/real", "--file", large.to_str().unwrap()]);
    let [first, second] = stores(&root);
    let looked_at = [long.clone(), many::name("p", 0), task.clone()];
    let before = seen(&root, &looked_at);

    let told = moved(&root, second, &[]);
    assert_eq!((&told["moved"], &told["streams"]), (&true.into(), &(count + 2).into()), "{told}");
    assert_eq!((backend(&root), seen(&root, &looked_at)), (second.to_owned(), before.clone()));
    assert!(files(&root, &task).len() > 1, "the old files are kept: {:?}", files(&root, &task));
    assert_eq!(root.run(&["store", "verify", "--deep"]).code, 0);
    let told = moved(&root, second, &["--drop-old"]);
    assert_eq!((&told["moved"], told["dropped"].as_u64()), (&false.into(), Some(count as u64 + 1)), "{told}");
    assert!(files(&root, &task).iter().all(|file| file.ends_with("bus") == (second == "segmented")));
    assert_eq!(seen(&root, &looked_at), before);

    // Work goes on there, and back it comes.
    let _ = root.ok(&["bus", "post", "--task", "p/real", "--type", "FACT", "--body", "there"]);
    let _ = root.task_with("real", "true");
    let between = seen(&root, &looked_at);
    assert!(between[7] != before[7] && between[1] == before[1]);
    let told = moved(&root, first, &["--drop-old"]);
    assert_eq!(told["moved"], true);
    assert_eq!((backend(&root), seen(&root, &looked_at)), (first.to_owned(), between));
    assert_eq!(findings(&root), BTreeSet::new());
    assert_eq!(root.messages(&task).len(), ids(&root, &task).len(), "by the store itself");
}

#[test]
fn what_was_kept_is_gone_on_with_and_what_was_changed_is_not_overwritten() {
    let root = Root::made();
    let task = root.task_with("kept", "true");
    let [first, second] = stores(&root);
    let _ = moved(&root, second, &[]);
    let _ = root.ok(&["bus", "post", "--task", "p/kept", "--body", "there"]);
    let all = ids(&root, &task);
    // The old files are a beginning.
    let _ = moved(&root, first, &[]);
    assert_eq!(ids(&root, &task), all);
    // Both went on, each its own way.
    let _ = root.ok(&["bus", "post", "--task", "p/kept", "--body", "here"]);
    let old: Tree = Tree { store: root.other_store(), ..root.tree() };
    many::messages(&old, &task, 1);
    let refused = migrate(&root, second, &[]);
    assert!(refused.code == 1 && refused.stderr.contains("holds something else"), "{refused:?}");
    assert!(refused.stderr.contains(&format!("store migrate --to {first} --drop-old")), "{refused:?}");
    assert_eq!(backend(&root), first);
    let all = ids(&root, &task);
    let _ = moved(&root, first, &["--drop-old"]);
    let _ = moved(&root, second, &[]);
    assert_eq!(ids(&root, &task), all);
}

/// The steps of a migration at which it is killed; whether the switch was made by then.
const STEPS: [(&str, bool); 6] = [
    ("migrate.half", false),
    ("migrate.copied", false),
    ("migrate.locked", false),
    ("migrate.caught_up", false),
    ("migrate.switched", true),
    ("migrate.dropped", true),
];

#[test]
fn killed_at_any_step_it_goes_on_when_it_is_called_again() {
    for (step, is_moved) in STEPS {
        let root = Root::made();
        let tasks: Vec<TaskName> = (0..4).map(|n| many::name("p", n)).collect();
        many::tasks(&root.tree(), "p", tasks.len());
        many::messages(&root.tree(), &tasks[0], 900);
        let [first, second] = stores(&root);
        let before = seen(&root, &tasks);
        let args = ["store", "migrate", "--to", second, "--drop-old"];
        let killed = root.command(&args).env("RUN_AGENT_FAILPOINT", format!("{step}=kill")).output().unwrap();
        assert!(!killed.status.success(), "{step}");
        assert_eq!(backend(&root), if is_moved { second } else { first }, "{step}");
        assert_eq!(seen(&root, &tasks), before, "{step}: whatever counts is whole");
        let _ = root.ok(&["bus", "post", "--task", &tasks[1].to_string(), "--body", "in between"]);
        let before = seen(&root, &tasks);
        let told = moved(&root, second, &["--drop-old"]);
        assert_eq!(told["moved"], !is_moved, "{step}: {told}");
        assert_eq!((backend(&root).as_str(), seen(&root, &tasks)), (second, before), "{step}");
        let left = tasks.iter().flat_map(|task| files(&root, task));
        let strange: Vec<_> = left.filter(|file| file.ends_with("bus") != (second == "segmented")).collect();
        assert!(strange.is_empty(), "{step}: {strange:?}");
        assert_eq!(findings(&root), BTreeSet::new(), "{step}");
    }
}

#[test]
fn what_is_posted_meanwhile_is_there_afterwards_once() {
    let root = Root::made();
    let tasks: Vec<TaskName> = (0..6).map(|n| many::name("p", n)).collect();
    many::tasks(&root.tree(), "p", tasks.len());
    for task in &tasks {
        many::messages(&root.tree(), task, 300);
    }
    let [first, second] = stores(&root);
    let over = AtomicBool::new(false);
    let posted: Vec<(TaskName, String)> = std::thread::scope(|scope| {
        let poster = || {
            let mut posted = Vec::new();
            for task in tasks.iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let done = root.run(&["bus", "post", "--task", &task.to_string(), "--body", "meanwhile"]);
                // Refused is not lost.
                if done.code == 0 {
                    posted.push((task.clone(), done.stdout.trim().to_owned()));
                } else {
                    assert_eq!(done.code, 4, "{done:?}");
                }
            }
            posted
        };
        let poster = scope.spawn(poster);
        for to in [second, first, second] {
            let told = moved(&root, to, &["--wait", "60s", "--drop-old"]);
            assert_eq!(told["moved"], true, "{told}");
        }
        over.store(true, Ordering::Relaxed);
        poster.join().unwrap()
    });
    assert!(!posted.is_empty());
    for task in &tasks {
        let there = ids(&root, task);
        let distinct: BTreeSet<&String> = there.iter().collect();
        assert_eq!(distinct.len(), there.len(), "none is there twice");
        for (_, id) in posted.iter().filter(|(of, _)| of == task) {
            assert!(distinct.contains(id), "{id} was acknowledged and is not there");
        }
    }
    assert_eq!(root.run(&["store", "verify", "--deep"]).code, 0);
}

fn holding(root: &Root, task: &TaskName) -> (Child, u32) {
    let prompt = "echo $$ > \"$JRUN_TASK_FOLDER/pid\"; while [ ! -e \"$JRUN_TASK_FOLDER/go\" ]; do sleep 0.05; done; run-agent done";
    let driver = root.drive(task, prompt);
    let pid = text_of(&root.tree().task(task).folder().join("pid")).parse().unwrap();
    (driver, pid)
}

#[test]
fn who_has_the_store_open_is_named_and_nothing_is_changed() {
    let root = Root::made();
    let task = name("busy");
    let (mut driver, _) = holding(&root, &task);
    let [first, second] = stores(&root);
    let refused = migrate(&root, second, &["--wait", "50ms"]);
    assert_eq!((refused.code, backend(&root).as_str()), (4, first), "{refused:?}");
    let wanted = format!("process {} (run-agent task)", driver.id());
    assert!(refused.stderr.contains(&wanted) && refused.stderr.contains("_supervise"), "{refused:?}");
    std::fs::write(root.tree().task(&task).folder().join("go"), "").unwrap();
    assert!(driver.wait().unwrap().success());
    let all = ids(&root, &task);
    let told = moved(&root, second, &["--wait", "60s"]);
    assert_eq!(told["moved"], true);
    assert_eq!(ids(&root, &task), all);
    // The task goes on in the other store, its run with a supervisor of its own.
    let done = root.run(&shell_args("job", &task, "run-agent bus post --body later", &[]));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(ids(&root, &task).len() > all.len() + 3);
}

#[test]
fn one_migration_at_a_time_and_others_wait_for_its_last_moments() {
    let root = Root::made();
    let task = root.task_with("one", "true");
    let [_, second] = stores(&root);
    let stopped = root
        .command(&["store", "migrate", "--to", second])
        .env("RUN_AGENT_FAILPOINT", "migrate.caught_up=stop")
        .stdout(Stdio::null())
        .spawn();
    let mut stopped = stopped.unwrap();
    let status = || std::fs::read_to_string(format!("/proc/{}/stat", stopped.id())).unwrap();
    until("it stands still", || status().contains(") T ").then_some(()), status);
    let other = migrate(&root, second, &[]);
    let named = format!("process {}", stopped.id());
    assert!(other.code == 4 && other.stderr.contains(&named), "{other:?}");
    // A post waits, and lands where its message counts.
    let post =
        root.command(&["bus", "post", "--task", "p/one", "--body", "late"]).stdout(Stdio::piped()).spawn();
    let mut post = post.unwrap();
    let waits = || {
        let locks = std::fs::read_dir(format!("/proc/{}/fd", post.id())).into_iter().flatten().flatten();
        let mut files = locks.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        files.any(|file| file.ends_with("store.lock")).then_some(())
    };
    until("the post stands before the lock", waits, String::new);
    assert!(post.try_wait().unwrap().is_none());
    kill(stopped.id(), "CONT");
    assert!(stopped.wait().unwrap().success());
    let post = Done::of(post.wait_with_output().unwrap(), &[]);
    assert_eq!((post.code, backend(&root).as_str()), (0, second), "{post:?}");
    assert_eq!(ids(&root, &task).last().unwrap(), post.stdout.trim());
}

#[test]
fn damage_is_told_and_refused_and_left_behind_only_when_that_is_said() {
    let root = Root::made();
    let task = root.task_with("damaged", "true");
    let _ = root.ok(&["bus", "post", "--task", "p/damaged", "--body", "a sound message"]);
    let all = ids(&root, &task);
    let data = root.bus_data(&task);
    let mut bytes = std::fs::read(&data).unwrap();
    let at = bytes.windows(12).position(|bytes| bytes == b"TASK_CREATED").unwrap();
    bytes[at + 11] = b'T';
    std::fs::write(&data, &bytes).unwrap();
    let [first, second] = stores(&root);
    let refused = migrate(&root, second, &[]);
    assert!(refused.code == 1 && refused.stderr.contains(data.to_str().unwrap()), "{refused:?}");
    assert!(
        refused.stderr.contains("1 damaged place") && refused.stderr.contains("--without-damaged"),
        "{refused:?}"
    );
    assert_eq!(backend(&root), first);
    let both = migrate(&root, second, &["--without-damaged", "--drop-old"]);
    assert_eq!(both.code, 2, "the old files are the only place of what is left behind: {both:?}");
    let told = moved(&root, second, &["--without-damaged"]);
    assert_eq!((&told["moved"], told["left_behind"].as_array().unwrap().len()), (&true.into(), 1), "{told}");
    assert_eq!(ids(&root, &task), all[1..], "all that could be read, in order");
    assert_eq!(std::fs::read(&data).unwrap(), bytes, "it is where it was");
    assert_eq!(root.run(&["store", "verify"]).code, 0);
}

#[test]
fn a_bus_that_is_a_link_is_not_taken_from_outside_the_root() {
    let root = Root::made();
    let task = root.task_with("linked", "true");
    let all = ids(&root, &task);
    let (bus, outside) = (root.bus(&task), root.scratch().join("outside"));
    std::fs::rename(&bus, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &bus).unwrap();
    let [first, second] = stores(&root);
    let refused = migrate(&root, second, &[]);
    assert!(refused.code != 0 && refused.stderr.contains("symbolic link"), "{refused:?}");
    assert_eq!(backend(&root), first);
    std::fs::remove_file(&bus).unwrap();
    std::fs::rename(&outside, &bus).unwrap();
    assert_eq!(moved(&root, second, &[])["moved"], true);
    assert_eq!(ids(&root, &task), all);
}

#[test]
fn a_bus_that_was_cut_does_not_go_over_as_if_it_were_whole() {
    let root = Root::made_of_markdown();
    let task = root.task_with("cut", "true");
    let _ = root.ok(&["bus", "post", "--task", "p/cut", "--body", "the last message"]);
    let bus = std::fs::File::options().write(true).open(root.bus(&task)).unwrap();
    bus.set_len(bus.metadata().unwrap().len() - 20).unwrap();
    let refused = migrate(&root, "segmented", &[]);
    assert!(refused.code == 1 && refused.stderr.contains("it was cut short by"), "{refused:?}");
    assert_eq!(backend(&root), "fs");
}

#[test]
fn what_people_and_other_tools_wrote_into_a_markdown_bus_goes_over() {
    let root = Root::made_of_markdown();
    let task = root.task_with("by-hand", "true");
    let bus = root.bus(&task);
    let by_hand = "---\nmsg_id: by-hand\nts: 2020-01-02T03:04:05Z\ntype: issue\nproject: p\n---\nsome text\n\
                   ---\ntype: NOTE\nproject_id: p\n---\nwithout an id\n";
    let mut text = std::fs::read_to_string(&bus).unwrap();
    text.push_str(by_hand);
    std::fs::write(&bus, text).unwrap();
    // What follows closes it.
    let _ = root.ok(&["bus", "post", "--task", "p/by-hand", "--body", "after"]);
    let read = |root: &Root| root.ok(&["bus", "read", "--task", "p/by-hand", "--json", "--tail", "100"]);
    let before = read(&root);
    assert!(before.contains("some text") && before.contains("without an id"), "{before}");
    let _ = moved(&root, "segmented", &["--drop-old"]);
    assert_eq!(read(&root), before);
    let _ = moved(&root, "fs", &["--drop-old"]);
    assert_eq!(read(&root), before);
}

#[test]
fn a_configuration_that_asks_for_the_old_store_is_to_be_changed_first() {
    let root = Root::made();
    let _ = root.task_with("configured", "true");
    let [first, second] = stores(&root);
    let config = root.path().join("config.hcl");
    let write =
        |store: &str| std::fs::write(&config, format!("storage {{ backend = \"{store}\" }}\n")).unwrap();
    write(first);
    let refused = migrate(&root, second, &[]);
    assert!(refused.code == 2 && refused.stderr.contains("config.hcl asks for"), "{refused:?}");
    // As the error says that a command gives where the configuration was changed first.
    write(second);
    let list = root.run(&["list"]);
    assert!(list.code == 2 && list.stderr.contains(&format!("store migrate --to {second}")), "{list:?}");
    let _ = moved(&root, second, &[]);
    assert_eq!(root.run(&["list"]).code, 0);
    let part = migrate(&root, first, &["--project", "p"]);
    assert!(part.code == 2 && part.stderr.contains("all together"), "{part:?}");
    let unknown = migrate(&root, "sqlite", &[]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
    let project = StreamKey::project(name("x").project);
    assert!(root.tree().layout.segments(&project).exists() || root.tree().layout.bus_file(&project).exists());
}
