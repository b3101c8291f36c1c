//! What the writers under a trace do: all durabilities, batches, rotation, several processes in turn and at once. Each says
//! what it may take for durable.

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::Duration;

use run_agent_core::store::{Options, Stream};
use run_agent_core::{Draft, Durability, Kind};

use super::super::Scene;
use super::super::dice::Dice;

const PART: &str = "RUN_AGENT_TEST_PART";
/// Under `interval`, no more than one less are ever not on the disk.
const SYNC_MESSAGES: u64 = 4;

/// Small files, and syncs under `interval` by count alone.
#[must_use]
pub fn options() -> Options {
    let sync_every = Duration::from_secs(100_000);
    Options { rotate_bytes: 9_000, sync_every, sync_messages: SYNC_MESSAGES, ..Options::default() }
}

/// What the first process does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cast {
    /// Writers alone, and three at once.
    Mixed,
    /// One after another.
    InTurn,
    /// One that calls durable what it never had synced.
    Liar,
}

pub(super) fn part(cast: Cast, seed: u64) -> (&'static str, String) {
    let cast = match cast {
        Cast::Mixed => "mixed",
        Cast::InTurn => "turn",
        Cast::Liar => "liar",
    };
    (PART, format!("{cast} {seed}"))
}

/// For a child: the part that it was given.
pub fn play(scene: &Scene<'_>) {
    let part = std::env::var(PART).unwrap();
    let (role, seed) = part.split_once(' ').unwrap();
    let seed: u64 = seed.parse().unwrap();
    let start = |role: &str, n: u64| start(scene, role, seed.wrapping_mul(16) + n);
    match role {
        "mixed" => {
            all(vec![start("alone", 0)]);
            all((1..4).map(|n| start("among", n)).collect());
            all(vec![start("alone", 4)]);
        }
        "turn" => (0..4).for_each(|n| all(vec![start("alone", n)])),
        "liar" => all(vec![start("lies", 0)]),
        role => write(&*scene.stream(), role, &mut Dice::new(seed)),
    }
}

fn start(scene: &Scene<'_>, role: &str, seed: u64) -> Child {
    let mut command = scene.again();
    command.args(["--test-threads", "1"]).env(PART, format!("{role} {seed}"));
    command.stdout(Stdio::inherit()).spawn().unwrap()
}

fn all(children: Vec<Child>) {
    for mut child in children {
        assert!(child.wait().unwrap().success(), "a writer failed");
    }
}

fn say(id: &str) {
    // One call for one word, so that the trace has it in one piece.
    std::io::stdout().write_all(format!("\ndurable {id}\n").as_bytes()).unwrap();
}

fn write(stream: &dyn Stream, role: &str, dice: &mut Dice) {
    let (alone, lies) = (role == "alone", role == "lies");
    let mut posted: Vec<String> = Vec::new();
    for n in 0..if alone { 14 } else { 7 } {
        let durability = match dice.roll(6) {
            _ if lies => Durability::None,
            0 | 1 => Durability::None,
            2 => Durability::Interval,
            _ => Durability::Always,
        };
        let batch =
            (0..1 + dice.pick(3).saturating_sub(1) * 2).map(|part| draft(stream, n, part, dice)).collect();
        // After a failed sync nothing is acknowledged; what was appended may stand there all the same.
        let Ok(entries) = stream.append(batch, durability) else { continue };
        posted.extend(entries.iter().map(|entry| entry.message.id.as_str().to_owned()));
        let behind = usize::try_from(SYNC_MESSAGES).unwrap() - 1;
        match durability {
            Durability::None if lies => say(posted.last().unwrap()),
            Durability::None => {}
            Durability::Interval if alone && posted.len() > behind => say(&posted[posted.len() - 1 - behind]),
            Durability::Interval => {}
            Durability::Always => say(posted.last().unwrap()),
        }
        match dice.roll(12) {
            0 if !lies && stream.flush().is_ok() => say(posted.last().unwrap()),
            1 if !lies => drop(stream.rotate()),
            _ => {}
        }
    }
}

fn draft(stream: &dyn Stream, n: usize, part: usize, dice: &mut Dice) -> Draft {
    let key = stream.key().clone();
    // Some are larger than a page, most are not.
    let len = if dice.one_in(4) { dice.pick(6_000) } else { dice.pick(600) };
    let line = format!("{n}.{part} of {}\n---\n", std::process::id());
    let body = line.repeat(1 + len / line.len());
    Draft::new(Kind::FACT, key.project, key.task, body)
}
