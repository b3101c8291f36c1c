//! What a long wait waits for: a line that is drawn again and erased at the end on a terminal, a line now and then
//! elsewhere. Everything that is printed meanwhile goes above it.
//!
//! A crate for progress bars draws bars on terminals and nothing elsewhere; the half that is wanted here is the other.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use run_agent_core::Timestamp;

use super::line::OpenLine;
use super::{cut, lasted, span, width_of_stderr};

/// How often the line is drawn on a terminal.
const FRAME: Duration = Duration::from_millis(120);
const FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// When the first plain line is printed; what is over sooner is told by its result. The next comes at `PLAIN_SECOND`,
/// then one each `PLAIN_EVERY`.
const PLAIN_FIRST: Duration = Duration::from_secs(15);
const PLAIN_SECOND: Duration = Duration::from_secs(60);
const PLAIN_EVERY: Duration = Duration::from_secs(300);
/// A first wait begins a moment before the clock of these lines does.
const SLACK: Duration = Duration::from_secs(1);

/// The line of this process.
static LINE: Mutex<Line> = Mutex::new(Line::new());

struct Line {
    text: String,
    /// How that stands, which changes while the wait is the same.
    state: String,
    /// When the text was set.
    since: Option<Instant>,
    /// Since when what is waited for gives no sign of life.
    idle_since: Option<Timestamp>,
    drawn: bool,
    results: OpenLine,
}

fn line() -> MutexGuard<'static, Line> {
    LINE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    const fn new() -> Self {
        Self {
            text: String::new(),
            state: String::new(),
            since: None,
            idle_since: None,
            drawn: false,
            results: OpenLine::new(),
        }
    }

    /// Takes the line away, so that something else can be printed; the next frame draws it again.
    fn erase(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }

    fn set(&mut self, text: String) {
        if self.text != text {
            (self.text, self.state, self.since) = (text, String::new(), Some(Instant::now()));
        }
    }

    fn waited(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// What is waited for, and how long so far.
    fn words(&self) -> String {
        let seconds = self.waited().as_secs();
        let time = if seconds < 60 { format!("{seconds}s") } else { span(Duration::from_secs(seconds)) };
        let now = Timestamp::now();
        let idle = self.idle_since.map(|since| format!(", idle for {}", lasted(since, now)));
        format!("{}{} ({time}){}", self.text, self.state, idle.unwrap_or_default())
    }
}

/// Prints results with `print`. Neither holds the other up where they go to different places: a reader of results may
/// not keep up.
pub(super) fn results<T>(bytes: &[u8], print: impl FnOnce(&[u8]) -> T) -> T {
    let mut line = line();
    line.erase();
    let comes = line.results.comes(bytes);
    if line.results.is_shared() {
        return print(comes);
    }
    drop(line);
    print(comes)
}

/// Prints talk, on a line of its own.
pub(super) fn talk(text: &str) {
    let mut line = line();
    line.erase();
    let before = line.results.before_talk();
    let _ = writeln!(io::stderr(), "{before}{text}");
}

/// A wait that is shown for as long as this lives.
#[derive(Debug)]
pub(crate) struct Progress {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Shows that this process waits, and for what.
pub(crate) fn progress(text: impl Into<String>) -> Progress {
    line().set(text.into());
    let (stop, stopped) = sync_channel(1);
    let redraws = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let show = move || {
        let began = Instant::now();
        let mut next = if redraws { FRAME } else { PLAIN_FIRST };
        let mut count = 0;
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(next.saturating_sub(began.elapsed()))
        {
            if redraws {
                draw(FRAMES[count % FRAMES.len()]);
                next = began.elapsed() + FRAME;
            } else if let Some(early) =
                PLAIN_FIRST.checked_sub(line().waited()).filter(|early| *early > SLACK)
            {
                // Something happened since, and was told: this wait has just begun.
                next = began.elapsed() + early;
            } else {
                let words = line().words();
                talk(&format!("still {words}"));
                next = plain_after(next);
            }
            count += 1;
        }
    };
    // A wait that cannot be shown is no reason not to wait.
    let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(show).ok();
    Progress { stop: Some(stop), thread }
}

/// When the plain line after the one of `last` is due, counted from the beginning.
fn plain_after(last: Duration) -> Duration {
    if last < PLAIN_SECOND { PLAIN_SECOND } else { last + PLAIN_EVERY }
}

fn draw(frame: char) {
    let mut line = line();
    // It would wipe the text out.
    if line.results.is_open {
        return;
    }
    let text = cut(&format!("{frame} {}", line.words()), width_of_stderr().unwrap_or(80).saturating_sub(1));
    line.drawn = true;
    let _ = write!(io::stderr(), "\r\u{1b}[K{text}");
}

impl Progress {
    /// Says what is waited for by now.
    pub(crate) fn set(&self, text: impl Into<String>) {
        line().set(text.into());
    }

    /// Says how what is waited for stands: the wait is the same.
    pub(crate) fn stands(&self, state: String) {
        line().state = state;
    }

    /// Says since when all that is waited for gives no sign of life, if that is so.
    pub(crate) fn idle(&self, since: Option<Timestamp>) {
        line().idle_since = since;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.idle(None);
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        line().erase();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_are_few() {
        let due = std::iter::successors(Some(PLAIN_FIRST), |last| Some(plain_after(*last)));
        assert_eq!(due.take(4).map(|at| at.as_secs()).collect::<Vec<_>>(), [15, 60, 360, 660]);
    }

    #[test]
    fn a_text_that_stays_keeps_its_clock() {
        let mut line = Line::new();
        line.set("waiting".to_owned());
        let since = line.since;
        line.set("waiting".to_owned());
        line.state = ", which is retrying".to_owned();
        assert_eq!((line.since, line.words().as_str()), (since, "waiting, which is retrying (0s)"));
    }
}
