//! Writers and leaders that are killed and stopped at random moments, while somebody deletes the shared page.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use run_agent_core::store::Stream;
use run_agent_core::{Cursor, Draft, Durability, Kind};

use super::Scene;
use super::dice::Dice;

/// Writers of a round, each of which is killed.
const WRITERS: usize = 4;
/// Of each of a store's two tests: 10,000 kills together.
const DEEP_ROUNDS: usize = 1250;
/// So that a stream stays small: whoever comes to one looks at all its files, and a writer leaves some twenty a round.
const ROUNDS_MAX: usize = 125;

fn draft(stream: &dyn Stream, body: &str) -> Draft {
    let key = stream.key().clone();
    Draft::new(Kind::FACT, key.project, key.task, body)
}

/// For a child: posts until it is killed, and prints what was acknowledged.
pub fn post_for_ever(stream: &dyn Stream) {
    let mut out = std::io::stdout();
    let _ = out.write_all(b"\n");
    for n in 0.. {
        let durability = [Durability::Always, Durability::None, Durability::Interval][n % 3];
        let batch =
            (0..1 + n % 4).map(|part| draft(stream, &format!("{n} {}", "x".repeat(part * 300)))).collect();
        for entry in stream.append(batch, durability).unwrap() {
            if out.write_all(format!("{}.\n", entry.message.id).as_bytes()).is_err() {
                return;
            }
        }
    }
}

pub(super) fn acknowledged(out: impl BufRead) -> Vec<String> {
    let lines = out.lines().map_while(Result::ok);
    lines
        .filter_map(|line| line.strip_suffix('.').filter(|id| id.starts_with("MSG-")).map(str::to_owned))
        .collect()
}

/// One round: four writers, hit by as many blows as the dice say.
fn round(scene: &Scene<'_>, dice: &mut Dice, loses_page: bool) -> Vec<String> {
    let mut children: Vec<Child> = (0..WRITERS)
        .map(|_| scene.again().stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap())
        .collect();
    let readers: Vec<_> = children
        .iter_mut()
        .map(|child| {
            let out = child.stdout.take().unwrap();
            std::thread::spawn(move || acknowledged(BufReader::new(out)))
        })
        .collect();
    // As long as it takes until they have begun.
    let stream = scene.stream();
    let mut seen = stream.end().unwrap();
    let mut wanted = 5 + usize::try_from(dice.roll(200)).unwrap();
    while wanted > 0 {
        stream.wait(seen, Duration::from_secs(2)).unwrap();
        let page = stream.read(seen, wanted).unwrap();
        (seen, wanted) = (page.next, wanted - page.entries.len());
    }
    for child in &children {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        if loses_page && dice.roll(2) == 0 {
            let _ = std::fs::remove_file(&scene.page);
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

/// Writers and leaders are killed and stopped, on as many streams as `scene` is asked for; with `loses_page` somebody also
/// deletes the page.
pub fn nothing_is_lost<'a>(scene: impl Fn() -> Scene<'a>, loses_page: bool) {
    let mut dice = Dice::new(Dice::seed());
    let mut left = if std::env::var_os("RUN_AGENT_DEEP").is_some() { DEEP_ROUNDS } else { 12 };
    let (mut kills, mut acknowledged) = (0, 0);
    while left > 0 {
        let rounds = left.min(ROUNDS_MAX);
        acknowledged += nothing_is_lost_of_one(&scene(), &mut dice, rounds, loses_page);
        (left, kills) = (left - rounds, kills + rounds * WRITERS);
    }
    println!("{kills} kills, {acknowledged} messages acknowledged");
}

/// How many messages were acknowledged, all of which are there.
fn nothing_is_lost_of_one(scene: &Scene<'_>, dice: &mut Dice, rounds: usize, loses_page: bool) -> usize {
    // Somebody is seen by its first message, so that there is one.
    scene.stream().append(vec![draft(&*scene.stream(), "made")], Durability::None).unwrap();
    let mut promised = Vec::new();
    for _ in 0..rounds {
        promised.extend(round(scene, dice, loses_page));
    }
    let stream = scene.stream();
    let last = stream.append(vec![draft(&*stream, "after")], Durability::Always).unwrap().remove(0);
    let page = stream.read(Cursor::START, usize::MAX).unwrap();
    assert_eq!(page.damage, []);
    let ids: Vec<&str> = page.entries.iter().map(|entry| entry.message.id.as_str()).collect();
    assert_eq!(ids.last(), Some(&last.message.id.as_str()));
    assert!(page.entries.windows(2).all(|pair| pair[0].message.id < pair[1].message.id), "ids increase");
    assert!(page.entries.windows(2).all(|pair| pair[0].next == pair[1].at), "without a gap");
    let ids: BTreeSet<&str> = ids.into_iter().collect();
    assert!(promised.len() > 50, "only {} were acknowledged: nothing was put to the test", promised.len());
    let lost: Vec<_> = promised.iter().filter(|id| !ids.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "{lost:?} of {} were acknowledged and are lost", promised.len());
    let damage = stream.verify().unwrap().damage;
    let damage: Vec<_> = damage.into_iter().filter(|damage| damage.at != damage.next).collect();
    assert_eq!(damage, [], "what costs no message is not counted");
    promised.len()
}
