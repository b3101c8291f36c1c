//! What a search behind damage reads: each part of a segment a few times, however much of it is damaged. Counted in bytes
//! that this thread read.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use common::{Bus, draft, post};
use run_agent_core::store::Options;
use run_agent_core::{Cursor, Durability};
use run_agent_store_segmented::frame::{HEADER, MAGIC, PAYLOAD_MAX};

/// How often a byte may be read in one look at all of a segment.
const TIMES: u64 = 6;

fn bus() -> Bus {
    Bus::set(&[], Options { rotate_bytes: 1 << 30, ..Options::default() })
}

/// Where the frames begin in the first segment.
fn frames(bus: &Bus) -> Vec<usize> {
    let bytes = std::fs::read(&bus.logs()[0]).unwrap();
    (0..bytes.len())
        .step_by(8)
        .filter(|at| bytes[*at..].starts_with(&MAGIC) && bytes[at + 24..].starts_with(&at.to_le_bytes()))
        .collect()
}

fn write(bus: &Bus, bytes: &[u8], at: usize) {
    let log = OpenOptions::new().write(true).open(&bus.logs()[0]).unwrap();
    log.write_all_at(bytes, at as u64).unwrap();
}

fn damage(bus: &Bus, frame: usize) {
    write(bus, b"#", frame + HEADER + 40);
}

/// Does something, which reads no more than it should.
fn costs<T>(bus: &Bus, act: impl FnOnce() -> T) -> T {
    let read = || -> u64 {
        let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    };
    let len = bus.logs()[0].metadata().unwrap().len();
    let before = read();
    let result = act();
    let bytes = read() - before;
    assert!(bytes < TIMES * len, "{bytes} bytes were read of a segment of {len}");
    result
}

fn read_all(bus: &Bus) -> (usize, usize) {
    let page = bus.open().read(Cursor::START, usize::MAX).unwrap();
    (page.entries.len(), page.damage.len())
}

#[test]
fn many_damaged_frames_cost_a_search_no_more_than_one_does() {
    let bus = bus();
    let stream = bus.open();
    let body = "x".repeat(1000);
    (0..4000).for_each(|_| drop(post(&*stream, &body)));
    for frame in frames(&bus).into_iter().step_by(40) {
        damage(&bus, frame);
    }
    assert_eq!(costs(&bus, || read_all(&bus)), (3900, 100), "with a page");
    bus.lose_page();
    let end = costs(&bus, || bus.open().end().unwrap());
    assert_eq!(end.get(), 4000, "a reader's search");
    assert_eq!(costs(&bus, || bus.post("after")).at, end, "recovery");
    assert_eq!(read_all(&bus), (3901, 100));
}

#[test]
fn a_long_batch_whose_beginning_is_damaged_is_walked_over_once() {
    let bus = Bus::set(&["before"], bus().options);
    bus.open().append(vec![draft(&"x".repeat(1000)); 4000], Durability::None).unwrap();
    damage(&bus, frames(&bus)[1]);
    bus.lose_page();
    assert_eq!(costs(&bus, || bus.open().end().unwrap()).get(), 1, "nothing follows that batch");
    assert_eq!(costs(&bus, || bus.post("after")).at.get(), 1);
}

#[test]
fn bodies_that_look_like_frames_are_not_read_once_for_each_of_those() {
    let bus = bus();
    let stream = bus.open();
    let magics = String::from_utf8(MAGIC.repeat(15_000)).unwrap();
    (0..20).for_each(|_| drop(post(&*stream, &magics)));
    let frames = frames(&bus);
    damage(&bus, frames[1]);
    assert_eq!(costs(&bus, || read_all(&bus)), (19, 1));

    // The same with heads that would be those of long frames.
    for at in (frames[1] + 800..frames[2] - 800).step_by(HEADER + 8) {
        let mut head = [0; HEADER];
        head[..4].copy_from_slice(&MAGIC);
        head[4] = 1;
        head[8..12].copy_from_slice(&u32::try_from(PAYLOAD_MAX).unwrap().to_le_bytes());
        head[24..32].copy_from_slice(&at.to_le_bytes());
        write(&bus, &head, at);
    }
    let one = costs(&bus, || bus.open().read(Cursor::new(1), 1).unwrap());
    assert_eq!((one.entries[0].at.get(), one.damage.len()), (2, 1));
    bus.lose_page();
    assert_eq!(costs(&bus, || bus.open().end().unwrap()).get(), 20);
}
