//! For models alone: processes that share a page are threads of a model checker here, `loom` (every interleaving, also of
//! weak memory) or `shuttle` (random ones, of more threads). What the stores' own code does runs unchanged.
//!
//! A lock of the system is the checker's mutex. A process that is killed is a thread whose later steps do nothing: a step
//! is whatever another process could see, so that there is no place between two of them where none is killed.
#![allow(clippy::unwrap_used, missing_debug_implementations)]

use std::cell::Cell;
use std::sync::atomic::Ordering::{self, Relaxed, SeqCst};
use std::time::Duration;

#[cfg(loom)]
use loom as checker;
#[cfg(shuttle)]
use shuttle as checker;

pub use checker::sync::atomic::fence;
pub use checker::sync::{Arc, Condvar, Mutex};
pub use checker::thread;

checker::thread_local! {
    /// How many steps this process takes before it is killed.
    static LEFT: Cell<Option<u32>> = Cell::new(None);
}

/// This process is killed behind so many more steps.
pub fn dies_after(steps: u32) {
    LEFT.with(|left| left.set(Some(steps)));
}

#[must_use]
pub fn is_alive() -> bool {
    LEFT.with(|left| left.get() != Some(0))
}

/// One more step that others can see. False when this process was killed before it.
#[must_use]
pub fn step() -> bool {
    LEFT.with(|left| match left.get() {
        Some(0) => false,
        Some(more) => {
            left.set(Some(more - 1));
            true
        }
        None => true,
    })
}

macro_rules! atomic {
    ($name:ident, $word:ty) => {
        #[derive(Debug, Default)]
        pub struct $name(checker::sync::atomic::$name);

        impl $name {
            #[must_use]
            pub fn new(word: $word) -> Self {
                Self(checker::sync::atomic::$name::new(word))
            }

            pub fn load(&self, order: Ordering) -> $word {
                self.0.load(order)
            }

            pub fn store(&self, word: $word, order: Ordering) {
                if step() {
                    self.0.store(word, order);
                }
            }

            pub fn fetch_add(&self, more: $word, order: Ordering) -> $word {
                if step() { self.0.fetch_add(more, order) } else { self.0.load(Relaxed) }
            }

            pub fn swap(&self, word: $word, order: Ordering) -> $word {
                if step() { self.0.swap(word, order) } else { self.0.load(Relaxed) }
            }

            pub fn fetch_max(&self, word: $word, order: Ordering) -> $word {
                if step() { self.0.fetch_max(word, order) } else { self.0.load(Relaxed) }
            }

            /// As the system sees it, which knows what it knows of all processes at once.
            pub fn now(&self) -> $word {
                self.0.fetch_add(0, SeqCst)
            }
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);

/// The system's queue of those who sleep on a word. Nobody's time is ever up: who needs that never ends, and the checker
/// says so.
#[derive(Default)]
pub struct Queue {
    sleepers: Mutex<()>,
    rung: Condvar,
}

impl Queue {
    pub fn sleep_on(&self, word: &AtomicU32, seen: u32) {
        let held = self.sleepers.lock().unwrap();
        if is_alive() && word.now() == seen {
            drop(self.rung.wait(held).unwrap());
        }
    }

    pub fn wake_all(&self) {
        if step() {
            let held = self.sleepers.lock().unwrap();
            self.rung.notify_all();
            drop(held);
        }
    }
}

/// A sleep whose time is up at some moment.
pub fn sleep_on(_: &AtomicU32, _: u32, _: Duration) {
    thread::yield_now();
}

/// Nobody needs it whose time is up anyway.
pub fn wake_all(_: &AtomicU32) {}

/// Plays every interleaving with at most so many preemptions, `None`: with any number. `LOOM_MAX_PREEMPTIONS` lowers that.
#[cfg(loom)]
pub fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    let least = [preemptions, builder.preemption_bound].into_iter().flatten().min();
    builder.preemption_bound = least;
    builder.check(model);
}

/// Plays `model` over and over, each time with a seed of its own. One that fails is printed, and is played alone when
/// `RUN_AGENT_SEED` names it; `RUN_AGENT_SCHEDULES` says how many there are.
#[cfg(shuttle)]
pub fn check_at_random(model: impl Fn() + Sync + Send + 'static) {
    use shuttle::{Config, Runner, scheduler::RandomScheduler};

    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (model, schedules) = (Arc::new(model), number("RUN_AGENT_SCHEDULES").unwrap_or(2000));
    let seeds = number("RUN_AGENT_SEED").map_or(0..schedules, |seed| seed..seed + 1);
    println!("seeds {seeds:?}");
    for seed in seeds {
        let model = model.clone();
        let play =
            move || Runner::new(RandomScheduler::new_from_seed(seed, 1), Config::new()).run(move || model());
        if let Err(failed) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(play)) {
            println!("it failed with RUN_AGENT_SEED={seed}");
            std::panic::resume_unwind(failed);
        }
    }
}
