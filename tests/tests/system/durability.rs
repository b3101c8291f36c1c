//! What is synced when, through the real binary.

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
