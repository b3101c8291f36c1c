//! What an agent's stream says, while it says it: read as it grows, told in the stream of events, summed up at the end.
//! One who takes a run over reads it from its beginning, and tells only what was not told before.

mod news;

use std::time::{Duration, Instant};

use run_agent_core::cause::Cause;
use run_agent_core::event::{Event, RunEnd, RunOutcome};
use run_agent_core::{Draft, Timestamp, decide};

use self::news::{New, News};
use super::end::{ANSWERED, NO_ANSWER};
use super::{Exit, Supervisor};
use crate::agent::Stream;
use crate::agent::secrets::{Secrets, Veil};
use crate::agent::stream::{self, Heard, Listener, Told};
use crate::agent::zone::zone;
use crate::hear::{Tail, cut, used_of};

/// How much of a stream is read before it is told and something else is looked at. All that is heard of a piece lies in
/// memory.
const PIECE_MAX: u64 = 64 << 10;
/// What could not be told is tried again after so long: a stream whose lock is held makes each try a long one.
const TRY_AGAIN: Duration = Duration::from_secs(30);

pub(super) struct Hearing {
    listener: Listener,
    stdout: Ear,
    stderr: Ear,
    heard: Vec<Heard>,
    news: News,
    /// What could not be appended yet, and when it is tried again.
    untold: Vec<New>,
    try_at: Option<Instant>,
    /// All that the agent has said since is that its requests fail.
    in_trouble: bool,
    /// How much was printed that shows that it lives.
    life_bytes: u64,
}

/// One of the agent's files, without the secrets of the run.
struct Ear {
    tail: Tail,
    veil: Veil,
}

impl Ear {
    fn of(path: std::path::PathBuf, secrets: &Secrets) -> Self {
        Self { tail: Tail::new(path), veil: Veil::new(secrets.clone()) }
    }

    /// How many bytes were read, and whether there is more.
    fn read(&mut self, mut each: impl FnMut(&[u8])) -> (u64, bool) {
        let (Self { tail, veil }, mut bytes) = (self, 0);
        let more = tail.read(PIECE_MAX, |piece| {
            bytes += piece.len() as u64;
            veil.push(piece, &mut each);
        });
        (bytes, more)
    }
}

impl Hearing {
    /// `None`: what this agent prints is for people alone.
    pub(super) fn of(supervisor: &Supervisor<'_>) -> Option<Self> {
        let launch = &supervisor.launch;
        let before = launch.before.as_ref().map(used_of);
        let run = supervisor.view.run(&launch.run);
        let stream = launch.stream?;
        let one_answer = match stream {
            Stream::Xai | Stream::Perplexity => true,
            Stream::Claude | Stream::Codex | Stream::Gemini | Stream::Opencode => false,
        };
        let (session, told) =
            run.map(|run| (run.session_id.as_deref().map(str::to_owned), run.usage)).unwrap_or_default();
        Some(Self {
            listener: stream.listener(before.as_ref()),
            stdout: Ear::of(supervisor.run.stdout(), &supervisor.secrets),
            stderr: Ear::of(supervisor.run.stderr(), &supervisor.secrets),
            heard: Vec::new(),
            news: News::new(session, told, one_answer),
            untold: Vec::new(),
            try_at: None,
            in_trouble: false,
            life_bytes: 0,
        })
    }

    /// Reads what is new. True: there is more.
    fn read(&mut self) -> bool {
        let Self { listener, stderr, heard, .. } = self;
        // That a request is tried again may stand in stderr, its answer is in stdout: what came in one moment is heard in
        // this order.
        let (bytes, more) = stderr.read(|bytes| listener.stderr(bytes, heard));
        self.take_in(bytes);
        let Self { listener, stdout, heard, .. } = self;
        let (bytes, more_of_stdout) = stdout.read(|bytes| listener.stdout(bytes, heard));
        self.take_in(bytes);
        more || more_of_stdout
    }

    /// That a request is tried again shows only that its agent waits. So does what else it prints until one is answered.
    fn take_in(&mut self, bytes: u64) {
        let heard = std::mem::take(&mut self.heard);
        let works = heard.iter().any(is_work);
        let retries = heard.iter().any(|heard| matches!(heard, Heard::Retrying(_)));
        if works || !(retries || self.in_trouble) {
            self.life_bytes += bytes;
        }
        for heard in heard {
            let retries = matches!(heard, Heard::Retrying(_));
            self.in_trouble = retries || (self.in_trouble && !is_work(&heard));
            self.news.hear(heard);
        }
    }

    /// How much was printed that is a sign of life.
    pub(super) fn life_bytes(&self) -> u64 {
        self.life_bytes
    }

    /// When there is something to tell, though nothing more is printed.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let now = Instant::now();
        let due = if self.untold.is_empty() { self.news.due_at(now) } else { Some(now) };
        due.map(|due| self.try_at.map_or(due, |at| at.max(due)))
    }
}

/// What only an agent says whose requests are answered.
fn is_work(heard: &Heard) -> bool {
    match heard {
        Heard::Text { .. }
        | Heard::Thinking(_)
        | Heard::Tool { .. }
        | Heard::ToolEnd { .. }
        | Heard::Usage(_)
        | Heard::Recovered => true,
        Heard::Session(_)
        | Heard::Model(_)
        | Heard::Retrying(_)
        | Heard::Notice(_)
        | Heard::Problem { .. } => false,
    }
}

impl Supervisor<'_> {
    /// Hears what the agent has printed, and tells what is due of it. True: there is more to read.
    pub(super) fn hear(&mut self) -> bool {
        let Some(hearing) = &mut self.hearing else { return false };
        let more = hearing.read();
        self.tell_news();
        more
    }

    /// Tells what is due. What cannot be told now is told later.
    pub(super) fn tell_news(&mut self) {
        let Some(hearing) = &mut self.hearing else { return };
        let now = Instant::now();
        if hearing.try_at.is_some_and(|at| at > now) {
            return;
        }
        hearing.untold.extend(hearing.news.take(now, false));
        if hearing.untold.is_empty() {
            return;
        }
        let id = self.launch.run.clone();
        let drafts = self.untold();
        // Also of one that is being stopped: what was used was used.
        let told = self.view.propose(drafts, |task| decide::may_end_run(task, &id));
        let Some(hearing) = &mut self.hearing else { return };
        hearing.try_at = match told {
            Ok(_) => {
                hearing.untold.clear();
                None
            }
            Err(error) => {
                tracing::warn!(run = %id, %error, "cannot tell what the agent's output says");
                Some(Instant::now() + TRY_AGAIN)
            }
        };
    }

    fn untold(&self) -> Vec<Draft> {
        let scope = self.view.name.scope(Some(self.launch.run.clone()));
        let cause = Cause::Process("output of the agent".to_owned());
        let untold = self.hearing.iter().flat_map(|hearing| &hearing.untold);
        untold.map(|(event, line)| event.draft(&scope, &cause, line.as_str())).collect()
    }

    /// All that was not told yet, for the append of the run's end.
    pub(super) fn last_news(&mut self) -> Vec<Draft> {
        if let Some(hearing) = &mut self.hearing {
            hearing.untold.extend(hearing.news.take(Instant::now(), true));
        }
        self.untold()
    }

    /// The agent has ended: what its output says in the end, for the run's end and for `output.md`.
    pub(super) fn hear_out(&mut self, exit: Exit, end: &mut RunEnd) {
        let Some(hearing) = &mut self.hearing else { return };
        hearing.stdout.tail.end_here();
        hearing.stderr.tail.end_here();
        while hearing.read() {}
        let Hearing { listener, stdout, stderr, heard, .. } = hearing;
        stderr.veil.finish(|bytes| listener.stderr(bytes, heard));
        stdout.veil.finish(|bytes| listener.stdout(bytes, heard));
        let told = listener.end(exit.heard(), heard);
        hearing.take_in(0);
        hearing.untold.extend(cut(&told).map(|(usage, line)| (Event::RunUsage(usage), line.to_owned())));
        crate::output::write_final(self.tree, &self.run, &told);
        take_in(&told, end);
    }
}

/// What the agent said of its failure counts for more than how it exited.
pub(crate) fn take_in(told: &Told, end: &mut RunEnd) {
    let Some(failure) = told.failure.as_ref().filter(|_| end.status != RunOutcome::Stopped) else { return };
    let exit = std::mem::take(&mut end.reason);
    end.reason = match (failure.message.as_str(), exit.as_str()) {
        ("", _) => exit,
        (said, ANSWERED | NO_ANSWER) => said.to_owned(),
        (said, exit) if said == exit => said.to_owned(),
        (said, exit) => format!("{exit}: {said}"),
    };
    end.status = RunOutcome::Failed;
    let (class, retry_at) = failure.at(Timestamp::now(), zone);
    end.error_class = Some(class.to_string());
    end.retry_at = retry_at;
    if let Some(at) = end.retry_at {
        end.reason.push_str(&format!("; the limit is over at {at:.0}"));
    }
}

impl Exit {
    fn heard(self) -> stream::Exit {
        match self {
            Self::Code(code) => stream::Exit::Code(code),
            Self::Signal(signal) => stream::Exit::Signal(signal),
            Self::Unknown => stream::Exit::Unknown,
        }
    }
}
