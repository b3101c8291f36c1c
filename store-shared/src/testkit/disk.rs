//! A disk that forgets: writers run under `strace`, what they asked of the system is played on the model of a disk, and at
//! each point in between the power goes. Whatever subset of the unsynced pages, lengths and names came to the disk, the
//! stream there keeps what it promised.
//!
//! What it does not see: words that processes store in the page they map. It is of another start of the machine then, and
//! nobody believes it.

mod model;
mod script;
mod state;
mod trace;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use run_agent_core::store::Stream;
use run_agent_core::{Cursor, Message};

use self::model::Disk;
use self::script::{Cast, part};
use self::trace::{CALLS, Event};
use super::dice::Dice;
use super::survive::{Promise, check};
use super::{Scene, scratch, strace_is_here};

pub use self::script::{options, play};
pub use self::state::{NameRule, Placed};

/// A kind of store.
pub struct Kind<'a> {
    /// The test's own name, and the variable that tells a child where the stream is.
    pub test: &'a str,
    pub variable: &'a str,
    /// Makes the folder of the stream's task below a root.
    pub make: fn(&Path),
    pub open: fn(&Path) -> Arc<dyn Stream>,
    /// What else depends on where files lie: they are other files than their writers knew.
    pub settle: fn(&Path, &[Placed]),
    /// May what stands behind damage be read, above what was promised?
    pub holes: bool,
    /// Is it borne that any name is lost, in whatever order?
    pub names: NameRule,
}

/// What is done wrong on purpose, to be caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// The disk acknowledges syncs of files and makes none.
    Disk,
    /// The writer acknowledges as durable what it never had synced.
    Writer,
}

/// How much is tried.
struct Budget {
    /// One in so many points is a power cut.
    one_in: u64,
    /// All states of a point, where there are no more than so many.
    all: u64,
    /// The same, of one point in sixteen.
    all_of_few: u64,
    /// Otherwise so many at random.
    some: u64,
    /// Traces are made until there were so many power cuts.
    points: u64,
}

impl Budget {
    fn get() -> Self {
        if std::env::var_os("RUN_AGENT_DEEP").is_some() {
            Self { one_in: 1, all: 16, all_of_few: 256, some: 4, points: 5_000 }
        } else {
            Self { one_in: 3, all: 8, all_of_few: 64, some: 4, points: 100 }
        }
    }
}

/// Every prefix that the durability allows, and nothing else.
///
/// # Panics
/// When a stream does not keep what it promised, with the seed and the state of the disk.
pub fn every_state_keeps_what_was_promised(kind: &Kind<'_>, fails: bool) {
    if !strace_is_here() {
        return;
    }
    let (budget, seed) = (Budget::get(), Dice::seed());
    let mut tried = Tried::default();
    for round in 0.. {
        let seed = seed.wrapping_add(round);
        let run = Run::of(kind, if fails { Cast::InTurn } else { Cast::Mixed }, fails, seed);
        if let Err(what) = run.sweep(kind, &budget, None, seed, &mut tried) {
            panic!("seed {seed}: {what}");
        }
        if tried.points >= budget.points {
            break;
        }
    }
    println!("{tried:?}");
    assert!(
        tried.promised > tried.points / 4,
        "little was promised, so that little was put to the test: {tried:?}"
    );
    assert!(tried.cut > tried.states / 20, "nothing is ever lost on this disk: {tried:?}");
}

/// Both lies are caught.
///
/// # Panics
/// When one is not.
pub fn a_lie_is_caught(kind: &Kind<'_>, lie: Lie) {
    if !strace_is_here() {
        return;
    }
    let (budget, seed) = (Budget::get(), Dice::seed());
    let cast = match lie {
        Lie::Disk => Cast::Mixed,
        Lie::Writer => Cast::Liar,
    };
    let run = Run::of(kind, cast, false, seed);
    let caught = run.sweep(kind, &budget, Some(lie), seed, &mut Tried::default());
    println!("{caught:?}");
    assert!(
        caught.as_ref().is_err_and(|what| what.contains("were acknowledged as durable")),
        "a lie was not caught: {caught:?}"
    );
}

/// What was put to the test.
#[derive(Debug, Default)]
struct Tried {
    traces: u64,
    events: u64,
    points: u64,
    states: u64,
    /// Points of which all states were tried.
    whole: u64,
    /// Points at which something was promised.
    promised: u64,
    /// States in which not all was there that had been written.
    cut: u64,
}

/// What some writers did, and what came of it without a power cut.
struct Run {
    folder: tempfile::TempDir,
    events: Vec<Event>,
    posted: Vec<Message>,
}

impl Run {
    fn of(kind: &Kind<'_>, cast: Cast, fails: bool, seed: u64) -> Self {
        let folder = scratch();
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        (kind.make)(&root);
        let (test, variable) = (kind.test, kind.variable);
        let scene = Scene { test, variable, root: root.clone(), page: PathBuf::new(), open: kind.open };
        let output = folder.path().join("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-xx", "-v", "-s", "1000000", "-e", "signal=none", "-e", CALLS]);
        if fails {
            let when = 1 + Dice::new(seed).roll(8);
            command.args(["-e", &format!("inject=fdatasync:error=EIO:when={when}")]);
        }
        let plain = scene.again();
        command.arg("-o").arg(&output).arg(plain.get_program()).args(plain.get_args());
        let (name, value) = part(cast, seed);
        command.env(variable, &root).env(name, value).env("RUN_AGENT_FAKE_BOOT_ID", "before the power cut");
        let done = command.output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
        let events = trace::parse(&std::fs::read_to_string(&output).unwrap());
        std::fs::remove_file(output).unwrap();
        let page = (kind.open)(&root).read(Cursor::START, usize::MAX).unwrap();
        assert_eq!(page.damage, [], "what is there without a power cut");
        let posted = page.entries.into_iter().map(|entry| entry.message).collect();
        Self { folder, events, posted }
    }

    fn sweep(
        &self,
        kind: &Kind<'_>,
        budget: &Budget,
        lie: Option<Lie>,
        seed: u64,
        tried: &mut Tried,
    ) -> Result<(), String> {
        tried.traces += 1;
        tried.events += self.events.len() as u64;
        let root = self.folder.path().join("empty");
        std::fs::create_dir_all(&root).unwrap();
        (kind.make)(&root);
        let mut disk = Disk::new(&root, lie == Some(Lie::Disk));
        disk.is_at(self.folder.path().join("root"));
        let mut dice = Dice::new(seed);
        let mut promise = Promise { posted: &self.posted, kept: 0, holes: kind.holes };
        for (number, event) in self.events.iter().enumerate() {
            let mut changed = disk.happens(event);
            if let Event::Said(text) = event {
                for id in text.lines().filter_map(|line| line.strip_prefix("durable ")) {
                    let place = self.posted.iter().position(|message| message.id.as_str() == id);
                    let place =
                        place.ok_or_else(|| format!("{id} was acknowledged and is not there at all"))?;
                    promise.kept = promise.kept.max(place + 1);
                    changed = true;
                }
            }
            if changed && dice.one_in(budget.one_in) {
                tried.points += 1;
                tried.promised += u64::from(promise.kept > 0);
                self.cut(kind, budget, &disk, promise, &mut dice, tried).map_err(|what| {
                    format!("the power goes after event {number} ({}): {what}", shown(event))
                })?;
            }
        }
        Ok(())
    }

    /// The power goes here.
    fn cut(
        &self,
        kind: &Kind<'_>,
        budget: &Budget,
        disk: &Disk,
        promise: Promise<'_>,
        dice: &mut Dice,
        tried: &mut Tried,
    ) -> Result<(), String> {
        let all = state::count(disk);
        let whole = all <= if dice.one_in(16) { budget.all_of_few } else { budget.all };
        tried.whole += u64::from(whole);
        let rules = [NameRule::Journal, NameRule::Folders, kind.names];
        for n in 0..if whole { all } else { budget.some } {
            let state = if whole { state::nth(disk, n) } else { state::any(disk, rules[dice.pick(3)], dice) };
            let place = self.folder.path().join("state");
            std::fs::create_dir(&place).unwrap();
            let placed = state.put(&place);
            (kind.settle)(&place, &placed);
            tried.states += 1;
            let there = check(promise, &|| (kind.open)(&place))
                .map_err(|what| format!("{what}\nthe disk:\n  {}", state.story.join("\n  ")))?;
            tried.cut += u64::from(there < self.posted.len());
            std::fs::remove_dir_all(&place).unwrap();
        }
        Ok(())
    }
}

fn shown(event: &Event) -> String {
    let mut text = format!("{event:?}");
    text.truncate((0..=text.len().min(160)).rfind(|n| text.is_char_boundary(*n)).unwrap_or_default());
    text
}
