//! `bus discover`: which bus the other commands would use here, and what says so.

use clap::Args;
use run_agent_core::Timestamp;

use crate::args::Global;
use crate::context::{Context, variable};
use crate::error::{Exit, Outcome};
use crate::render;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent bus discover --task fix-login")]
pub(crate) struct DiscoverArgs {}

pub(super) fn run(global: &Global) -> Outcome {
    let context = Context::open(global)?;
    let (key, why) = context.stream_and_why()?;
    let layout = &context.tree.layout;
    let stream = context.tree.store.open(&key)?;
    let last = stream.last(1)?.entries.pop().map(|entry| entry.message);
    let bytes = stream.stats()?.bytes;
    let file = context.tree.store.place(&key);
    let exists = file.exists();
    let root_from = root_from(global);
    if context.json {
        render::json(&serde_json::json!({
            "project_id": key.project,
            "task_id": key.task,
            "because": why,
            "root": layout.root().to_string_lossy(),
            "root_because": root_from,
            "backend": context.backend.name(),
            "path": file.to_string_lossy(),
            "exists": exists,
            "bytes": bytes,
            "last_msg_id": last.as_ref().map(|message| &message.id),
            "last_timestamp": last.as_ref().map(|message| message.ts),
        }))?;
        return Ok(Exit::Done);
    }
    let last = match &last {
        Some(message) => format!("{} ({})", message.id, render::when(message.ts, Timestamp::now())),
        None => "no message yet; the first post makes the bus".to_owned(),
    };
    let size = if exists { format!(" ({bytes} bytes)") } else { String::new() };
    let rows = [
        ("bus", key.to_string()),
        ("because of", why.to_owned()),
        ("root", format!("{} (because of {root_from})", layout.root().display())),
        ("backend", context.backend.name().to_owned()),
        ("file", format!("{}{size}", file.display())),
        ("last", last),
    ];
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(name, value)| vec![name.to_owned(), render::safe_line(&value)]).collect();
    render::out(&render::table(&rows))?;
    Ok(Exit::Done)
}

/// What names the root, in the order in which it is looked for.
fn root_from(global: &Global) -> &'static str {
    if global.root.is_some() {
        "--root"
    } else if variable("JRUN_ROOT").is_some() {
        "JRUN_ROOT"
    } else if crate::root::root_around().is_some() {
        "the working folder"
    } else {
        "the configuration or the default"
    }
}
