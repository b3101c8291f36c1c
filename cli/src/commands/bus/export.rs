//! `bus export`: a whole bus, or what came since a message, as text that other programs read.

use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use run_agent_core::window::PAGE;
use run_agent_core::{Cursor, MsgId, StreamKey};
use run_agent_runner::new_file::{NewFile, folder_of};
use run_agent_store_fs::markdown;

use super::show::{Shown, warn};
use crate::args::Global;
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent bus export --task fix-login --format ndjson --out bus.ndjson")]
pub(crate) struct ExportArgs {
    /// md: entries as the fs store writes and reads them; ndjson: one message a line, as in the API
    #[arg(long, value_enum, default_value_t = Format::Md)]
    format: Format,
    /// Only what stands behind this message
    #[arg(long, value_name = "ID")]
    since: Option<String>,
    /// Write this file instead of stdout; it is replaced once the export is whole
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// With the text of attachments (ndjson)
    #[arg(long)]
    full: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Md,
    Ndjson,
}

/// What was written, and what was not.
#[derive(Debug, Default)]
struct Count {
    messages: u64,
    attachments: u64,
    damaged: u64,
}

pub(super) fn run(global: &Global, args: &ExportArgs) -> Outcome {
    if args.full && args.format == Format::Md {
        return Err(Failure::usage(
            "an entry of the markdown format has at most 64 KiB of text; --full needs --format ndjson",
        ));
    }
    let since = args.since.as_deref().map(MsgId::parse).transpose()?;
    let context = Context::open(global)?;
    let key = context.stream()?;
    let count = match &args.out {
        Some(path) => to_file(&context, &key, args, since.as_ref(), path)?,
        None => {
            let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
            let count = write(&context, &key, args, since.as_ref(), &mut out, &stdout_failed)?;
            out.flush().map_err(|e| stdout_failed(&e))?;
            count
        }
    };
    if let Some(path) = &args.out {
        let path = path.display();
        if context.json {
            render::json(&serde_json::json!({
                "messages": count.messages, "attachments": count.attachments, "damaged": count.damaged,
                "path": path.to_string(),
            }))?;
        } else {
            render::say(&format!("{} of {key} written to {path}", render::count(count.messages, "message")));
        }
    }
    if count.attachments > 0 && !args.full {
        let (folder, _) = context.tree.layout.stream(&key);
        render::say(&format!(
            "note: the files of {} are not in the export; they lie in {}",
            render::count(count.attachments, "attachment"),
            folder.display()
        ));
    }
    if count.damaged > 0 {
        render::say(&format!(
            "warning: not in the export: {}",
            render::count(count.damaged, "damaged place")
        ));
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

fn to_file(
    context: &Context,
    key: &StreamKey,
    args: &ExportArgs,
    since: Option<&MsgId>,
    path: &Path,
) -> Result<Count, Failure> {
    let failed = |error: &io::Error| Failure::io(format!("cannot write {}", path.display()), error);
    match goal(context, path)? {
        Goal::File(goal) => {
            let file = NewFile::in_folder(&folder_of(&goal), 0o666).map_err(|e| failed(&e))?;
            let mut out = BufWriter::with_capacity(1 << 16, file);
            let count = write(context, key, args, since, &mut out, &failed)?;
            let file = out.into_inner().map_err(|e| failed(e.error()))?;
            file.replace(&goal, true).map_err(|e| failed(&e))?;
            Ok(count)
        }
        Goal::Sink => {
            let sink = std::fs::OpenOptions::new().write(true).open(path).map_err(|e| failed(&e))?;
            let mut out = BufWriter::with_capacity(1 << 16, sink);
            let count = write(context, key, args, since, &mut out, &failed)?;
            out.flush().map_err(|e| failed(&e))?;
            Ok(count)
        }
    }
}

/// What `--out` names.
enum Goal {
    /// A file that is there or not, with no link on the way: it is replaced in one step.
    File(PathBuf),
    /// A device or a pipe: it is written into, since a file that took its place would break all that use it.
    Sink,
}

fn goal(context: &Context, path: &Path) -> Result<Goal, Failure> {
    let failed = |error: &io::Error| Failure::io(format!("cannot write {}", path.display()), error);
    let there = match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            return Err(Failure::usage(format!("{} is a folder; name a file in it", path.display())));
        }
        Ok(meta) if !meta.is_file() => {
            outside(context, path, path)?;
            return Ok(Goal::Sink);
        }
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed(&error)),
    };
    // A link stays one: what it leads to is replaced.
    let goal = if there {
        std::fs::canonicalize(path).map_err(|e| failed(&e))?
    } else if path.is_symlink() {
        return Err(Failure::usage(format!("{} is a link to nothing; name the file itself", path.display())));
    } else if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(Failure::usage(format!("there is no folder {}; name a file in one", path.display())));
    } else {
        let folder = std::fs::canonicalize(folder_of(path)).map_err(|e| failed(&e))?;
        folder.join(path.file_name().unwrap_or_default())
    };
    outside(context, path, &goal)?;
    Ok(Goal::File(goal))
}

/// A file's name alone may mean something inside the root, as `DONE` does: nothing is written there but by those who
/// know.
fn outside(context: &Context, path: &Path, goal: &Path) -> Result<(), Failure> {
    let whole = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if !whole(goal).starts_with(whole(context.tree.layout.root())) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{} lies inside the storage folder, which an export does not write into; name a file elsewhere",
        path.display()
    )))
}

/// A reader that went away is no error.
fn stdout_failed(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::new(Exit::Done, "");
    }
    Failure::io("cannot write to stdout", error)
}

/// Writes what stands in the stream now: what is appended meanwhile is not waited for, so the export ends.
fn write(
    context: &Context,
    key: &StreamKey,
    args: &ExportArgs,
    since: Option<&MsgId>,
    out: &mut impl Write,
    failed: &dyn Fn(&io::Error) -> Failure,
) -> Result<Count, Failure> {
    let stream = context.tree.store.open(key)?;
    let mut from = since.map_or(Ok(Cursor::START), |id| stream.find(id))?;
    let end = stream.end()?;
    let mut count = Count::default();
    let mut bytes = Vec::new();
    while from < end {
        let page = stream.read(from, PAGE)?;
        if page.next == from {
            break;
        }
        from = page.next;
        page.damage.iter().for_each(warn);
        count.damaged += page.damage.len() as u64;
        for entry in page.entries.into_iter().filter(|entry| entry.at < end) {
            count.messages += 1;
            count.attachments += u64::from(entry.message.content.attachment_path.is_some());
            bytes.clear();
            match args.format {
                Format::Md => {
                    markdown::encode(&mut bytes, &entry.message);
                }
                Format::Ndjson => {
                    let shown = Shown::new(args.full.then_some(&context.tree), key, entry.message);
                    serde_json::to_writer(&mut bytes, &shown).map_err(|e| failed(&e.into()))?;
                    bytes.push(b'\n');
                }
            }
            out.write_all(&bytes).map_err(|e| failed(&e))?;
        }
    }
    Ok(count)
}
