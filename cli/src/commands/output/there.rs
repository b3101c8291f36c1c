//! The same of a run on another machine: files come in parts, and what an agent prints comes line by line.

use std::time::Duration;

use run_agent_core::RunId;
use run_agent_core::output::Source;
use run_agent_core::world::Run;
use run_agent_runner::agent::Stream;
use run_agent_runner::tree::TaskName;
use run_agent_runner::wait::Waited;
use run_agent_runner::wake::LOOK_AGAIN;
use serde::Deserialize;

use super::print::{Print, Shown};
use super::{TAIL_MAX, check, newest, one_file, why_none};
use crate::args::{Global, OutputArgs};
use crate::client::answer::{LogLine, LogStream, StreamError};
use crate::client::events::{Events, Next};
use crate::client::{Client, Place};
use crate::commands::reader;
use crate::error::{Exit, Failure, Outcome};
use crate::render;

/// So much of a file comes at once.
const PART: usize = 16 << 20;
/// What is there comes without a pause: after one so long it was all.
const PAUSE: Duration = Duration::from_millis(300);

pub(super) fn run(global: &Global, client: &Client, args: &OutputArgs) -> Outcome {
    check(global.json, args)?;
    let (name, id) = match &args.run {
        Some(text) => client.run_named(text)?,
        None => {
            let name = client.required_task()?;
            let id = newest(&name, &client.view(&name)?.task)?;
            (name, id)
        }
    };
    if args.follow || args.merged {
        if args.follow {
            client.on_interrupt()?;
        }
        let _blocked = client.blocks();
        let which = match (args.stdout, args.stderr) {
            (true, _) => Some(LogStream::Stdout),
            (_, true) => Some(LogStream::Stderr),
            _ => None,
        };
        // One file is shown as it is.
        let mut lines = Lines::new(client, &name, &id, Shown::of(args.raw || which.is_some()));
        lines.which = which;
        lines.until_now = !args.follow;
        lines.print.only_last(args.tail);
        return Ok(match lines.follow()? {
            Waited::Interrupted => Exit::Interrupted,
            Waited::AllEnded | Waited::TimeUp => Exit::Done,
        });
    }
    let what = match (args.stdout, args.stderr, args.prompt) {
        (true, ..) => "stdout",
        (_, true, _) => "stderr",
        (.., true) => "prompt",
        _ => "output.md",
    };
    let shown = file(global.json, client, &name, &id, what, args.tail);
    shown.map_err(|failure| match failure.exit() {
        Exit::NotFound => none(client, &name, &id, what),
        _ => failure,
    })
}

fn none(client: &Client, name: &TaskName, id: &RunId, what: &str) -> Failure {
    let view = match client.view(name) {
        Ok(view) => view,
        Err(failure) => return failure,
    };
    let why = why_none(view.task.runs.get(id), what == "output.md");
    Failure::not_found(format!("{what} of run {id} is not there: {why}"))
}

/// What the server tells of a file beside its bytes.
#[derive(Deserialize)]
struct Part {
    content: String,
    size_bytes: u64,
}

/// The last lines of a run's stderr.
pub(crate) fn end_of(
    client: &Client,
    name: &TaskName,
    id: &RunId,
    lines: usize,
    bytes: u64,
) -> Result<String, Failure> {
    let place = Place::of_task(name, ["runs", id.as_str(), "file"]).with("name", "stderr");
    let part: Part = client.get(&place.with("tail", lines).with("limit", bytes))?;
    Ok(part.content)
}

/// Prints a run's answer, if it left one.
pub(crate) fn answer(client: &Client, name: &TaskName, id: &RunId) -> Result<(), Failure> {
    match file(false, client, name, id, "output.md", None) {
        Err(failure) if failure.exit() == Exit::NotFound => Ok(()),
        printed => printed.map(drop),
    }
}

fn file(
    json: bool,
    client: &Client,
    name: &TaskName,
    id: &RunId,
    what: &str,
    tail: Option<usize>,
) -> Outcome {
    let place = Place::of_task(name, ["runs", id.as_str(), "file"]).with("name", what);
    if let Some(lines) = tail {
        let part: Part = client.get(&place.with("tail", lines).with("limit", TAIL_MAX))?;
        if json {
            return one_file(name, id, what, &part.content, part.size_bytes);
        }
        render::out(&part.content)?;
        return Ok(Exit::Done);
    }
    let mut whole = Vec::new();
    let mut at = 0;
    loop {
        let place = place.clone().with("raw", true).with("offset", at).with("limit", PART);
        let part = client.bytes(&place)?;
        at += part.len();
        let is_last = part.len() < PART;
        if json {
            whole.extend(part);
        } else {
            render::bytes(&part)?;
        }
        if is_last {
            break;
        }
    }
    if json {
        return one_file(name, id, what, &String::from_utf8_lossy(&whole), whole.len() as u64);
    }
    Ok(Exit::Done)
}

/// What an agent of another machine prints, line by line.
pub(crate) struct Lines<'a> {
    client: &'a Client,
    name: &'a TaskName,
    id: &'a RunId,
    events: Events<'a>,
    print: Print,
    /// Only this stream.
    which: Option<LogStream>,
    /// Only what is there now.
    until_now: bool,
    held: Option<Held>,
}

/// The last lines of each stream of what is there, which is printed as it is.
struct Held {
    most: usize,
    lines: Vec<(Source, Vec<u8>)>,
}

impl Held {
    fn push(&mut self, source: Source, line: Vec<u8>) {
        self.lines.push((source, line));
        // Cut now and then, not for every line.
        if self.lines.len() > self.most.saturating_mul(4).saturating_add(4096) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let mut kept: [usize; 2] = [0, 0];
        let mut last: Vec<_> = std::mem::take(&mut self.lines)
            .into_iter()
            .rev()
            .filter(|(source, _)| {
                let count = &mut kept[usize::from(*source == Source::Stderr)];
                *count += 1;
                *count <= self.most
            })
            .collect();
        last.reverse();
        self.lines = last;
    }
}

impl<'a> Lines<'a> {
    pub(crate) fn new(client: &'a Client, name: &'a TaskName, id: &'a RunId, shown: Shown) -> Self {
        let place = Place::new(["v1", "runs", id.as_str(), "stream"]);
        let (events, print) = (Events::new(client, place, None), Print::new(shown));
        Self { client, name, id, events, print, which: None, until_now: false, held: None }
    }

    /// Prints until the run has ended and everything is out.
    pub(crate) fn follow(&mut self) -> Result<Waited, Failure> {
        let mut has_all = false;
        loop {
            match self.events.next(if has_all { LOOK_AGAIN } else { PAUSE })? {
                Next::Opened => {}
                Next::Event(event) => match event.name.as_str() {
                    "log" => self.line(self.client.event(&event.data)?)?,
                    "done" => {
                        self.end()?;
                        return Ok(Waited::AllEnded);
                    }
                    "reset" => render::say(&format!(
                        "note: what run {} prints was replaced; all of it follows",
                        self.id
                    )),
                    "error" => {
                        let what = format!("what run {} prints", self.id);
                        return Err(self.client.event::<StreamError>(&event.data)?.failure(what));
                    }
                    // How the run stands, which its end tells.
                    _ => {}
                },
                Next::TimeUp if self.until_now => {
                    self.end()?;
                    return Ok(Waited::TimeUp);
                }
                Next::TimeUp => {
                    has_all = true;
                    self.release()?;
                }
                Next::Interrupted => return Ok(Waited::Interrupted),
            }
            reader::still_there()?;
        }
    }

    fn line(&mut self, line: LogLine) -> Result<(), Failure> {
        if self.which.is_some_and(|which| which != line.stream) {
            return Ok(());
        }
        if self.print.needs_form() {
            let view = self.client.view(self.name)?;
            self.print.begin(view.task.runs.get(self.id).and_then(Stream::of));
        }
        let source = match line.stream {
            LogStream::Stdout => Source::Stdout,
            LogStream::Stderr => Source::Stderr,
        };
        let mut bytes = line.line.into_bytes();
        if !line.continues {
            bytes.push(b'\n');
        }
        if let Some(most) = self.print.take_last_of_raw() {
            self.held = Some(Held { most, lines: Vec::new() });
        }
        match &mut self.held {
            Some(held) => held.push(source, bytes),
            None => self.print.put(source, bytes)?,
        }
        Ok(())
    }

    /// From here on everything is printed when it comes.
    fn release(&mut self) -> Result<(), Failure> {
        if let Some(mut held) = self.held.take() {
            held.cut();
            for (source, line) in held.lines {
                self.print.put(source, line)?;
            }
        }
        self.print.release()
    }

    fn end(&mut self) -> Result<(), Failure> {
        if self.held.is_some() {
            self.release()?;
        }
        let view = self.client.view(self.name)?;
        let end = view.task.runs.get(self.id).and_then(Run::end);
        self.print.end(end.map(|(end, _)| end))
    }
}
