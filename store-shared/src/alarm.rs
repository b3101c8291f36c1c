//! A time limit for a system call that knows none. The waiting thread sleeps in the call itself, in the system's own
//! fair queue; when its time is up, a watchdog thread sends it a signal whose handler does nothing, and the call ends
//! as interrupted.
//!
//! The signal is SIGURG: ignored by default, so that a stray one harms nobody.
#![allow(unsafe_code)]

use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

const SIGNAL: Signal = Signal::SIGURG;
/// A signal that came before its thread was in the call is lost: it is sent again until the alarm is taken back.
const AGAIN: Duration = Duration::from_millis(20);

/// Beyond this nobody counts.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

struct Set {
    thread: Pthread,
    due: Instant,
    number: u64,
}

struct Watch {
    set: Vec<Set>,
    numbers: u64,
    /// When the watchdog looks next; nothing while it sleeps until somebody comes.
    looks: Option<Instant>,
}

static WATCH: Mutex<Watch> = Mutex::new(Watch { set: Vec::new(), numbers: 0, looks: None });
static NEWS: Condvar = Condvar::new();
static STARTED: Mutex<bool> = Mutex::new(false);

/// Interrupts this thread's system calls from its time on, until it is dropped.
pub(crate) struct Alarm {
    number: u64,
    due: Instant,
}

extern "C" fn nothing(_: libc::c_int) {}

impl Alarm {
    pub(crate) fn set(after: Duration) -> io::Result<Self> {
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        if !*started {
            start()?;
            *started = true;
        }
        drop(started);
        SigSet::from(SIGNAL).thread_unblock()?;
        let due = Instant::now() + after.min(LONGEST);
        let mut watch = WATCH.lock().unwrap_or_else(PoisonError::into_inner);
        watch.numbers += 1;
        let number = watch.numbers;
        watch.set.push(Set { thread: pthread_self(), due, number });
        if watch.looks.is_none_or(|looks| looks > due) {
            NEWS.notify_one();
        }
        Ok(Self { number, due })
    }

    pub(crate) fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut watch = WATCH.lock().unwrap_or_else(PoisonError::into_inner);
        watch.set.retain(|set| set.number != self.number);
    }
}

fn start() -> io::Result<()> {
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler touches nothing, so it may run at any moment, and no other code of this program uses the
    // signal. Without SA_RESTART a system call that it meets ends with EINTR, which callers of every blocking call
    // handle.
    unsafe { sigaction(SIGNAL, &action)? };
    std::thread::Builder::new().name("store-lock-watch".to_owned()).spawn(watch)?;
    Ok(())
}

fn watch() {
    let mut watch = WATCH.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let now = Instant::now();
        // Under the mutex: a thread takes its alarm back before it can end, so the thread is there.
        for set in watch.set.iter().filter(|set| set.due <= now) {
            let _ = pthread_kill(set.thread, SIGNAL);
        }
        // Whoever comes while this sleeps need not wake it unless it must look sooner: limits are mostly alike, so the
        // next look that was planned stays, also when nobody waits any more.
        let planned = watch.looks.filter(|looks| *looks > now);
        let next = watch.set.iter().map(|set| set.due.max(now + AGAIN)).chain(planned).min();
        watch.looks = next;
        watch = match next {
            Some(next) => {
                let sleep = next.saturating_duration_since(now);
                NEWS.wait_timeout(watch, sleep).unwrap_or_else(PoisonError::into_inner).0
            }
            None => NEWS.wait(watch).unwrap_or_else(PoisonError::into_inner),
        };
    }
}
