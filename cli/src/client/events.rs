//! A stream of the server's events, taken up again behind the last id wherever it breaks off: whoever follows is told of
//! a break once, and misses nothing that the server still knows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use reqwest::{Method, Response};
use run_agent_runner::http;

use super::sse::{Event, Parser};
use super::{CONNECT, Client, Place, Waited, trouble};
use crate::error::Failure;
use crate::render;

/// A server says every fifteen seconds that it is there: one that is silent for so long is not.
const SILENCE: Duration = Duration::from_secs(45);
/// The pause before the first try to take a stream up again. It doubles …
const PAUSE: Duration = Duration::from_millis(100);
/// … up to this.
const PAUSE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) enum Next {
    /// A stream was opened: what comes now is the first of it.
    Opened,
    Event(Event),
    TimeUp,
    Interrupted,
}

pub(crate) struct Events<'a> {
    client: &'a Client,
    place: Place,
    /// The id behind which everything is still to come.
    last: Option<String>,
    open: Option<Open>,
    broken: Option<Broken>,
}

struct Open {
    response: Response,
    parser: Parser,
    events: VecDeque<Event>,
    heard: Instant,
}

/// The server is away.
struct Broken {
    pause: Duration,
    again: Instant,
    tries: u32,
}

/// What came of waiting for a piece.
enum Piece {
    Bytes(Vec<u8>),
    Over,
}

impl<'a> Events<'a> {
    /// To be followed behind `last`, of a server that has answered before: where it does not answer now it is waited for.
    pub(crate) fn new(client: &'a Client, place: Place, last: Option<String>) -> Self {
        Self { client, place, last, open: None, broken: None }
    }

    /// The id of the last event that had one.
    pub(crate) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// What is next, within so long.
    pub(crate) fn next(&mut self, limit: Duration) -> Result<Next, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(event) = self.open.as_mut().and_then(|open| open.events.pop_front()) {
                if event.id.is_some() {
                    self.last.clone_from(&event.id);
                }
                match event.name.as_str() {
                    "heartbeat" => continue,
                    // Too slow for what the server holds: it goes on behind the last id.
                    "dropped" => {
                        self.open = None;
                        continue;
                    }
                    _ => return Ok(Next::Event(event)),
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match &self.open {
                None => {
                    let pause = self.broken.as_ref().map_or(Duration::ZERO, |broken| {
                        broken.again.saturating_duration_since(Instant::now())
                    });
                    if !pause.is_zero() {
                        match self.client.wait(std::future::pending::<()>(), pause.min(left)) {
                            Waited::Interrupted => return Ok(Next::Interrupted),
                            Waited::Came(()) | Waited::TimeUp if pause > left => return Ok(Next::TimeUp),
                            Waited::Came(()) | Waited::TimeUp => {}
                        }
                    }
                    match self.connect()? {
                        Waited::Interrupted => return Ok(Next::Interrupted),
                        Waited::Came(true) => return Ok(Next::Opened),
                        Waited::Came(false) | Waited::TimeUp => {}
                    }
                }
                Some(open) => {
                    let silence = SILENCE.saturating_sub(open.heard.elapsed());
                    match self.piece(left.min(silence)) {
                        Waited::Interrupted => return Ok(Next::Interrupted),
                        Waited::Came(Piece::Bytes(bytes)) => self.take_in(&bytes)?,
                        Waited::Came(Piece::Over) => self.breaks("the connection ended"),
                        Waited::TimeUp if silence < left => self.breaks("nothing comes any more"),
                        Waited::TimeUp => return Ok(Next::TimeUp),
                    }
                }
            }
        }
    }

    fn piece(&mut self, limit: Duration) -> Waited<Piece> {
        let Some(open) = &mut self.open else { return Waited::Came(Piece::Over) };
        let chunk = async {
            match open.response.chunk().await {
                Ok(Some(bytes)) => Piece::Bytes(bytes.to_vec()),
                Ok(None) | Err(_) => Piece::Over,
            }
        };
        self.client.wait(chunk, limit)
    }

    fn take_in(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.heard = Instant::now();
        open.parser.push(bytes, &mut open.events).map_err(|_| trouble::strange(self.client.url()))
    }

    /// True: a stream is open. An answer that says no is the end.
    fn connect(&mut self) -> Result<Waited<bool>, Failure> {
        let (client, last) = (self.client, self.last.as_deref());
        let sent = match client.wait(client.send(Method::GET, &self.place, None, last), CONNECT) {
            Waited::Came(sent) => sent,
            Waited::Interrupted => return Ok(Waited::Interrupted),
            Waited::TimeUp => {
                self.breaks("it does not answer");
                return Ok(Waited::Came(false));
            }
        };
        match sent {
            Ok(response) if response.status().is_success() => {
                if let Some(Broken { tries: 1.., .. }) = self.broken.take() {
                    render::say(&format!("the server at {} is there again", client.url()));
                }
                let (parser, events) = (Parser::default(), VecDeque::new());
                self.open = Some(Open { response, parser, events, heard: Instant::now() });
                Ok(Waited::Came(true))
            }
            // A tunnel without its other end, or a proxy, answers so.
            Ok(response) if response.status().is_server_error() => {
                self.breaks("it fails");
                Ok(Waited::Came(false))
            }
            Ok(response) => Err(client.runtime.block_on(client.refused(response))),
            Err(error) => {
                tracing::info!(error = http::causes(&error), "a stream cannot be taken up");
                self.breaks("it does not answer");
                Ok(Waited::Came(false))
            }
        }
    }

    /// The stream is to be taken up again. The first try is made at once, and nothing is said if it does.
    fn breaks(&mut self, why: &str) {
        self.open = None;
        let now = Instant::now();
        let Some(broken) = &mut self.broken else {
            self.broken = Some(Broken { pause: PAUSE, again: now, tries: 0 });
            return;
        };
        if broken.tries == 0 {
            render::say(&format!(
                "the server at {} is away ({why}); waiting for it to come back",
                self.client.url()
            ));
        }
        broken.tries += 1;
        broken.again = now + broken.pause;
        broken.pause = (broken.pause * 2).min(PAUSE_MAX);
    }
}
