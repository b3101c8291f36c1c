//! Writers and leaders that are killed and stopped at random moments, while somebody deletes the shared page.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

use common::{Bus, draft, stream_at};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use run_agent_core::store::Options;
use run_agent_core::{Cursor, Durability};

fn options() -> Options {
    Options {
        rotate_bytes: 20_000,
        sync_every: Duration::from_millis(1),
        sync_messages: 5,
        ..Options::default()
    }
}

/// A small generator with a seed that is printed, so that a failure can be had again as far as processes allow.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Posts until it is killed, and prints what was acknowledged.
fn post_for_ever(root: &str) {
    let stream = stream_at(root, options());
    let mut out = std::io::stdout();
    let _ = out.write_all(b"\n");
    for n in 0.. {
        let durability = [Durability::Always, Durability::None, Durability::Interval][n % 3];
        let batch = (0..1 + n % 4).map(|part| draft(&format!("{n} {}", "x".repeat(part * 300)))).collect();
        for entry in stream.append(batch, durability).unwrap() {
            if out.write_all(format!("{}.\n", entry.message.id).as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn acknowledged(out: impl BufRead) -> Vec<String> {
    let lines = out.lines().map_while(Result::ok);
    lines
        .filter_map(|line| line.strip_suffix('.').filter(|id| id.starts_with("MSG-")).map(str::to_owned))
        .collect()
}

/// One round: four writers, hit by as many blows as the dice say.
fn round(bus: &Bus, name: &str, variable: &str, dice: &mut Dice, loses_page: bool) -> Vec<String> {
    let mut children: Vec<Child> = (0..4)
        .map(|_| bus.again(name, variable).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap())
        .collect();
    let readers: Vec<_> = children
        .iter_mut()
        .map(|child| {
            let out = child.stdout.take().unwrap();
            std::thread::spawn(move || acknowledged(BufReader::new(out)))
        })
        .collect();
    // As long as it takes until they have begun.
    let stream = bus.open();
    let begun = stream.end().unwrap();
    while stream.end().unwrap() < Cursor::new(begun.get() + 5 + dice.roll(200)) {
        stream.wait(stream.end().unwrap(), Duration::from_secs(2)).unwrap();
    }
    for child in &children {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        if loses_page && dice.roll(2) == 0 {
            let _ = std::fs::remove_file(bus.files.join("ctl"));
        }
        if dice.roll(2) == 0 {
            kill(pid, Signal::SIGSTOP).unwrap();
            // The others go on meanwhile, unless it holds the append lock.
            let end = stream.end().unwrap();
            stream.wait(end, Duration::from_millis(dice.roll(20))).unwrap();
            if dice.roll(2) == 0 {
                kill(pid, Signal::SIGCONT).unwrap();
            }
        }
        kill(pid, Signal::SIGKILL).unwrap();
    }
    for child in &mut children {
        child.wait().unwrap();
    }
    readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
}

fn nothing_is_lost(name: &str, variable: &str, loses_page: bool) {
    if let Ok(root) = std::env::var(variable) {
        return post_for_ever(&root);
    }
    let bus = Bus::set(&["made"], options());
    let rounds = if std::env::var_os("RUN_AGENT_DEEP").is_some() { 500 } else { 12 };
    let seed = std::env::var("RUN_AGENT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed);
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let mut promised = Vec::new();
    for _ in 0..rounds {
        promised.extend(round(&bus, name, variable, &mut dice, loses_page));
    }
    let last = bus.open().append(vec![draft("after")], Durability::Always).unwrap().remove(0);
    let page = bus.open().read(Cursor::START, usize::MAX).unwrap();
    assert_eq!(page.damage, []);
    let ids: Vec<&str> = page.entries.iter().map(|entry| entry.message.id.as_str()).collect();
    assert_eq!(ids.last(), Some(&last.message.id.as_str()));
    assert!(page.entries.windows(2).all(|pair| pair[0].message.id < pair[1].message.id), "ids increase");
    assert!(page.entries.iter().enumerate().all(|(n, entry)| entry.at == Cursor::new(n as u64)));
    let ids: BTreeSet<&str> = ids.into_iter().collect();
    assert!(promised.len() > 50, "only {} were acknowledged: nothing was put to the test", promised.len());
    let lost: Vec<_> = promised.iter().filter(|id| !ids.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "{lost:?} of {} were acknowledged and are lost", promised.len());
    assert_eq!(bus.open().verify().unwrap().damage, []);
}

#[test]
fn nothing_acknowledged_is_lost_when_writers_are_killed_and_stopped() {
    let name = "nothing_acknowledged_is_lost_when_writers_are_killed_and_stopped";
    nothing_is_lost(name, "RUN_AGENT_TEST_KILLS", false);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_page_is_deleted_under_load() {
    let name = "nothing_acknowledged_is_lost_when_the_page_is_deleted_under_load";
    nothing_is_lost(name, "RUN_AGENT_TEST_KILLS_PAGE", true);
}
