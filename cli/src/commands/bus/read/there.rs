//! The same of a stream on another machine: what is there comes as pages, what comes as events.

use std::time::{Duration, Instant};

use run_agent_core::store::Page;
use run_agent_core::{Cursor, Entry, Message, MsgId, StreamKey};
use run_agent_runner::wake::LOOK_AGAIN;

use super::super::filter::Filter;
use super::super::show::Printer;
use super::{ReadArgs, lost, nothing_new, tell_of_replacement};
use crate::args::Global;
use crate::client::answer::{Messages, StreamError};
use crate::client::events::{Events, Next};
use crate::client::{Client, Place};
use crate::commands::reader;
use crate::error::{Exit, Failure, Outcome};
use crate::render;

/// As many messages as the server gives at once.
const PAGE: usize = 5000;

pub(super) fn run(
    global: &Global,
    client: &Client,
    args: &ReadArgs,
    filter: Filter,
    since: Option<MsgId>,
) -> Outcome {
    if args.which.full {
        return Err(Failure::usage(
            "--full reads attachments, which lie on the other machine; leave it out, or call it there",
        ));
    }
    let key = client.stream()?;
    let notes = filter.notes();
    let asked = filter.asked(Place::of_stream(&key, &["messages"]));
    let printer = Printer::new(global.json, key.clone(), filter, None);
    let (last, first) = match since {
        Some(id) => rest(client, &asked, id, &printer)?,
        None => {
            let count = args.tail();
            if count > PAGE {
                render::say(&format!("note: the server shows the last {PAGE} at the most"));
            }
            let found: Messages = client.get(&asked.with("limit", count))?;
            (found.last.clone(), printer.page(&found.into_page(), None)?)
        }
    };
    if first == 0 {
        notes.iter().for_each(|note| render::say(note));
    }
    let limit = match args.wait {
        None if args.follow => None,
        Some(limit) if first == 0 => Some(limit),
        Some(_) | None => return Ok(Exit::Done),
    };
    let _blocked = client.blocks();
    go_on(client, &key, &printer, last, limit)
}

/// Everything behind a message; and the last that there is.
fn rest(
    client: &Client,
    asked: &Place,
    since: MsgId,
    printer: &Printer<'_>,
) -> Result<(Option<MsgId>, usize), Failure> {
    let (mut last, mut shown) = (since, 0);
    loop {
        let found: Messages = client.get(&asked.clone().with("since", &last).with("limit", PAGE))?;
        let (newest, has_more) = (found.last.clone(), found.has_more);
        shown += printer.page(&found.into_page(), None)?;
        match newest {
            Some(newest) if has_more && newest != last => last = newest,
            newest => return Ok((Some(newest.unwrap_or(last)), shown)),
        }
    }
}

/// What comes behind a message. With a limit only up to the first that matches.
fn go_on(
    client: &Client,
    key: &StreamKey,
    printer: &Printer<'_>,
    last: Option<MsgId>,
    limit: Option<Duration>,
) -> Outcome {
    if limit.is_some() {
        client.on_interrupt()?;
    }
    let began = Instant::now();
    let last = last.map(|id| id.to_string());
    let mut events = Events::new(client, Place::of_stream(key, &["messages", "stream"]), last);
    let mut is_first = false;
    loop {
        let left = limit.map_or(LOOK_AGAIN, |limit| limit.saturating_sub(began.elapsed()));
        match events.next(left.min(LOOK_AGAIN))? {
            Next::Opened => is_first = true,
            Next::Event(event) => {
                let (is_first, last) = (std::mem::take(&mut is_first), events.last());
                match (event.name.as_str(), last) {
                    ("message", _) => {
                        let shown = printer.page(&page_of(client.event(&event.data)?), None)?;
                        if limit.is_some() && shown > 0 {
                            return Ok(Exit::Done);
                        }
                    }
                    ("reset", Some(last)) if is_first => return Err(lost(key, last)),
                    ("reset", _) => tell_of_replacement(printer.json, key)?,
                    ("done", _) => return Err(Failure::not_found(format!("{key} was deleted"))),
                    ("error", _) => return Err(client.event::<StreamError>(&event.data)?.failure(key)),
                    // One that a newer server tells.
                    _ => {}
                }
            }
            Next::TimeUp => {}
            Next::Interrupted => return Ok(Exit::Interrupted),
        }
        reader::still_there()?;
        if limit.is_some() && left.is_zero() {
            return Ok(nothing_new());
        }
    }
}

fn page_of(message: Message) -> Page {
    let (at, next) = (Cursor::START, Cursor::new(1));
    Page { entries: vec![Entry { at, next, message }], damage: Vec::new(), next }
}
