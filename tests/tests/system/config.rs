//! The configuration: the stub, mistakes and where they are told, which file counts, and what reaches the store.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use run_agent_tests::{Done, Root, name, shell_args, until};

fn write(root: &Root, text: &str) {
    std::fs::create_dir_all(root.path()).unwrap();
    std::fs::write(root.path().join("config.hcl"), text).unwrap();
}

fn store_yaml(root: &Root) -> String {
    std::fs::read_to_string(root.path().join(".run-agent/store.yaml")).unwrap()
}

fn post(root: &Root) -> Done {
    root.run(&["bus", "post", "--project", "p", "--task", name("t").task.as_str(), "--body", "x"])
}

/// The row of `config show --json`.
fn shown(root: &Root, setting: &str) -> serde_json::Value {
    let all = root.json(&["config", "show", "--json"]);
    let rows = all["settings"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == setting).unwrap().clone()
}

#[test]
fn a_new_root_has_a_stub_that_sets_nothing_and_loses_nothing_when_uncommented() {
    let root = Root::new();
    let _ = root.ok(&["config", "init"]);
    let config = root.path().join("config.hcl");
    let stub = std::fs::read_to_string(&config).unwrap();
    for setting in
        ["durability", "max_restarts", "stuck_after", "allow_delete_from_ui", "secret_file", "min_version"]
    {
        assert!(
            stub.contains(&format!("# {setting} = ")) || stub.contains(&format!("#   {setting} = ")),
            "{setting}"
        );
    }
    let _ = root.ok(&["config", "validate"]);
    let before = root.json(&["config", "show", "--json"])["settings"].clone();
    let open: String = stub.lines().map(|line| line.replacen("# ", "", 1) + "\n").collect();
    let values = |rows: &serde_json::Value| -> Vec<_> {
        rows.as_array().unwrap().iter().map(|row| (row["name"].clone(), row["value"].clone())).collect()
    };
    std::fs::write(&config, &open).unwrap();
    assert_eq!(root.run(&["config", "validate"]).code, 0, "{:?}\n{open}", root.run(&["config", "validate"]));
    let after = values(&root.json(&["config", "show", "--json"])["settings"]);
    assert_eq!(after[..values(&before).len()], values(&before)[..], "what stood as a comment is the default");
}

#[test]
fn no_stub_is_written_where_a_configuration_exists_or_was_taken_away() {
    let root = Root::new();
    let own = root.scratch().join(".config/run-agent");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("config.yaml"), "stop:\n  grace: 7s\n").unwrap();
    let _ = root.task_with("t", "true");
    assert!(!root.path().join("config.hcl").exists());
    assert_eq!(shown(&root, "stop.grace")["value"], "7s");
    let other = Root::new();
    let _ = other.task_with("t", "true");
    std::fs::remove_file(other.path().join("config.hcl")).unwrap();
    let _ = other.ok(&["list"]);
    assert!(!other.path().join("config.hcl").exists());
}

#[test]
fn a_mistake_is_told_with_its_line_a_caret_and_what_was_meant() {
    let root = Root::new();
    write(&root, "stop {\n  grase = \"1s\"\n}\n");
    let done = root.run(&["job", "--project", "p", "--agent", "shell", "--prompt", "true"]);
    assert_eq!(done.code, 2, "{done:?}");
    let config = root.path().join("config.hcl").display().to_string();
    let wanted = format!(
        "error: {config}:2:3: unknown setting `grase` in the block `stop`; did you mean `grace`?\n  |\n2 |   grase = \"1s\"\n  |   ^^^^^\n"
    );
    assert_eq!(done.stderr, wanted);
    assert_eq!(root.tree().projects().unwrap_or_default(), [], "nothing was made");
}

#[test]
fn validate_tells_all_mistakes_and_no_secret() {
    let root = Root::new();
    assert!(root.ok(&["config", "validate"]).contains("no configuration"));
    write(&root, "stroage { }\nstop { grace = 3 }\nagent \"claude\" {\n  token = sk-12345\n}\n");
    let done = root.run(&["config", "validate"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.ends_with("config.hcl: 3 mistakes\n"), "{done:?}");
    assert!(!done.stderr.contains("sk-"), "{done:?}");
    let json = root.run(&["config", "validate", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((json["valid"].as_bool(), json["problems"].as_array().unwrap().len()), (Some(false), 3));
    assert_eq!(json["problems"][0]["suggestion"], "storage");
    assert_eq!((&json["problems"][1]["line"], &json["problems"][1]["column"]), (&2.into(), &16.into()));
    let other = root.scratch().join("other.yml");
    std::fs::write(&other, "stop: {grace: 1s}\n").unwrap();
    let _ = root.ok(&["config", "validate", other.to_str().unwrap()]);
}

#[test]
fn a_broken_configuration_costs_nobody_the_bus_and_stopping_works() {
    let root = Root::new();
    let task = root.task_with("t", "true");
    write(&root, "storage { durability = \"always\" }\n");
    assert_eq!(post(&root).stderr, "");
    write(&root, "storage { durability = \n");
    for done in [post(&root), root.run(&["list"]), root.run(&["bus", "read", "--task", "t"])] {
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.stderr.starts_with("warning: ") && done.stderr.contains("config.hcl:"), "{done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    }
    assert!(store_yaml(&root).contains("durability: \"always\""), "what was in force stays");
    let run = root.view(&task).task().runs.keys().next().unwrap().to_string();
    assert_eq!(root.run(&["stop", "--run", &run]).code, 0);
    let job = root.run(&shell_args("job", &task, "true", &[]));
    assert_eq!((job.code, job.stderr.matches("config.hcl").count()), (2, 1), "{job:?}");
}

#[test]
fn a_change_reaches_the_store_file_and_an_unchanged_configuration_is_not_read() {
    let root = Root::new();
    let _ = root.task_with("t", "true");
    assert!(store_yaml(&root).contains("durability: \"interval\"\nsync_every_ms: 200\nsync_messages: 256\nrotate_bytes: 67108864\nlock_timeout_ms: 10000\n"));
    write(
        &root,
        "storage {\n  durability = \"none\"\n  sync_every = \"1s\"\n  rotate_bytes = \"64KiB\"\n}\n",
    );
    assert_eq!(post(&root).code, 0);
    let after = store_yaml(&root);
    assert!(
        after
            .contains("durability: \"none\"\nsync_every_ms: 1000\nsync_messages: 256\nrotate_bytes: 65536\n"),
        "{after}"
    );
    // Nobody may read it, and nobody does: its owner can still look at it.
    let config = root.path().join("config.hcl");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    std::fs::File::options().write(true).open(&config).unwrap().set_modified(old).unwrap();
    assert_eq!(post(&root).code, 0);
    let settled = store_yaml(&root);
    let same_time = std::fs::metadata(&config).unwrap().modified().unwrap();
    // The same file with other words of the same length and time: whoever read it would see the change.
    let text = std::fs::read_to_string(&config).unwrap().replace("none", "nine");
    std::fs::write(&config, text).unwrap();
    std::fs::File::options().write(true).open(&config).unwrap().set_modified(same_time).unwrap();
    assert_eq!(post(&root).stderr, "", "it was not read");
    assert_eq!(store_yaml(&root), settled);
    std::fs::remove_file(&config).unwrap();
    assert_eq!(post(&root).code, 0);
    assert!(store_yaml(&root).contains("durability: \"interval\""), "gone, so the defaults hold");
}

#[test]
fn twenty_processes_at_once_agree_on_a_new_root_and_on_a_change() {
    let root = Root::new();
    let task = name("t");
    let all = |args: &[&str]| {
        let started: Vec<_> = (0..20)
            .map(|_| root.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
            .collect();
        for child in started {
            let done = Done::of(child.wait_with_output().unwrap(), args);
            assert!(done.code == 0 && !done.stderr.contains("warning"), "{done:?}");
        }
    };
    all(&["config", "init"]);
    assert_eq!(root.run(&shell_args("job", &task, "true", &[])).code, 0);
    write(&root, "storage { sync_messages = 9 }\n");
    all(&["bus", "post", "--project", "p", "--task", task.task.as_str(), "--body", "x"]);
    assert_eq!(root.count(&task, "INFO"), 20);
    assert!(store_yaml(&root).contains("sync_messages: 9\n"));
    let files = std::fs::read_dir(root.path().join(".run-agent")).unwrap().map(Result::unwrap);
    let left: Vec<_> = files.filter(|e| e.file_type().unwrap().is_file()).map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 2, "no temporary file is left beside store.yaml and store.lock: {left:?}");
}

#[test]
fn a_configuration_does_not_change_the_store_of_a_root() {
    let root = Root::new();
    let _ = root.task_with("t", "true");
    let other = if root.is_markdown() { "segmented" } else { "fs" };
    write(&root, &format!("storage {{\n  backend = \"{other}\"\n}}\n"));
    let done = post(&root);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(
        done.stderr.contains("config.hcl:2:3: ")
            && done.stderr.contains(&format!("run-agent store migrate --to {other}")),
        "{done:?}"
    );
    assert_eq!(done.stderr.lines().count(), 1);
    write(&root, &format!("storage {{ backend = \"{}\" }}\n", root.store_name()));
    assert_eq!(post(&root).code, 0);
}

#[test]
fn which_configuration_counts_is_in_this_order() {
    let root = Root::new();
    write(&root, "limits { max_depth = 4 }\n");
    let depth = |root: &Root| shown(root, "limits.max_depth")["value"].as_u64();
    assert_eq!(depth(&root), Some(4));
    let own = root.scratch().join(".config/run-agent");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("config.hcl"), "limits { max_depth = 3 }\n").unwrap();
    assert_eq!(depth(&root), Some(3));
    let (variable, flag) = (root.scratch().join("v.yaml"), root.scratch().join("f.hcl"));
    std::fs::write(&variable, "limits: {max_depth: 2}\n").unwrap();
    std::fs::write(&flag, "limits { max_depth = 1 }\n").unwrap();
    // The working folder has one too, which never counts.
    std::fs::write(root.scratch().join("config.hcl"), "limits { max_depth = 9 }\n").unwrap();
    let with = |args: &[&str]| {
        let mut command = root.command(args);
        let done = Done::of(command.env("RUN_AGENT_CONFIG", &variable).output().unwrap(), args);
        assert_eq!(done.code, 0, "{done:?}");
        serde_json::from_str::<serde_json::Value>(&done.stdout).unwrap()
    };
    let path = with(&["config", "path", "--json"]);
    assert_eq!(
        (&path["path"], &path["why"]),
        (&variable.display().to_string().into(), &"RUN_AGENT_CONFIG".into())
    );
    let flags = ["config", "path", "--json", "--config", flag.to_str().unwrap()];
    assert_eq!(with(&flags)["why"], "--config");
    std::fs::write(own.join("config.yml"), "").unwrap();
    let two = root.run(&["config", "path"]);
    assert!(
        two.code == 2 && two.stderr.contains("config.hcl") && two.stderr.contains("config.yml"),
        "{two:?}"
    );
}

#[test]
fn a_configuration_that_is_named_and_is_not_there_is_wrong_usage() {
    let root = Root::new();
    let _ = root.task_with("t", "true");
    let missing = root.scratch().join("no.hcl");
    for args in
        [["list"].as_slice(), &["bus", "read", "--task", "t"], &["config", "show"], &["config", "validate"]]
    {
        let done = root.run(&[args, &["--config", missing.to_str().unwrap()]].concat());
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.starts_with("error: ") && done.stderr.contains("no.hcl"), "{done:?}");
    }
}

#[test]
fn the_settings_of_a_named_configuration_hold_for_those_who_name_it() {
    let root = Root::new();
    let _ = root.task_with("t", "true");
    let named = root.scratch().join("named.hcl");
    std::fs::write(&named, "storage { sync_messages = 3 }\n").unwrap();
    let _ = root.ok(&["list", "--config", named.to_str().unwrap()]);
    assert!(store_yaml(&root).contains("sync_messages: 3\n"));
    assert_eq!(post(&root).code, 0);
    assert!(store_yaml(&root).contains("sync_messages: 256\n"), "{}", store_yaml(&root));
}

#[test]
fn the_storage_settings_reach_the_store() {
    let root = Root::new();
    let task = root.task_with("t", "true");
    write(&root, "storage { rotate_bytes = \"1KiB\" }\n");
    for _ in 0..24 {
        assert_eq!(post(&root).code, 0);
    }
    let files = root.tree().store.open(&task.key()).unwrap().stats().unwrap().files;
    assert!(files > 2, "the bus is rotated");
    assert_eq!(root.count(&task, "INFO"), 24);
}

#[test]
fn a_supervisor_takes_its_settings_from_its_root() {
    let root = Root::new();
    // Held by somebody else for longer than the supervisor is told to wait.
    write(&root, "storage { lock_timeout = \"50ms\" }\n");
    let task = root.task_with("t", "true");
    let bus = root.bus(&task);
    let lock = if root.is_markdown() { bus.with_extension("lock") } else { bus.join("append.lock") };
    let go = root.scratch().join("go");
    let prompt = format!("while [ ! -f {} ]; do sleep 0.02; done", go.display());
    let run = root.ok(&shell_args("job", &task, &prompt, &["--detach"]));
    let lock = std::fs::File::options().write(true).open(lock).unwrap();
    lock.lock().unwrap();
    std::fs::write(&go, "").unwrap();
    let log = root.tree().run(&task, &run_agent_core::RunId::parse(&run).unwrap()).supervisor_log();
    let said = until(
        "the supervisor gives up waiting for the lock",
        || std::fs::read_to_string(&log).ok().filter(|text| text.contains("for the append lock")),
        || std::fs::read_to_string(&log).unwrap_or_default(),
    );
    assert!(!said.contains("waited 10s"), "not as long as it would by default: {said}");
    drop(lock);
}

#[test]
fn show_says_where_each_value_comes_from_and_masks_tokens() {
    let root = Root::new();
    write(
        &root,
        "storage { root = \"/nowhere\" }\nagent \"mine\" {\n  type = \"command\"\n  token = \"sk-1\"\n  env = { A = \"s3cret\" }\n}\n",
    );
    let text = root.run(&["config", "show"]);
    assert!(!text.stdout.contains("sk-1") && !text.stdout.contains("s3cret"), "{text:?}");
    let config = root.path().join("config.hcl").display().to_string();
    assert_eq!(shown(&root, "agent.mine.type")["from"], format!("{config}:3"));
    assert_eq!(shown(&root, "stop.grace")["from"], "default");
    let storage = shown(&root, "storage.root");
    assert_eq!(
        (&storage["from"], &storage["value"]),
        (&"JRUN_ROOT".into(), &root.path().display().to_string().into())
    );
    let list = root.run(&["job", "--project", "p", "--agent", "shell", "--prompt", "true"]);
    assert!(list.stderr.contains("warning: storage.root is ignored"), "{list:?}");
}

#[test]
fn init_writes_a_configuration_and_later_adds_to_it_without_a_change_to_its_lines() {
    let root = Root::new();
    let file = root.scratch().join("deep/er/mine.hcl");
    let args = |command| ["config", command, "--config", file.to_str().unwrap()];
    assert!(root.ok(&args("init")).contains("written"));
    assert!(root.ok(&args("init")).contains("has every setting already"));
    let old = "# my notes\nstop {\n\tgrace = \"3s\" // short\n}\n";
    std::fs::write(&file, old).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let link = root.scratch().join("link.hcl");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert!(root.ok(&["config", "init", "--config", link.to_str().unwrap()]).contains("brought up to date"));
    let new = std::fs::read_to_string(&file).unwrap();
    assert!(new.starts_with(old) && new.contains("# durability = \"interval\""), "{new}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(link.symlink_metadata().unwrap().is_symlink());
    std::fs::write(&file, "stop {\n").unwrap();
    let broken = root.run(&args("init"));
    assert!(broken.code == 2 && broken.stderr.contains("mine.hcl:"), "{broken:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "stop {\n");
    assert!(!root.path().exists(), "none of this needs a root");
}

#[test]
fn the_schema_knows_every_block() {
    let root = Root::new();
    let schema: serde_json::Value = serde_json::from_str(&root.ok(&["config", "schema"])).unwrap();
    assert_eq!(schema["properties"].as_object().unwrap().len(), 11);
    assert_eq!(schema["properties"]["storage"]["properties"]["durability"]["default"], "interval");
}

#[test]
fn a_configuration_from_a_pipe_is_read_once_for_all_who_ask() {
    let root = Root::new();
    let script = r#""$0" job --config <(printf 'agent "mine" {\n type = "shell"\n}\n') --project p --agent mine --prompt 'echo said'"#;
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", script])
        .arg(run_agent_tests::binary())
        .env("JRUN_ROOT", root.path())
        .env("HOME", root.scratch());
    let done = Done::of(bash.current_dir(root.scratch()).output().unwrap(), &[script]);
    assert!(done.code == 0 && done.stdout == "said\n", "{done:?}");
}

#[test]
fn a_mark_of_the_encoding_is_no_part_of_the_configuration() {
    let root = Root::new();
    write(&root, "\u{feff}stop { grace = \"7s\" }\n");
    assert_eq!(shown(&root, "stop.grace")["value"], "7s");
}

#[test]
fn a_format_that_is_newer_is_refused_and_kept() {
    let root = Root::new();
    assert_eq!(post(&root).code, 5);
    let path = root.path().join(".run-agent/store.yaml");
    let text = store_yaml(&root).replace("format: 1", "format: 2");
    std::fs::write(&path, &text).unwrap();
    let done = root.run(&["list"]);
    assert!(done.code == 2 && done.stderr.contains("format 2 is newer"), "{done:?}");
    assert_eq!(store_yaml(&root), text);
}

#[test]
fn init_takes_the_place_of_no_device_pipe_or_dangling_link() {
    use std::os::unix::fs::FileTypeExt;
    let root = Root::new();
    let pipe = root.scratch().join("pipe.hcl");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let done = root.run(&["config", "init", "--config", "pipe.hcl"]);
    assert_eq!((done.code, done.stderr.contains("not a regular file")), (2, true), "{done:?}");
    assert!(std::fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    std::os::unix::fs::symlink("nothing.hcl", root.scratch().join("link.hcl")).unwrap();
    let done = root.run(&["config", "init", "--config", "link.hcl"]);
    assert_eq!((done.code, done.stderr.contains("is a link to nothing.hcl")), (2, true), "{done:?}");
}

#[test]
fn init_keeps_the_mark_with_which_a_file_begins() {
    let root = Root::new();
    write(&root, "\u{feff}stop { grace = \"1s\" }\n");
    let done = root.run(&["config", "init"]);
    assert!(done.code == 0 && done.stdout.contains("no line of yours was changed"), "{done:?}");
    let text = std::fs::read_to_string(root.path().join("config.hcl")).unwrap();
    assert!(text.starts_with("\u{feff}stop { grace") && text.matches('\u{feff}').count() == 1, "{text}");
    assert!(root.ok(&["config", "init"]).contains("has every setting already"));
}

#[test]
fn a_store_that_there_is_not_is_a_mistake() {
    let root = Root::new();
    let file = root.scratch().join("c.hcl");
    let validate = |text: &str| {
        std::fs::write(&file, text).unwrap();
        root.run(&["config", "validate", file.to_str().unwrap()])
    };
    for (unknown, meant) in [("sqlite", None), ("segmentd", Some("did you mean `segmented`?"))] {
        let done = validate(&format!("storage {{ backend = \"{unknown}\" }}\n"));
        assert_eq!((done.code, done.stderr.contains("did you mean")), (2, meant.is_some()), "{done:?}");
        assert!(done.stderr.contains(meant.unwrap_or("c.hcl:1:21: ")), "{done:?}");
    }
    for known in ["fs", "segmented"] {
        assert_eq!(validate(&format!("storage {{ backend = \"{known}\" }}\n")).code, 0);
    }
}
