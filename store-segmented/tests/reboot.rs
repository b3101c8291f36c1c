//! What is found after the machine was started anew. The disk of before is what a test makes of the files; the start is
//! another boot id, in a process of its own.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use common::{Bus, draft, end_offset, stream_at};
use run_agent_core::store::Options;
use run_agent_core::{Cursor, Durability};

const CHILD: &str = "RUN_AGENT_TEST_REBOOT";

/// In the process after the start: reads, posts `after`, reads again, and prints both.
fn child() -> bool {
    let Ok(root) = std::env::var(CHILD) else { return false };
    let show = |what: &str| {
        let page = stream_at(&root, Options::default()).read(Cursor::START, usize::MAX).unwrap();
        let bodies: Vec<_> = page.entries.iter().map(|entry| entry.message.content.body.clone()).collect();
        let damage: Vec<_> = page.damage.iter().map(|d| format!("{}-{}", d.at.get(), d.next.get())).collect();
        println!("\n{what} {} damage {}", bodies.join(","), damage.join(","));
    };
    show("before");
    let durability = Durability::Always;
    let posted =
        stream_at(&root, Options::default()).append(vec![draft("after")], durability).unwrap().remove(0);
    println!("\nposted {}", posted.at.get());
    show("then");
    true
}

/// What the process after the start says: what it read, where it posted, and what it read then.
fn start_anew(bus: &Bus, name: &str) -> [String; 3] {
    let output = bus.again(name, CHILD).env("RUN_AGENT_FAKE_BOOT_ID", "another").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    ["before ", "posted ", "then "]
        .map(|what| text.lines().find_map(|line| line.strip_prefix(what)).unwrap_or_default().to_owned())
}

fn flip(bus: &Bus, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(&bus.logs()[0]).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Posts, and returns where each message begins.
fn posts(bus: &Bus, messages: &[(&str, Durability)]) -> Vec<u64> {
    let stream = bus.open();
    let post = |(body, durability): &(&str, Durability)| {
        let at = if bus.files.exists() { end_offset(&bus.files) } else { 128 };
        stream.append(vec![draft(body)], *durability).unwrap();
        at
    };
    messages.iter().map(post).collect()
}

const NONE: Durability = Durability::None;
const ALWAYS: Durability = Durability::Always;

#[test]
fn what_came_to_the_disk_is_there_and_it_goes_on_in_the_same_segment() {
    if child() {
        return;
    }
    let bus = Bus::with(&["a", "b"]);
    let said = start_anew(&bus, "what_came_to_the_disk_is_there_and_it_goes_on_in_the_same_segment");
    assert_eq!(said, ["a,b damage ", "2", "a,b,after damage "]);
    assert_eq!((bus.logs().len(), bus.torn().len()), (1, 0));
}

#[test]
fn behind_a_hole_above_what_was_synced_nothing_counts_and_its_bytes_are_kept() {
    if child() {
        return;
    }
    let bus = Bus::with(&[]);
    let at = posts(&bus, &[("a", ALWAYS), ("b", NONE), ("c", NONE), ("d", NONE)]);
    flip(&bus, at[2] + 80);
    let name = "behind_a_hole_above_what_was_synced_nothing_counts_and_its_bytes_are_kept";
    assert_eq!(start_anew(&bus, name), ["a,b damage ", "2", "a,b,after damage "]);
    let torn = bus.torn();
    assert_eq!((bus.logs().len(), torn.len()), (2, 1), "nothing is written behind the cut");
    assert!(std::fs::read(&torn[0]).unwrap().starts_with(b"RAFR"));
}

#[test]
fn damage_below_what_was_synced_is_no_tail() {
    if child() {
        return;
    }
    let bus = Bus::with(&[]);
    let at = posts(&bus, &[("a", NONE), ("b", NONE), ("c", ALWAYS), ("d", NONE)]);
    flip(&bus, at[1] + 80);
    let said = start_anew(&bus, "damage_below_what_was_synced_is_no_tail");
    assert_eq!(said, ["a,c,d damage 1-2", "4", "a,c,d,after damage 1-2"]);
    assert_eq!((bus.logs().len(), bus.torn().len()), (1, 0));
}

#[test]
fn a_segment_of_which_nothing_came_to_the_disk_is_begun_anew() {
    if child() {
        return;
    }
    let bus = Bus::with(&["a", "b"]);
    bus.open().rotate().unwrap();
    bus.post("c");
    for (n, left) in [vec![0; 4096], Vec::new()].into_iter().enumerate() {
        let log = bus.logs().pop().unwrap();
        std::fs::write(log, left).unwrap();
        let said = start_anew(&bus, "a_segment_of_which_nothing_came_to_the_disk_is_begun_anew");
        assert_eq!(said, ["a,b damage ", "2", "a,b,after damage "], "{n}");
        std::fs::remove_file(bus.files.join("ctl")).unwrap();
    }
}

#[test]
fn every_cut_of_an_unsynced_end_leaves_a_first_part() {
    if child() {
        return;
    }
    let name = "every_cut_of_an_unsynced_end_leaves_a_first_part";
    // The last three bytes of a frame are zero, as what is not written.
    for back in (4..300).step_by(23) {
        let bus = Bus::with(&[]);
        let at = posts(&bus, &[("a", ALWAYS), ("b", NONE), ("c", NONE)]);
        let end = end_offset(&bus.files) - back.min(end_offset(&bus.files) - at[1]);
        let file = OpenOptions::new().write(true).open(&bus.logs()[0]).unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(end).unwrap();
        file.set_len(len).unwrap();
        let left: Vec<&str> =
            [("a", at[1]), ("b", at[2])].into_iter().filter(|(_, to)| *to <= end).map(|(b, _)| b).collect();
        let whole = left.join(",");
        let wanted = [format!("{whole} damage "), left.len().to_string(), format!("{whole},after damage ")];
        assert_eq!(start_anew(&bus, name), wanted, "{back} bytes are gone");
    }
}
