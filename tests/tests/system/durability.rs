//! What is synced when, through the real binary.

use std::process::{Command, Stdio};

use run_agent_tests::{Root, text_of, until};

/// What is synced, and the end: of the task's lock file, or of the page that its syncs share, which knows of later ones.
fn synced_and_end(root: &Root) -> Option<(u64, u64)> {
    let name = root.only_task();
    if !root.is_markdown() {
        let page = std::fs::read(root.bus(&name).join("ctl")).ok()?;
        let word = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap());
        return Some((word(256), word(128 + 64 * (word(64) & 1) as usize + 24)));
    }
    let lock = root.tree().task(&name).folder().join("TASK-MESSAGE-BUS.lock");
    let text = text_of(&lock);
    let number = |field: &str| text.split(' ').find_map(|word| word.strip_prefix(field)?.parse::<u64>().ok());
    let page = std::fs::read(root.tree().layout.sync_page(&name.key())).unwrap_or_default();
    let synced = page.get(128..136).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    Some((number("synced=")?.max(synced), number("end=")?))
}

#[test]
fn while_a_supervisor_lives_the_last_message_is_synced_by_the_clock() {
    let root = Root::new();
    let prompt = "until [ -e \"$JRUN_TASK_FOLDER/go\" ]; do sleep 0.05; done";
    let _ = root.ok(&["job", "--project", "p", "--agent", "shell", "--prompt", prompt, "--detach"]);
    let name = root.only_task();
    let task = name.task.to_string();
    let post = |body: &str| root.ok(&["bus", "post", "--project", "p", "--task", &task, "--body", body]);
    // Each posts within the interval of the other's sync: nobody but the supervisor comes to the last one.
    for body in ["one", "two", "three"] {
        post(body);
    }
    until(
        "everything that was posted is synced",
        || synced_and_end(&root).filter(|(synced, end)| synced == end),
        || format!("{:?}", synced_and_end(&root)),
    );
    std::fs::write(root.tree().task(&name).folder().join("go"), "").unwrap();
    let run = root.view(&name).task().runs.keys().next().unwrap().to_string();
    let _ = root.ok(&["wait", &run]);
}

#[test]
fn with_the_durability_none_nothing_is_synced_until_a_message_asks_for_it() {
    let root = Root::new();
    std::fs::create_dir_all(root.path()).unwrap();
    std::fs::write(root.path().join("config.hcl"), "storage { durability = \"none\" }\n").unwrap();
    let _ = root.ok(&["job", "--project", "p", "--agent", "shell", "--prompt", "true"]);
    assert_eq!(synced_and_end(&root).unwrap().0, 0);
}

fn strace_is_here() -> bool {
    let known = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if known.is_err() {
        eprintln!("skipped: strace is not installed");
    }
    known.is_ok()
}

/// The syncs that a post waited for before it printed its id, each with the path of its file. What the root remembers of a
/// configuration that was changed is synced, too, and not meant here.
fn syncs_of(root: &Root, args: &[&str]) -> Vec<String> {
    let (plain, trace) = (root.command(args), root.scratch().join("trace"));
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-y", "-s", "99", "-e", "trace=fdatasync,fsync,write", "-o"]).arg(&trace);
    command.arg(plain.get_program()).args(plain.get_args()).current_dir(root.scratch()).stdin(Stdio::null());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.output().unwrap();
    let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success() && id.starts_with("MSG-"), "{output:?}");
    let text = text_of(&trace);
    let (before, after) = text.split_once(&format!(">, \"{id}")).unwrap_or_else(|| panic!("no {id}: {text}"));
    assert!(!after.contains("sync("), "a sync after it was acknowledged: {text}");
    let of_stream = |line: &&str| line.contains("sync(") && !line.contains("/.store.yaml");
    before.lines().filter(of_stream).map(str::to_owned).collect()
}

#[test]
fn of_lone_posts_the_one_whose_last_sync_is_old_syncs_and_the_next_one_does_not() {
    if !strace_is_here() {
        return;
    }
    for (backend, of_bus) in [("fs", "PROJECT-MESSAGE-BUS.md>"), ("segmented", ".log>")] {
        let root = Root::new();
        std::fs::create_dir_all(root.path().join("p")).unwrap();
        let post = |every: &str| {
            let storage = format!("backend = \"{backend}\"\n  sync_every = \"{every}\"");
            let config = format!("storage {{\n  durability = \"interval\"\n  {storage}\n}}\n");
            std::fs::write(root.path().join("config.hcl"), config).unwrap();
            syncs_of(&root, &["bus", "post", "--project", "p", "--body", "x"])
        };
        let syncs = |calls: &[String]| calls.iter().any(|call| call.contains(of_bus));
        // One whose bus nobody synced, then one right behind it; one behind which the interval has passed, and so on.
        for round in 0..2 {
            let calls = post(if round == 0 { "1h" } else { "1ms" });
            assert!(syncs(&calls), "{backend} {round}: {calls:?}");
            let calls = post("1h");
            assert!(calls.is_empty(), "{backend} {round}: {calls:?}");
        }
    }
}
