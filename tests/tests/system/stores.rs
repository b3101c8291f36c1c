//! Which store a root has: asked for by the configuration of its first use, told by the root ever after.

use std::os::unix::fs::DirBuilderExt;

use run_agent_core::Store;
use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_store_segmented::SegmentedStore;
use run_agent_tests::{Root, TEST_STORE, name, shell_args};

fn configured(backend: &str) -> Root {
    let root = Root::new();
    std::fs::DirBuilder::new().mode(0o700).create(root.path()).unwrap();
    std::fs::write(config(&root), format!("storage {{ backend = \"{backend}\" }}\n")).unwrap();
    root
}

fn config(root: &Root) -> std::path::PathBuf {
    root.path().join("config.hcl")
}

fn backend(root: &Root) -> String {
    root.json(&["bus", "discover", "--project", "p", "--json"])["backend"].as_str().unwrap().to_owned()
}

#[test]
fn the_configuration_of_its_first_use_chooses_the_store_of_a_root() {
    for backend in ["fs", "segmented"] {
        let root = configured(backend);
        let task = name("chosen");
        // The supervisor, the driver and the agent's own post open the same store.
        let prompt = "run-agent bus post --body \"in $JRUN_MESSAGE_BUS\"; run-agent done";
        let done = root.run(&shell_args("task", &task, prompt, &[]));
        assert_eq!(done.code, 0, "{done:?}");
        let folder = root.tree().task(&task).folder().to_owned();
        let (markdown, segments) = (folder.join("TASK-MESSAGE-BUS.md"), folder.join("bus"));
        assert_eq!((markdown.exists(), segments.exists()), (backend == "fs", backend == "segmented"));
        let bus = if backend == "fs" { markdown } else { segments };
        let read = root.ok(&["bus", "read", "--task", task.task.as_str(), "--json", "--tail", "100"]);
        assert!(read.contains(&format!("in {}", bus.display())), "{read}");
        assert!(read.contains("LOOP_END"), "{read}");
        assert_eq!(root.run(&["doctor"]).code, 0);
        assert_eq!(root.run(&["store", "verify", "--deep"]).code, 0);
    }
}

#[test]
fn a_configuration_that_asks_for_no_store_has_nothing_against_either() {
    for wanted in ["fs", "segmented"] {
        let root = configured(wanted);
        let post = ["bus", "post", "--project", "p", "--body", "x"];
        std::fs::create_dir(root.path().join("p")).unwrap();
        let _ = root.ok(&post);
        std::fs::write(config(&root), "storage { durability = \"none\" }\n").unwrap();
        let _ = root.ok(&post);
        assert_eq!(backend(&root), wanted);
    }
}

#[test]
fn a_root_that_lost_its_own_file_keeps_its_store() {
    for wanted in ["fs", "segmented"] {
        let root = configured(wanted);
        std::fs::create_dir(root.path().join("p")).unwrap();
        let id = root.ok(&["bus", "post", "--project", "p", "--body", "x"]);
        let other = if wanted == "fs" { "segmented" } else { "fs" };
        let own = root.tree().layout.store_file();
        std::fs::remove_file(&own).unwrap();
        std::fs::write(config(&root), format!("storage {{ backend = \"{other}\" }}\n")).unwrap();
        let refused = root.run(&["bus", "read", "--project", "p"]);
        assert!(refused.code == 2 && refused.stderr.contains("store migrate --to"), "{refused:?}");
        std::fs::write(config(&root), "").unwrap();
        // Whatever a new root would get.
        let mut read = root.command(&["bus", "read", "--project", "p", "--json"]);
        let read = read.env(TEST_STORE, other).output().unwrap();
        assert!(String::from_utf8_lossy(&read.stdout).contains(&id), "{read:?}");
        assert_eq!(backend(&root), wanted);
        // Files of both: nothing tells which of them are older.
        std::fs::remove_file(&own).unwrap();
        std::fs::create_dir_all(root.path().join("p/bus")).unwrap();
        for file in ["p/bus/META", "p/PROJECT-MESSAGE-BUS.md"] {
            let file = std::fs::File::options().create(true).append(true).open(root.path().join(file));
            assert!(file.is_ok());
        }
        let refused = root.run(&["bus", "read", "--project", "p"]);
        assert!(refused.code == 2 && refused.stderr.contains("events of both stores"), "{refused:?}");
    }
}

#[test]
fn segments_are_no_text_to_edit() {
    let root = configured("segmented");
    let task = root.task_with("segments", "true");
    let done = root.run(&["bus", "edit", "--task", task.task.as_str()]);
    assert!(done.code == 2 && done.stderr.contains("supersedes"), "{done:?}");
    assert!(done.stderr.contains("store migrate --to fs"), "{done:?}");
    let store = SegmentedStore::new(Layout::new(root.path()), Options::default());
    assert!(!store.open(&task.key()).unwrap().last(1).unwrap().entries.is_empty());
}
