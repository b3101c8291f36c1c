//! Reading what an agent printed, through the reader of its kind: while it grows, or whole when it is over.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use run_agent_core::event::{Usage, Usd};
use run_agent_core::layout::RunPaths;
use run_agent_core::world::{Task, Totals};

use crate::agent::Stream;
use crate::agent::stream::{Before, Exit, Tokens, Told, Used};

const BUFFER_BYTES: usize = 64 * 1024;

/// A file that grows.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    at: u64,
    /// Where its writer ended; what others write behind it is not the agent's.
    until: u64,
}

/// What is heard of a writer that has ended, at the most: the rest of a flood is left out, its end is not.
const END_MAX: u64 = 64 << 20;

impl Tail {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, at: 0, until: u64::MAX }
    }

    /// Its writer has ended: what is there now is all that is read.
    pub(crate) fn end_here(&mut self) {
        self.until = std::fs::metadata(&self.path).map_or(self.at, |meta| meta.len());
        self.at = self.at.max(self.until.saturating_sub(END_MAX));
    }

    /// Gives what is new, at most about `max` bytes. True: there is more. A file that cannot be read has nothing new.
    pub(crate) fn read(&mut self, max: u64, mut each: impl FnMut(&[u8])) -> bool {
        let Ok(mut file) = File::open(&self.path) else { return false };
        if file.seek(SeekFrom::Start(self.at)).is_err() {
            return false;
        }
        let (mut buffer, mut read) = (vec![0; BUFFER_BYTES], 0);
        loop {
            let left = usize::try_from(self.until.saturating_sub(self.at)).unwrap_or(usize::MAX);
            match file.read(&mut buffer[..left.min(BUFFER_BYTES)]) {
                Ok(0) => return false,
                Ok(n) => {
                    each(&buffer[..n]);
                    self.at += n as u64;
                    read += n as u64;
                    if read >= max {
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }
}

/// What runs of a conversation reported together, which a run that takes it up may report once more.
pub(crate) fn before(task: &Task, session: &str) -> Option<Usage> {
    let mut of_it = task.runs.values().filter(|run| run.session_id.as_deref() == Some(session)).peekable();
    of_it.peek()?;
    let sum = of_it.fold(Totals::default(), |sum, run| sum.plus(&run.usage));
    Some(Usage {
        input_tokens: sum.input_tokens,
        output_tokens: sum.output_tokens,
        cached_tokens: sum.cached_tokens,
        cost_usd: Some(sum.cost_usd),
        session_id: Some(session.to_owned()),
        model: None,
        incomplete: false,
    })
}

/// True when the runs of this conversation printed this form. The name of an agent may stand for one of another kind by
/// now, which knows nothing of it.
pub(crate) fn is_of(task: &Task, session: &str, stream: Option<Stream>) -> bool {
    let of_it = task.runs.values().filter(|run| run.session_id.as_deref() == Some(session));
    let mut forms = of_it.map(|run| Stream::named(run.stream()?));
    stream.is_some() && forms.all(|form| form == stream)
}

/// What a conversation has used, as a reader takes it.
pub(crate) fn used_of(usage: &Usage) -> Before {
    let used = Used {
        model: usage.model.clone(),
        tokens: Tokens {
            input: usage.input_tokens,
            output: usage.output_tokens,
            cached: usage.cached_tokens,
            reasoning: 0,
        },
        cost: usage.cost_usd,
    };
    Before { session: usage.session_id.clone(), used }
}

/// All that the agent of a run printed, of which nobody saw the end.
pub(crate) fn whole(run: &RunPaths, stream: Stream, before: Option<&Usage>) -> Told {
    let (mut listener, mut heard) = (stream.listener(before.map(used_of).as_ref()), Vec::new());
    let (mut stdout, mut stderr) = (Tail::new(run.stdout()), Tail::new(run.stderr()));
    stdout.end_here();
    stderr.end_here();
    stdout.read(u64::MAX, |bytes| {
        listener.stdout(bytes, &mut heard);
        heard.clear();
    });
    stderr.read(u64::MAX, |bytes| {
        listener.stderr(bytes, &mut heard);
        heard.clear();
    });
    listener.end(Exit::Unknown, &mut heard)
}

/// Of a run whose output ended in the middle: more was used than was told.
pub(crate) fn cut(told: &Told) -> Option<(Usage, &'static str)> {
    let usage = Usage { model: told.model.clone(), incomplete: true, ..Usage::default() };
    told.cut.then_some((usage, "it ended before it could report all that it used"))
}

/// What of a run's usage was not told, as its whole output has it.
pub(crate) fn untold(told: &Told, known: &Totals) -> Option<Usage> {
    let used = told.used.as_ref()?;
    let usage = Usage {
        model: told.model.clone(),
        input_tokens: used.tokens.input.saturating_sub(known.input_tokens),
        output_tokens: used.tokens.output.saturating_sub(known.output_tokens),
        cached_tokens: used.tokens.cached.saturating_sub(known.cached_tokens),
        cost_usd: used.cost.map(|cost| Usd { micros: cost.micros.saturating_sub(known.cost_usd.micros) }),
        session_id: told.session.clone(),
        incomplete: false,
    };
    let costs = usage.cost_usd.is_some_and(|cost| cost.micros > 0);
    (usage.input_tokens > 0 || usage.output_tokens > 0 || costs).then_some(usage)
}
