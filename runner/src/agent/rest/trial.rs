//! One small request, to see whether a provider answers: what `validate --check-network` makes. It goes the way of a run's
//! requests, but for the bounds: one try, and a bounded time for all of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use run_agent_core::ErrorClass;
use run_agent_core::output::Source;

use super::{Calling, Job, Over, Patience, Request};
use crate::agent::Stream;
use crate::agent::stream::{Exit, Listener, MESSAGE_MAX, one_line};
use crate::interrupt::{self, Interrupt, Waited};
use crate::output::Print;

/// Its whole answer is a token or two.
const PROMPT: &str = "Reply with the word OK.";

/// A request that is small, and otherwise as the agent's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    pub(super) request: Request,
    pub(super) stream: Stream,
}

/// What came of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// `model` as the answer names it, where it does.
    Answered {
        model: String,
        took: Duration,
    },
    /// One line, in the provider's own words where it said something.
    Failed {
        class: ErrorClass,
        message: String,
    },
    GivenUp,
}

impl Trial {
    #[must_use]
    pub fn url(&self) -> &str {
        &self.request.url
    }

    #[must_use]
    pub fn model(&self) -> &str {
        &self.request.model
    }

    /// Makes all of them at once, for so long at most: an interrupt gives all up.
    #[must_use]
    pub fn make_all(trials: &[&Self], limit: Duration, interrupt: &Interrupt) -> Vec<Tried> {
        let until = interrupt.as_fd();
        std::thread::scope(|scope| {
            let made: Vec<_> =
                trials.iter().map(|trial| scope.spawn(move || trial.make(limit, until))).collect();
            made.into_iter().map(|thread| thread.join().unwrap_or(Tried::GivenUp)).collect()
        })
    }

    fn make(&self, limit: Duration, until: BorrowedFd<'_>) -> Tried {
        match self.ask(limit, until) {
            Ok(tried) => tried,
            Err(error) => Tried::Failed {
                class: ErrorClass::Crash,
                message: format!("the request cannot be made: {error}"),
            },
        }
    }

    fn ask(&self, limit: Duration, until: BorrowedFd<'_>) -> io::Result<Tried> {
        let listener = Arc::new(Mutex::new(self.stream.listener(None)));
        let (ended, ends) = io::pipe()?;
        let (tell, over) = channel();
        let job = Job {
            request: self.request.clone(),
            prompt: PROMPT.to_owned(),
            output: Box::new(Ear(Arc::clone(&listener))),
            patience: Patience::once(limit),
        };
        let began = Instant::now();
        let calling = Calling::begin(job, move |how| {
            let _ = tell.send(how);
            drop(ends);
        })?;
        let waited = interrupt::wait(&ended, limit, Some(until))?;
        let took = began.elapsed();
        // Over by itself, it has nothing left to be ended.
        calling.cancel();
        let exit = match (waited, over.recv().unwrap_or(Over::Cancelled)) {
            (Waited::GivenUp, _) => return Ok(Tried::GivenUp),
            (Waited::Late, _) | (Waited::Ended, Over::Cancelled) => {
                let message = format!("there was no whole answer within {} s", limit.as_secs_f64());
                return Ok(Tried::Failed { class: ErrorClass::Network, message });
            }
            (Waited::Ended, Over::Answered) => Exit::Code(0),
            (Waited::Ended, Over::Failed) => Exit::Code(1),
        };
        let told = lock(&listener).end(exit, &mut Vec::new());
        Ok(match told.failure {
            None => Tried::Answered { model: told.model.unwrap_or_else(|| self.model().to_owned()), took },
            Some(failure) => {
                // Some providers say again what they refuse.
                let message = failure.message.replace(&self.request.token, "…");
                Tried::Failed { class: failure.class, message: one_line(&message, MESSAGE_MAX) }
            }
        })
    }
}

/// Hears what a request prints.
struct Ear(Arc<Mutex<Listener>>);

impl Print for Ear {
    fn print(&mut self, to: Source, bytes: &[u8]) -> io::Result<()> {
        let (mut listener, mut heard) = (lock(&self.0), Vec::new());
        match to {
            Source::Stdout => listener.stdout(bytes, &mut heard),
            Source::Stderr => listener.stderr(bytes, &mut heard),
        }
        Ok(())
    }
}

fn lock(listener: &Mutex<Listener>) -> std::sync::MutexGuard<'_, Listener> {
    listener.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    fn trial(listener: &TcpListener) -> Trial {
        let request = Request {
            url: format!("http://{}/v1/chat/completions", listener.local_addr().unwrap()),
            model: "m".to_owned(),
            token: "secret".to_owned(),
            fields: serde_json::Map::new(),
        };
        Trial { request, stream: Stream::Xai }
    }

    #[test]
    fn one_that_is_never_answered_is_late_and_its_connection_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (until, _open) = io::pipe().unwrap();
        let tried = trial(&listener).make(Duration::from_millis(200), until.as_fd());
        let message = "there was no whole answer within 0.2 s".to_owned();
        assert_eq!(tried, Tried::Failed { class: ErrorClass::Network, message });
        let (mut connection, _) = listener.accept().unwrap();
        // Ends, since the other side has closed it; an error is an end, too.
        let _ = connection.read_to_end(&mut Vec::new());
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "it is asked once");
    }

    #[test]
    fn one_that_is_given_up_is_over_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (until, open) = io::pipe().unwrap();
        drop(open);
        assert_eq!(trial(&listener).make(Duration::from_secs(3600), until.as_fd()), Tried::GivenUp);
    }
}
