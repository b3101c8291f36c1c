//! `bus read`, `follow` and `poll`: what is there, and what comes.

mod there;

use std::time::{Duration, Instant};

use clap::Args;
use run_agent_core::follow::{Follow, FollowError, From};
use run_agent_core::store::{Page, ReadError};
use run_agent_core::{MsgId, StreamKey, window};
use run_agent_runner::wake::{LOOK_AGAIN, Wake};

use super::filter::{Filter, FilterArgs};
use super::show::{self, Printer};
use crate::args::{Global, ServerArgs, duration};
use crate::client::Client;
use crate::commands::reader;
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render;

/// How many messages are shown when nothing else is said.
const TAIL: usize = 20;
/// How long `poll` waits when nothing else is said.
const POLL: Duration = Duration::from_secs(60);

// Which messages, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhichArgs {
    /// Begin with the last N messages that match [default: 20, or none with --since]
    #[arg(long, value_name = "N", conflicts_with = "since")]
    tail: Option<usize>,
    /// Begin behind this message
    #[arg(long, value_name = "ID")]
    since: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// With the text of attachments
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent bus follow --task fix-login --type ERROR,WARNING")]
pub(crate) struct FollowArgs {
    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent bus read --type QUESTION,ANSWER --tail 5")]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Go on with new messages as they come
    #[arg(long, conflicts_with = "wait")]
    follow: bool,
    /// Block until something new that matches arrives, at most so long (124 if nothing does)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent bus poll --type ANSWER --wait 10m")]
pub(crate) struct PollArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// How long at most, such as 10m (124 if nothing comes) [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
}

impl ReadArgs {
    /// How many messages are shown at first. With --wait and nothing else only news count.
    fn tail(&self) -> usize {
        self.which.tail.unwrap_or(if self.wait.is_some() { 0 } else { TAIL })
    }
}

impl PollArgs {
    pub(super) fn polling(&self) -> ReadArgs {
        ReadArgs { which: self.which.clone(), follow: false, wait: Some(self.wait.unwrap_or(POLL)) }
    }
}

impl FollowArgs {
    pub(super) fn following(&self) -> ReadArgs {
        ReadArgs { which: self.which.clone(), follow: true, wait: None }
    }
}

pub(super) fn run(global: &Global, args: &ReadArgs) -> Outcome {
    let filter = Filter::new(&args.which.filter)?;
    let since = args.which.since.as_deref().map(MsgId::parse).transpose()?;
    if let Some(client) = Client::of(global, &args.which.server)? {
        return there::run(global, &client, args, filter, since);
    }
    let context = Context::open(global)?;
    let key = context.stream()?;
    let notes = filter.notes();
    let full = args.which.full.then_some(&context.tree);
    let printer = Printer::new(context.json, key.clone(), filter, full);
    let (mut reader, first) = match since {
        Some(id) => {
            let mut reader = Reader::open(&context, &key, From::After(id))?;
            let first = reader.rest(&printer)?;
            (reader, first)
        }
        None => {
            let reader = Reader::open(&context, &key, From::End)?;
            let first = reader.history(&printer, args.tail())?;
            (reader, first)
        }
    };
    if first == 0 {
        notes.iter().for_each(|note| render::say(note));
    }
    if args.follow {
        let _blocked = context.blocks();
        return reader.go_on(&printer);
    }
    match args.wait {
        Some(limit) if first == 0 => {
            let _blocked = context.blocks();
            reader.wait(&printer, limit)
        }
        Some(_) | None => Ok(Exit::Done),
    }
}

/// A place in a stream that outlives the stream's file.
struct Reader<'a> {
    context: &'a Context,
    follow: Follow,
}

impl<'a> Reader<'a> {
    fn open(context: &'a Context, key: &StreamKey, from: From) -> Result<Self, Failure> {
        let follow = Follow::open(context.tree.store.clone(), key, from)?;
        Ok(Self { context, follow })
    }

    /// The last `count` that match of what stands before this reader's place.
    fn history(&self, printer: &Printer<'_>, count: usize) -> Result<usize, Failure> {
        let (stream, end) = (self.follow.stream(), self.follow.cursor());
        let mut from = window::last_matching(&**stream, count, end, &mut |message| {
            printer.is_unfiltered() || printer.matches(message)
        })?;
        let mut shown = 0;
        while from < end {
            let page = stream.read(from, window::PAGE)?;
            if page.next == from {
                break;
            }
            from = page.next;
            shown += printer.page(&page, Some(end))?;
        }
        Ok(shown)
    }

    /// Everything from this reader's place to the end.
    fn rest(&mut self, printer: &Printer<'_>) -> Result<usize, Failure> {
        let mut shown = 0;
        loop {
            let page = self.follow.ready()?;
            if page.is_empty() {
                return Ok(shown);
            }
            shown += printer.page(&page, None)?;
        }
    }

    fn go_on(&mut self, printer: &Printer<'_>) -> Outcome {
        loop {
            // News are told by the file system; only the reader's end has to be looked for.
            let page = self.next(LOOK_AGAIN)?;
            printer.page(&page, None)?;
            reader::still_there()?;
        }
    }

    fn wait(&mut self, printer: &Printer<'_>, limit: Duration) -> Outcome {
        let began = Instant::now();
        let wake = Wake::new();
        wake.on_interrupt().map_err(|e| Failure::io("cannot listen for signals", &e))?;
        loop {
            let left = limit.saturating_sub(began.elapsed());
            let page = self.next(left.min(LOOK_AGAIN))?;
            if printer.page(&page, None)? > 0 {
                return Ok(Exit::Done);
            }
            reader::still_there()?;
            if wake.interrupted() {
                return Ok(Exit::Interrupted);
            }
            if left.is_zero() {
                return Ok(nothing_new());
            }
        }
    }

    /// The next page, and a word when the stream that it comes from is another one than the last page's.
    fn next(&mut self, timeout: Duration) -> Result<Page, Failure> {
        let before = self.follow.incarnation();
        match self.follow.wait(timeout) {
            Ok(page) => {
                let now = self.follow.incarnation();
                if before != 0 && now != before {
                    tell_of_replacement(self.context.json, self.follow.stream().key())?;
                }
                Ok(page)
            }
            Err(FollowError::Read(ReadError::UnknownId { key, id })) => Err(lost(&key, id.as_str())),
            Err(error) => Err(error.into()),
        }
    }
}

/// What was read is not there any more.
fn lost(key: &StreamKey, last: &str) -> Failure {
    Failure::not_found(format!(
        "the stream of {key} was replaced by one that does not hold {last}, the last message that was read; see what it holds with --tail"
    ))
}

fn tell_of_replacement(json: bool, key: &StreamKey) -> Result<(), Failure> {
    render::say(&format!(
        "note: the stream of {key} was edited or replaced; reading goes on behind the last message that was read"
    ));
    if json {
        let mut out = String::new();
        show::line(&mut out, &serde_json::json!({ "replaced": { "stream": key.to_string() } }))?;
        render::out(&out)?;
    }
    Ok(())
}

fn nothing_new() -> Exit {
    render::say("nothing new that matches; call again to wait on");
    Exit::TimeLimit
}
