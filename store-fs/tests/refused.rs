//! What a system leaves that says no: descriptors that are used up, rotations that fail, permissions that are lost, a folder
//! that is deleted.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Bus, post, stream_at};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use run_agent_core::store::Options;
use run_agent_core::testkit::conformance::key;
use run_agent_core::{Cursor, Draft, Durability, Kind};
use run_agent_store_shared::testkit::{denied, said, under_strace};

fn draft(body: &str) -> Draft {
    Draft::new(Kind::FACT, key().project, key().task, body)
}

/// Of `n`, so long that every third one or so begins a new file of [`small`].
fn body(n: usize) -> String {
    format!("{n} {}", "x".repeat(100))
}

fn small() -> Options {
    Options { rotate_bytes: 1000, ..Options::default() }
}

/// The numbers of what is there.
fn numbers(bus: &Bus) -> Vec<usize> {
    bus.bodies().iter().map(|body| body.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn without_descriptors_appends_and_reads_say_so_and_the_next_ones_go_on() {
    const CHILD: &str = "RUN_AGENT_TEST_EMFILE";
    if let Ok(root) = std::env::var(CHILD) {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        println!();
        for n in 1..=60 {
            // The lowest number that is free is the limit, then the ones behind it.
            let free = std::fs::File::open("/dev/null").unwrap();
            let lowest = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&free)).unwrap();
            drop(free);
            let stream = stream_at(&root, small());
            setrlimit(Resource::RLIMIT_NOFILE, lowest + n as u64 % 12, hard).unwrap();
            let posted =
                stream.append(vec![draft(&body(n))], [Durability::None, Durability::Always][n / 12 % 2]);
            let read = stream_at(&root, small()).read(Cursor::START, 999);
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            match posted {
                Ok(_) => println!("said posted {n}"),
                Err(error) => println!("said no post {}", denied::told(&error)),
            }
            match read {
                Ok(_) => println!("said read"),
                Err(error) => println!("said no read {}", denied::told(&error)),
            }
        }
        return;
    }
    let bus = Bus::set(&["0"], small());
    let name = "without_descriptors_appends_and_reads_say_so_and_the_next_ones_go_on";
    let output = bus.again(name, CHILD).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let said = said(&text);
    let refused = |what: &str| said.iter().filter(|line| line.starts_with(what)).collect::<Vec<_>>();
    for what in ["no post", "no read"] {
        assert!(refused(what).len() > 4, "{text}");
        assert!(refused(what).iter().all(|line| line.contains("Too many open files")), "{text}");
    }
    assert!(said.iter().filter(|line| **line == "read").count() > 4, "{text}");
    let posted: Vec<usize> =
        said.iter().filter_map(|line| line.strip_prefix("posted ")?.parse().ok()).collect();
    assert!(posted.len() > 4 && bus.archives() > 1, "{text}");
    // What was written before its sync failed may be there.
    let there = numbers(&bus);
    assert!(there.is_sorted_by(|one, next| one < next), "{there:?}");
    assert!(posted.iter().all(|n| there.contains(n)), "{posted:?} were acknowledged, {there:?} are there");
    bus.post("61");
    assert_eq!(bus.open().verify().unwrap().damage, []);
    assert_eq!(numbers(&bus).len(), there.len() + 1);
}

/// Twelve messages of a child, some of which begin a new file, while a rule of strace's holds. What was acknowledged.
fn rotates(name: &str, variable: &str, rule: &str) -> Option<(Bus, Vec<usize>)> {
    let bus = Bus::set(&["0"], small());
    let (text, lived) = under_strace(&bus.again(name, variable), &[rule])?;
    assert!(lived, "{rule}: {text}");
    let said: Vec<usize> = said(&text).iter().map(|line| line.parse().unwrap()).collect();
    let there = numbers(&bus);
    assert!(there.is_sorted_by(|one, next| one < next), "{rule}: {there:?}");
    assert!(
        said.iter().all(|n| there.contains(n)),
        "{rule}: {said:?} were acknowledged, {there:?} are there"
    );
    Some((bus, said))
}

fn posts_as_child(variable: &str, durability: Durability) -> bool {
    let Ok(root) = std::env::var(variable) else { return false };
    let stream = stream_at(&root, small());
    println!();
    for n in 1..=12 {
        if stream.append(vec![draft(&body(n))], durability).is_ok() {
            println!("said {n}");
        }
    }
    true
}

#[test]
fn a_rotation_whose_rename_fails_leaves_a_longer_file_and_every_message() {
    const CHILD: &str = "RUN_AGENT_TEST_RENAME";
    if posts_as_child(CHILD, Durability::None) {
        return;
    }
    let name = "a_rotation_whose_rename_fails_leaves_a_longer_file_and_every_message";
    for error in ["EIO", "ENOSPC"] {
        for when in ["1", "2", "3", "1+"] {
            let rule = format!("inject=renameat2:error={error}:when={when}");
            let Some((bus, said)) = rotates(name, CHILD, &rule) else { return };
            assert_eq!((said.len(), bus.bodies().len()), (12, 13), "{rule}: a message is worth more");
            assert_eq!(bus.archives() == 0, when == "1+", "{rule}");
            bus.post("13");
            assert!(bus.archives() > 0, "{rule}: the next one begins a new file");
            assert_eq!(
                (numbers(&bus).len(), bus.open().verify().unwrap().damage),
                (14, Vec::new()),
                "{rule}"
            );
        }
    }
}

#[test]
fn a_rotation_whose_folder_cannot_be_synced_loses_nothing_acknowledged() {
    const CHILD: &str = "RUN_AGENT_TEST_FOLDER_SYNC";
    if posts_as_child(CHILD, Durability::Always) {
        return;
    }
    let name = "a_rotation_whose_folder_cannot_be_synced_loses_nothing_acknowledged";
    let mut rescued = 0;
    for error in ["EIO", "ENOSPC"] {
        for when in 1..=6 {
            let rule = format!("inject=fsync:error={error}:when={when}");
            let Some((bus, said)) = rotates(name, CHILD, &rule) else { return };
            rescued += usize::from(bus.rescued() != (0, 0));
            bus.post("13");
            let there = numbers(&bus);
            assert!(there.len() >= said.len() + 2 && there.last() == Some(&13), "{rule}: {there:?}");
            assert_eq!(bus.open().verify().unwrap().damage, [], "{rule}");
        }
    }
    assert!(rescued > 0, "no failure was seen: nothing was put to the test");
}

#[test]
fn a_folder_that_is_deleted_under_readers_and_writers_is_told_by_its_name() {
    let bus = Bus::with(&[]);
    denied::folder_is_deleted(|| bus.open(), bus.file.parent().unwrap());
}

#[test]
fn a_permission_that_is_lost_is_told_with_the_path_and_costs_nothing_acknowledged() {
    const CHILD: &str = "RUN_AGENT_TEST_PERMISSION";
    if let Ok(root) = std::env::var(CHILD) {
        let file = run_agent_core::layout::Layout::new(root.clone().into()).bus_file(&key());
        return denied::permission_is_lost(|| stream_at(&root, Options::default()), file.parent().unwrap());
    }
    let bus = Bus::with(&["one"]);
    let name = "a_permission_that_is_lost_is_told_with_the_path_and_costs_nothing_acknowledged";
    let output = denied::as_nobody(&bus.again(name, CHILD), &bus.root(), true);
    assert_eq!(said(&String::from_utf8_lossy(&output.stdout)), ["done"], "{output:?}");
}

#[test]
fn a_folder_that_may_only_be_read_is_read_and_an_append_says_so() {
    const CHILD: &str = "RUN_AGENT_TEST_READ_ONLY";
    if let Ok(root) = std::env::var(CHILD) {
        let stream = stream_at(&root, Options::default());
        let page = stream.read(Cursor::START, 9).unwrap();
        assert_eq!((page.entries.len(), page.damage.len()), (1, 0));
        let error = stream.append(vec![draft("no")], Durability::None).unwrap_err().to_string();
        assert!(error.contains("TASK-MESSAGE-BUS.md cannot be locked"), "{error}");
        println!("\nsaid done");
        return;
    }
    let bus = Bus::with(&["one"]);
    let name = "a_folder_that_may_only_be_read_is_read_and_an_append_says_so";
    let mode = |of_folders: u32, of_files: u32| {
        let set = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for path in [&bus.file.with_extension("lock"), &bus.file] {
            set(path, of_files);
        }
        bus.file
            .ancestors()
            .skip(1)
            .take_while(|f| f.starts_with(bus.root()))
            .for_each(|f| set(f, of_folders));
    };
    mode(0o555, 0o444);
    let output = denied::as_nobody(&bus.again(name, CHILD), &bus.root(), false);
    mode(0o755, 0o644);
    assert_eq!(said(&String::from_utf8_lossy(&output.stdout)), ["done"], "{output:?}");
    post(&*bus.open(), "two");
    assert_eq!(bus.bodies(), ["one", "two"]);
}
