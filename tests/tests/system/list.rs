//! `list` and `status` say the same with what they keep and without it, whatever happened in between.

use std::path::{Path, PathBuf};

use run_agent_core::Durability;
use run_agent_core::{Draft, Kind, Parent, StreamKey};
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, many, shell_args, until};
use serde_json::Value;

/// Random numbers that are the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides).unwrap()).unwrap()
    }
}

fn own(root: &Root, what: &str) -> PathBuf {
    root.path().join(".run-agent").join(what)
}

fn forget(root: &Root) {
    for what in ["roster", "checkpoints"] {
        let _ = std::fs::remove_dir_all(own(root, what));
    }
}

fn list(root: &Root) -> Value {
    root.json(&["list", "--json"])
}

/// The roster has a line for each task that can have one.
fn settle(root: &Root, tasks: &[TaskName]) {
    let tree = root.tree();
    let settled = |key: &StreamKey| !matches!(tree.store.version(key), Ok(None));
    until("the streams settle", || tasks.iter().all(|name| settled(&name.key())).then_some(()), String::new);
    list(root);
}

fn rows_kept(root: &Root) -> usize {
    let text = std::fs::read_to_string(own(root, "roster/p")).unwrap_or_default();
    text.lines().count().saturating_sub(1)
}

fn bus(root: &Root, name: &TaskName) -> PathBuf {
    root.bus(name)
}

/// Replaces the file by another one, as editors do.
fn replace(path: &Path, bytes: &[u8]) {
    let other = path.with_extension("new");
    std::fs::write(&other, bytes).unwrap();
    std::fs::rename(&other, path).unwrap();
}

/// One thing that happens to one task. Each may fail: a bus that was deleted cannot be edited.
fn happen(root: &Root, name: &TaskName, what: usize) {
    let done = root.tree().task(name).done();
    let bus = bus(root, name);
    let bytes = std::fs::read(&bus).unwrap_or_default();
    let post = |kind: Kind, parents| {
        let mut draft = Draft::new(kind, name.project.clone(), Some(name.task.clone()), "which?\n---\n");
        draft.parents = parents;
        let stream = root.tree().store.open(&name.key()).unwrap();
        stream.append(vec![draft], Durability::None).unwrap();
    };
    match what {
        0 => post(Kind::FACT, Vec::new()),
        1 => post(Kind::QUESTION, Vec::new()),
        2 => {
            let page = root.tree().store.open(&name.key()).unwrap().last(20).unwrap();
            let asked = page.entries.iter().filter(|e| e.message.content.kind == Kind::QUESTION);
            post(Kind::ANSWER, asked.map(|e| Parent::new(e.message.id.clone(), None)).collect());
        }
        // Only a markdown file is edited by hand.
        6..=10 if !root.is_markdown() => post(Kind::FACT, Vec::new()),
        3 | 4 => std::fs::write(&done, "").unwrap(),
        5 => drop(std::fs::remove_file(&done)),
        // Edited in place to the same length.
        6 => std::fs::write(&bus, String::from_utf8(bytes).unwrap().replace("FACT", "INFO")).unwrap(),
        // Cut in the middle of an entry.
        7 => drop(
            std::fs::File::options()
                .write(true)
                .open(&bus)
                .and_then(|f| f.set_len(bytes.len() as u64 * 2 / 3)),
        ),
        8 => replace(&bus, &bytes[..bytes.len() / 2]),
        9 => std::fs::write(&bus, [&bytes[..], b"\nby hand\n"].concat()).unwrap(),
        10 => drop(std::fs::remove_file(&bus)),
        11 => drop(root.run(&shell_args("job", name, "exit 3", &[]))),
        _ => drop(std::fs::remove_dir_all(root.tree().task(name).folder())),
    }
}

#[test]
fn a_list_with_a_roster_equals_one_without_whatever_happened_in_between() {
    let root = Root::made();
    let tasks: Vec<TaskName> = (0..24).map(|n| many::name("p", n)).collect();
    many::tasks(&root.tree(), "p", tasks.len());
    let mut dice = Dice(0x5eed_0003);
    for round in 0..6 {
        settle(&root, &tasks);
        let mut story = Vec::new();
        for _ in 0..6 {
            let (task, what) = (dice.roll(tasks.len()), dice.roll(13));
            if root.tree().task(&tasks[task]).folder().is_dir() {
                happen(&root, &tasks[task], what);
                story.push((task, what));
            }
        }
        let kept = rows_kept(&root);
        assert!(kept > tasks.len() / 3, "round {round}: only {kept} rows are put to the test");
        let with = list(&root);
        settle(&root, &tasks);
        let settled = list(&root);
        forget(&root);
        let without = list(&root);
        assert_eq!(with, without, "round {round}: {story:?}");
        assert_eq!(settled, without, "round {round}: {story:?}");
    }
}

#[test]
fn a_roster_that_is_damaged_is_made_anew() {
    let root = Root::made();
    let tasks: Vec<TaskName> = (0..3).map(|n| many::name("p", n)).collect();
    many::tasks(&root.tree(), "p", 3);
    settle(&root, &tasks);
    let (wanted, path) = (list(&root), own(&root, "roster/p"));
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(rows_kept(&root), 3);
    let text = String::from_utf8(bytes.clone()).unwrap();
    let forged = text.replace("completed", "stopped__");
    for doubtful in [b"".as_slice(), b"{}\n", &bytes[..bytes.len() / 2], forged.as_bytes(), &[0xff; 64]] {
        std::fs::write(&path, doubtful).unwrap();
        assert_eq!(list(&root), wanted);
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "it is made anew");
    }
    std::fs::remove_dir_all(own(&root, "roster")).unwrap();
    std::fs::write(own(&root, "roster"), "a file in the way").unwrap();
    assert_eq!(list(&root), wanted, "what cannot be kept is listed all the same");
}

#[test]
fn a_done_file_made_or_removed_by_hand_is_told_by_the_next_look() {
    let root = Root::made();
    let tasks = [many::name("p", 0)];
    many::tasks(&root.tree(), "p", 1);
    let done = root.tree().task(&tasks[0]).done();
    let id = tasks[0].task.as_str();
    for (command, kind) in [(vec!["list", "--json"], "list"), (vec!["status", id, "--json"], "status")] {
        settle(&root, &tasks);
        std::fs::write(&done, "").unwrap();
        let told = |value: Value| {
            if kind == "list" { value["items"][0]["done"].clone() } else { value["done"].clone() }
        };
        assert_eq!(told(root.json(&command)), true, "{kind}");
        settle(&root, &tasks);
        std::fs::remove_file(&done).unwrap();
        assert_eq!(told(root.json(&command)), false, "{kind}");
    }
    assert_eq!((root.count(&tasks[0], "DONE"), root.count(&tasks[0], "DONE_CLEARED")), (2, 2));
}

#[test]
fn tasks_are_chosen_by_status_activity_and_number() {
    let root = Root::made();
    many::tasks(&root.tree(), "p", 9);
    let ids = |args: &[&str]| {
        let value = root.json(&[&["list", "--json"], args].concat());
        let items = value["items"].as_array().unwrap();
        (
            items.iter().map(|i| i["id"].as_str().unwrap()[21..].to_owned()).collect::<Vec<_>>(),
            value["total"].clone(),
        )
    };
    let names = |numbers: &[usize]| numbers.iter().map(|n| format!("n{n:06}")).collect::<Vec<_>>();
    assert_eq!(ids(&["--status", "failed"]), (names(&[6, 3, 0]), 3.into()));
    assert_eq!(ids(&["--status", "failed,completed", "--limit", "2"]), (names(&[8, 7]), 9.into()));
    assert_eq!(ids(&["--limit", "0"]).0.len(), 9);
    assert_eq!(ids(&["--active"]), (Vec::new(), 0.into()));
    let shown = root.run(&["list", "--limit", "4"]);
    assert_eq!(shown.stdout.lines().count(), 1 + 4, "a title and four rows: {shown:?}");
    assert_eq!(shown.stderr, "… and 5 more; see them with --limit 0\n");
    let wrong = root.run(&["list", "--status", "faild"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("failed"), "{wrong:?}");
}

#[test]
fn status_from_a_checkpoint_tells_the_same_damage_and_world() {
    let root = Root::made_of_markdown();
    let name = many::name("p", 0);
    many::tasks(&root.tree(), "p", 1);
    many::messages(&root.tree(), &name, 700);
    let bus = bus(&root, &name);
    let mut bytes = std::fs::read(&bus).unwrap();
    let at = bytes.windows(9).position(|w| w == b"step 100:").unwrap();
    bytes[at] = b'S';
    std::fs::write(&bus, &bytes).unwrap();
    let status = || root.json(&["status", name.task.as_str(), "--json"]);
    let without = status();
    let checkpoint = root.tree().layout.checkpoint(&name.project, &name.task);
    assert!(checkpoint.exists());
    assert_eq!(without["damage"].as_array().unwrap().len(), 1);
    assert_eq!(without["messages"], 704);
    assert_eq!(status(), without);
    many::messages(&root.tree(), &name, 3);
    assert_eq!(status()["messages"], 707);
    std::fs::remove_file(&checkpoint).unwrap();
    assert_eq!(status()["messages"], 707);
    // A stream that was cut holds another last entry: what was kept of it is dropped.
    std::fs::File::options().write(true).open(&bus).unwrap().set_len(bytes.len() as u64 / 2).unwrap();
    let cut = status();
    assert!(cut["messages"].as_u64().unwrap() < 400, "{cut}");
    let _ = std::fs::remove_file(&checkpoint);
    assert_eq!(status(), cut);
}

#[test]
fn a_program_finds_tasks_and_runs_under_the_names_that_they_have_everywhere() {
    let root = Root::new();
    let task = root.task_with("names", "run-agent bus post --type QUESTION --blocking --body 'which?'");
    let id = task.task.as_str();
    assert_eq!(root.json(&["list", "--json"])["items"][0]["task_id"], id);
    let status = root.json(&["status", "--task", id, "--json"]);
    assert_eq!(status["task_id"], id);
    let questions = status["open_questions"].as_object().unwrap();
    let question = questions.values().next().unwrap();
    assert!(question["run_id"].is_string() && question.get("run").is_none(), "{question}");
    for line in root.ok(&["replay", "--task", id, "--json"]).lines() {
        let change: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&change["task_id"], change.get("task")), (&serde_json::json!(id), None), "{change}");
    }
}
