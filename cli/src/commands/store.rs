//! `store verify` and `store stats`: is everything readable, and how large is it? And `store migrate`.

mod migrate;

use clap::{Args, Subcommand};
use run_agent_core::store::{Damage, Stats};
use run_agent_core::{Cursor, MsgId, Stream, StreamKey, Timestamp};
use run_agent_runner::attach;

use super::bus::of_project;
use crate::args::{Global, Verb};
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render::{self, Cell, Column};
use crate::stores::Backend;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent store verify")]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Read and check every entry (exit code 1 when damage was found)
    Verify(Verb<VerifyArgs>),
    /// How much each stream holds, and when it last grew
    Stats(Verb<StatsArgs>),
    /// Move all events to the other store, with their ids
    Migrate(Verb<migrate::MigrateArgs>),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent store verify --project swarm --deep")]
pub(crate) struct VerifyArgs {
    /// Besides, look whether every attachment is there and whole, and whether ids increase
    #[arg(long)]
    deep: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent store stats --json")]
pub(crate) struct StatsArgs {}

pub(crate) fn run(global: &Global, args: &StoreArgs) -> Outcome {
    match &args.command {
        StoreCommand::Verify(args) => verify(&Context::open(global)?, args.deep),
        StoreCommand::Stats(_) => stats(&Context::open(global)?),
        StoreCommand::Migrate(args) => migrate::run(global, args),
    }
}

/// What the flags name, and nothing that the surroundings suggest: a check of the root is meant to be one.
fn streams(context: &Context) -> Result<Vec<StreamKey>, Failure> {
    if context.task_flag().is_some() {
        return Ok(vec![context.stream()?]);
    }
    if let Some(project) = context.named_project()? {
        return of_project(context, &project);
    }
    let root = context.tree.layout.root();
    let mut streams = Vec::new();
    for project in context.tree.projects().map_err(|e| Failure::io(root.display(), &e))? {
        streams.extend(of_project(context, &project)?);
    }
    Ok(streams)
}

/// Something that is not as it should be.
#[derive(Debug)]
struct Trouble {
    stream: String,
    place: String,
    what: String,
}

impl Trouble {
    fn of(key: &StreamKey, damage: Damage) -> Self {
        Self { stream: key.to_string(), place: damage.place, what: damage.what }
    }
}

fn verify(context: &Context, deep: bool) -> Outcome {
    let streams = streams(context)?;
    let progress = render::progress("looking at the streams");
    let (mut messages, mut troubles) = (0, Vec::new());
    for (n, key) in streams.iter().enumerate() {
        progress.set(format!("looking at stream {} of {}", n + 1, streams.len()));
        // A stream that cannot be opened or read is a finding, and hides no other.
        match check(context, key, deep, &mut troubles) {
            Ok(entries) => messages += entries,
            Err(failure) => troubles.push(Trouble {
                stream: key.to_string(),
                place: context.tree.store.place(key).display().to_string(),
                what: failure.to_string(),
            }),
        }
    }
    drop(progress);
    if context.json {
        let damage: Vec<_> = troubles
            .iter()
            .map(|t| serde_json::json!({ "stream": t.stream, "place": t.place, "what": t.what }))
            .collect();
        render::json(&serde_json::json!({
            "streams": streams.len(), "messages": messages, "damage": damage,
        }))?;
    } else {
        let mut out = String::new();
        for trouble in &troubles {
            let Trouble { stream, place, what } = trouble;
            out.push_str(&format!("{stream}: {}: {}\n", render::safe_line(place), render::safe_line(what)));
        }
        let found = match troubles.len() {
            0 => "nothing is damaged".to_owned(),
            n => {
                let more = match context.backend {
                    Backend::Fs => ", and `run-agent bus edit` opens a bus to mend it",
                    Backend::Segmented => "",
                };
                format!("{}; what stands around is read{more}", render::count(n as u64, "damaged place"))
            }
        };
        out.push_str(&format!(
            "{}, {}: {found}\n",
            render::count(streams.len() as u64, "stream"),
            render::count(messages, "message")
        ));
        render::out(&out)?;
    }
    Ok(if troubles.is_empty() { Exit::Done } else { Exit::Failed })
}

fn check(
    context: &Context,
    key: &StreamKey,
    deep: bool,
    troubles: &mut Vec<Trouble>,
) -> Result<u64, Failure> {
    let stream = context.tree.store.open(key)?;
    let report = stream.verify()?;
    troubles.extend(report.damage.into_iter().map(|damage| Trouble::of(key, damage)));
    if deep {
        look_deep(context, &*stream, troubles)?;
    }
    Ok(report.entries)
}

/// What the entries say, held against each other and against the files that they name.
fn look_deep(context: &Context, stream: &dyn Stream, troubles: &mut Vec<Trouble>) -> Result<(), Failure> {
    let key = stream.key();
    let mut last: Option<MsgId> = None;
    each(stream, &mut |entry| {
        let message = &entry.message;
        let mut trouble = |what: String| {
            let place = message.id.to_string();
            troubles.push(Trouble { stream: key.to_string(), place, what });
        };
        // Ids of other writers have no order.
        if message.id.time().is_some()
            && let Some(before) = last.replace(message.id.clone()).filter(|last| *last >= message.id)
        {
            trouble(format!("its id does not come after {before}, the one before it"));
        }
        let Some(name) = &message.content.attachment_path else { return };
        let wanted = message.content.meta.get(attach::META_BYTES).and_then(|bytes| bytes.parse::<u64>().ok());
        match attach::open(&context.tree, key, name) {
            Err(why) => trouble(why),
            Ok((_, len)) => {
                if let Some(wanted) = wanted.filter(|wanted| *wanted != len) {
                    trouble(format!("attachment {name} has {len} bytes and should have {wanted}"));
                }
            }
        }
    })
}

/// Hands over every entry, page by page.
fn each(stream: &dyn Stream, see: &mut dyn FnMut(&run_agent_core::Entry)) -> Result<(), Failure> {
    let mut from = Cursor::START;
    let end = stream.end()?;
    while from < end {
        let page = stream.read(from, 1024)?;
        if page.next == from {
            break;
        }
        from = page.next;
        page.entries.iter().for_each(&mut *see);
    }
    Ok(())
}

/// What one stream comes to.
#[derive(Debug, serde::Serialize)]
struct Row {
    stream: String,
    messages: u64,
    bytes: u64,
    files: u64,
    attachments: u64,
    last_msg_id: Option<MsgId>,
    last_timestamp: Option<Timestamp>,
}

fn stats(context: &Context) -> Outcome {
    let streams = streams(context)?;
    let progress = render::progress("looking at the streams");
    let mut rows = Vec::new();
    for (n, key) in streams.iter().enumerate() {
        progress.set(format!("looking at stream {} of {}", n + 1, streams.len()));
        rows.push(row(context, key)?);
    }
    drop(progress);
    let (messages, bytes) = (sum(&rows, |row| row.messages), sum(&rows, |row| row.bytes));
    if context.json {
        render::json(&serde_json::json!({ "streams": rows, "messages": messages, "bytes": bytes }))?;
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    let mut table = Vec::new();
    for row in &rows {
        let numbers = [row.messages, row.bytes, row.files, row.attachments].map(|n| n.to_string());
        let last = row.last_timestamp.map_or_else(|| "-".to_owned(), |at| render::when(at, now));
        table.push(cells(row.stream.clone(), numbers, last));
    }
    let attachments = sum(&rows, |row| row.attachments);
    let files = sum(&rows, |row| row.files);
    let all = [messages, bytes, files, attachments].map(|n| n.to_string());
    table.push(cells(render::count(rows.len() as u64, "stream"), all, String::new()));
    render::out(&render::columns(&COLUMNS, &table))?;
    Ok(Exit::Done)
}

const COLUMNS: [Column; 6] = [
    Column::new("STREAM", 9).min(16).kept(),
    Column::new("MESSAGES", 8).right().kept(),
    Column::new("BYTES", 7).right().kept(),
    Column::new("FILES", 2).right(),
    Column::new("ATTACHMENTS", 1).right(),
    Column::new("LAST", 3),
];

fn cells(stream: String, numbers: [String; 4], last: String) -> Vec<Cell> {
    std::iter::once(stream).chain(numbers).chain([last]).map(Cell::new).collect()
}

fn sum(rows: &[Row], what: impl Fn(&Row) -> u64) -> u64 {
    rows.iter().map(what).sum()
}

fn row(context: &Context, key: &StreamKey) -> Result<Row, Failure> {
    let stream = context.tree.store.open(key)?;
    let (mut messages, mut attachments, mut last) = (0, 0, None);
    each(&*stream, &mut |entry| {
        messages += 1;
        attachments += u64::from(entry.message.content.attachment_path.is_some());
        last = Some((entry.message.id.clone(), entry.message.ts));
    })?;
    let (last_msg_id, last_timestamp) = last.unzip();
    let Stats { bytes, files, .. } = stream.stats()?;
    Ok(Row { stream: key.to_string(), messages, bytes, files, attachments, last_msg_id, last_timestamp })
}
