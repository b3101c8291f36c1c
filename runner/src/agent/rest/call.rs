//! Making the request: on a thread with a runtime of its own, so that no other command and no other run pays for one.
//! What comes is written as it comes: into the run's files, which the supervisor reads as it reads those of a program, or
//! to whoever tries whether there is an answer at all.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::Response;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use run_agent_core::ErrorClass;
use run_agent_core::output::Source;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::bounds::Bounds;
use super::client::prepare;
use super::{Patience, Request};
use crate::agent::stream::told::Line;
use crate::agent::stream::{BODY_MAX, Head, Retry, Trouble, refusal};
use crate::agent::zone::zone;
use crate::http::causes;
use crate::output::Print;

/// All that a request needs.
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) prompt: String,
    /// The body of the answer goes to stdout, as it is; what is told beside it to stderr.
    pub(crate) output: Box<dyn Print>,
    pub(crate) patience: Patience,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// An answer was read to the end of its body. Whether it says all, its reader knows.
    Answered,
    Failed,
    Cancelled,
}

/// A request that is being made.
#[derive(Debug)]
pub(crate) struct Calling {
    abort: AbortHandle,
    refusals: Arc<AtomicU64>,
}

impl Calling {
    /// Begins. `done` is called when it is over, whatever ended it, with its connection closed.
    ///
    /// # Errors
    /// When the system gives no thread or no descriptor for it.
    pub(crate) fn begin(job: Job, done: impl FnOnce(Over) + Send + 'static) -> io::Result<Self> {
        let refusals = Arc::new(AtomicU64::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let asking = Asking { job, refusals: Arc::clone(&refusals) };
        let task = runtime.spawn(asking.ask());
        let abort = task.abort_handle();
        std::thread::Builder::new().name("request".to_owned()).spawn(move || {
            let over = match runtime.block_on(task) {
                Ok(Ok(())) => Over::Answered,
                Ok(Err(Ended)) => Over::Failed,
                Err(error) if error.is_cancelled() => Over::Cancelled,
                Err(_) => Over::Failed,
            };
            // A name that is being looked up would be waited for.
            runtime.shutdown_background();
            done(over);
        })?;
        Ok(Self { abort, refusals })
    }

    /// Ends it now, wherever it is.
    pub(crate) fn cancel(&self) {
        self.abort.abort();
    }

    /// How often the other side refused and was asked again: a sign that it lives.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }
}

/// It is told why.
struct Ended;

/// Why one try came to nothing.
enum Refused {
    /// The other side said so.
    Said { head: Head, body: Vec<u8>, trouble: Trouble },
    /// There was no answer.
    Network { message: String, may_pass: bool },
}

struct Asking {
    job: Job,
    refusals: Arc<AtomicU64>,
}

impl Asking {
    async fn ask(mut self) -> Result<(), Ended> {
        let Request { url, model, .. } = &self.job.request;
        self.tell(&Line::Asking { url: url.clone(), model: model.clone() });
        let (client, token) = match prepare(&self.job.request, self.job.patience.connect) {
            Ok(ready) => ready,
            Err(why) => return Err(self.failed(ErrorClass::Usage, why)),
        };
        let body = self.job.request.body(&self.job.prompt);
        self.job.prompt = String::new();
        for retry in 1.. {
            let post = client
                .post(&self.job.request.url)
                .header(AUTHORIZATION, token.clone())
                .header(ACCEPT, "text/event-stream")
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
            let refused = match self.within_patience(post.send()).await? {
                Ok(response) => match self.take(response).await? {
                    None => return Ok(()),
                    Some(refused) => refused,
                },
                Err(error) => no_answer(&error),
            };
            self.wait_or_end(retry, refused).await?;
        }
        Err(Ended)
    }

    /// Reads an answer. What is given back may be tried again.
    async fn take(&mut self, mut response: Response) -> Result<Option<Refused>, Ended> {
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let head = Head { status: response.status().as_u16(), retry_after: after.map(str::to_owned) };
        if !head.is_answer() {
            let body = self.refused_body(&mut response).await;
            let trouble = refusal(&head, &body);
            return Ok(Some(Refused::Said { head, body, trouble }));
        }
        self.tell(&Line::Head(head));
        let mut bounds = Bounds::new(Instant::now(), self.job.patience.without_event);
        let mut began = false;
        loop {
            match self.within_patience(response.chunk()).await? {
                Ok(Some(bytes)) => {
                    began |= !bytes.is_empty();
                    self.print(&bytes)?;
                    bounds
                        .take(&bytes, Instant::now())
                        .map_err(|why| self.failed(ErrorClass::Unknown, why))?;
                }
                Ok(None) => return Ok(None),
                Err(error) if !began => return Ok(Some(no_answer(&error))),
                Err(error) => {
                    let why = format!("the answer was cut off: {}", causes(&error));
                    return Err(self.failed(ErrorClass::Network, why));
                }
            }
        }
    }

    /// As far as it comes soon, and as much of it as anybody reads.
    async fn refused_body(&mut self, response: &mut Response) -> Vec<u8> {
        let mut body = Vec::new();
        let read = async {
            while let Ok(Some(bytes)) = response.chunk().await {
                body.extend_from_slice(&bytes);
                if body.len() >= BODY_MAX {
                    break;
                }
            }
        };
        // Without the rest it is a refusal too.
        let _ = timeout(self.job.patience.refusal, read).await;
        body.truncate(BODY_MAX);
        body
    }

    /// Waits for something of the other side, and tells now and then that it waits. Silence over the bound is the end.
    async fn within_patience<T>(&mut self, what: impl Future<Output = T>) -> Result<T, Ended> {
        let Patience { silence, progress, .. } = self.job.patience;
        let (mut what, mut silent) = (pin!(what), Duration::ZERO);
        loop {
            let step = progress.min(silence - silent);
            if let Ok(came) = timeout(step, what.as_mut()).await {
                return Ok(came);
            }
            silent += step;
            if silent >= silence {
                let why = format!("no byte came for {} s", silence.as_secs_f64());
                return Err(self.failed(ErrorClass::Network, why));
            }
            self.tell(&Line::Waiting { silent });
        }
    }

    async fn wait_or_end(&mut self, retry: u32, refused: Refused) -> Result<(), Ended> {
        let (class, asked) = match &refused {
            Refused::Said { trouble, .. } => (trouble.word(), asked_wait(trouble)),
            Refused::Network { .. } => (ErrorClass::Network, None),
        };
        let may_pass = !matches!(refused, Refused::Network { may_pass: false, .. });
        let patience = self.job.patience;
        let Some(wait) = patience.wait(retry, class, asked).filter(|_| may_pass) else {
            return Err(match refused {
                Refused::Said { head, body, .. } => {
                    self.tell(&Line::Head(head));
                    self.print(&body)?;
                    Ended
                }
                Refused::Network { message, .. } => self.failed(class, message),
            });
        };
        let (status, message) = match refused {
            Refused::Said { head, trouble, .. } => {
                self.refusals.fetch_add(1, Ordering::Relaxed);
                (Some(head.status), trouble.message)
            }
            Refused::Network { message, .. } => (None, message),
        };
        let (attempt, of, wait_in) = (retry, Some(patience.retries), Some(wait));
        self.tell(&Line::Retrying(Retry { class, status, attempt, of, wait: wait_in, message }));
        sleep(wait).await;
        Ok(())
    }

    fn print(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let written = self.job.output.print(Source::Stdout, bytes);
        written.map_err(|error| self.failed(ErrorClass::Crash, format!("cannot write the answer: {error}")))
    }

    fn failed(&mut self, class: ErrorClass, message: String) -> Ended {
        self.tell(&Line::Failed { class, message });
        Ended
    }

    fn tell(&mut self, line: &Line) {
        // One write a line. A disk that is full refuses the answer as well, which says so.
        let _ = self.job.output.print(Source::Stderr, format!("{line}\n").as_bytes());
    }
}

/// How long the answer says to wait.
fn asked_wait(trouble: &Trouble) -> Option<Duration> {
    let now = Timestamp::now();
    let moment = trouble.reset.as_ref()?.moment(now, zone)?;
    Some(Duration::try_from(moment.duration_since(now)).unwrap_or_default())
}

fn no_answer(error: &reqwest::Error) -> Refused {
    let causes = causes(error);
    // A name or certificate that is wrong is wrong at the next try too; a name that cannot be looked up now is not.
    let may_pass = !error.is_builder() && !causes.contains("certificate");
    let what = if error.is_connect() { "cannot connect" } else { "no answer" };
    Refused::Network { message: format!("{what}: {causes}"), may_pass }
}

#[cfg(test)]
mod tests;
