//! `inbox answer`: an ANSWER with the question as its parent, in the stream where the question stands.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::Args;
use clap_complete::{ArgValueCompleter as Complete, CompletionCandidate as Candidate};
use run_agent_core::store::ReadError;
use run_agent_core::{Cursor, Draft, Kind, Message, MsgId, Parent, StreamKey};

use super::item::{self, Item};
use super::show::short;
use crate::args::Global;
use crate::commands::{bus, completion};
use crate::context::Context;
use crate::error::{Code, Exit, Failure, Outcome};
use crate::{find, render};

#[derive(Debug, Args)]
#[command(after_help = "A text that begins with `-` stands behind `--`, and behind all flags.\n\n\
        Example:\n  run-agent inbox answer PID67946-0001 'yes, drop it'")]
pub(crate) struct AnswerArgs {
    /// The question's id, or a unique beginning or end of it
    #[arg(value_name = "ID", add = Complete::new(ids))]
    id: String,
    /// The answer [default: stdin]; above 64 KiB it is attached
    #[arg(value_name = "TEXT", conflicts_with = "file")]
    text: Option<String>,
    /// A file with the answer; `-` reads stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

fn ids(current: &OsStr) -> Vec<Candidate> {
    completion::context().map(|context| super::questions(&context, current)).unwrap_or_default()
}

pub(crate) fn run(global: &Global, args: &AnswerArgs) -> Outcome {
    let context = Context::open(global)?;
    context.caller()?;
    let (key, question) = question(&context, &args.id)?;
    let text = bus::text(args.text.as_deref(), args.file.as_deref(), "TEXT")?;
    if text.trim().is_empty() {
        return Err(Failure::usage("the answer is empty"));
    }
    let mut draft = Draft::new(Kind::ANSWER, key.project.clone(), key.task.clone(), text);
    draft.run = context.run_for(&key);
    draft.parents = vec![Parent::new(question.clone(), Some("answers"))];
    let Some(message) = bus::answer(&context, &key, &question, draft)? else {
        return Err(not_open(&context, question.as_str(), &item::all(&context)?.items)?);
    };
    if context.json {
        render::json(&serde_json::json!({
            "msg_id": message.id, "timestamp": message.ts, "question_id": question,
            "project_id": key.project, "task_id": key.task, "attachment_path": message.content.attachment_path,
        }))?;
    } else {
        render::out(&format!("{}\n", message.id))?;
    }
    Ok(Exit::Done)
}

/// The open question that is meant, and the stream in which it stands.
fn question(context: &Context, text: &str) -> Result<(StreamKey, MsgId), Failure> {
    let items = item::all(context)?.items;
    let open: Vec<(&Item, &MsgId)> = items.iter().filter_map(|item| Some((item, item.question()?))).collect();
    let is_it = |id: &MsgId| id.as_str() == text;
    let fits = |id: &MsgId| id.as_str().starts_with(text) || id.as_str().ends_with(text);
    let exact: Vec<_> = open.iter().filter(|(_, id)| is_it(id)).collect();
    let found = if exact.is_empty() && !text.is_empty() {
        open.iter().filter(|(_, id)| fits(id)).collect()
    } else {
        exact
    };
    match found.as_slice() {
        [(item, id)] => Ok((key_of(item), (*id).clone())),
        [] => Err(not_open(context, text, &items)?),
        several => Err(Failure::usage(format!("`{}` fits several open questions", render::value(text)))
            .code(Code::AmbiguousName)
            .hint(format!("give one of them in full: {}", offer(&items, |id| fits(id))))
            .candidates(several.iter().map(|(_, id)| id.to_string()))),
    }
}

fn key_of(item: &Item) -> StreamKey {
    StreamKey { project: item.project.clone(), task: item.task.clone() }
}

/// The most questions that an error names.
const NAMED_MAX: usize = 5;

/// Open questions, as an error offers them.
fn offer(items: &[Item], wanted: impl Fn(&MsgId) -> bool) -> String {
    let ids: Vec<&MsgId> = items.iter().filter_map(Item::question).filter(|id| wanted(id)).collect();
    let mut names: Vec<&str> = ids.iter().take(NAMED_MAX).map(|id| short(id.as_str(), items)).collect();
    if ids.len() > NAMED_MAX {
        names.push("…");
    }
    names.join(", ")
}

/// Why it is no open question, and which there are.
fn not_open(context: &Context, text: &str, items: &[Item]) -> Result<Failure, Failure> {
    let hint = match offer(items, |_| true) {
        none if none.is_empty() => "no question is open".to_owned(),
        open => format!("open are {open}"),
    };
    let known = MsgId::parse(text).ok().map(|id| find_message(context, &id)).transpose()?.flatten();
    let Some((key, message)) = known else {
        let root = context.tree.layout.root().display();
        let failure = Failure::not_found(format!("no open question `{}` in {root}", render::value(text)));
        return Ok(failure.code(Code::UnknownMessage).hint(hint));
    };
    let id = &message.id;
    if message.content.kind != Kind::QUESTION {
        let kind = &message.content.kind;
        return Ok(Failure::usage(format!("{id} is no question: it is of type {kind}, in {key}")).hint(hint));
    }
    let more = format!(
        "say more with {}",
        render::command(&format!("bus post{} --type ANSWER --parent {id}", flags(&key)))
    );
    Ok(Failure::new(Exit::Failed, format!("question {id} was answered already, in {key}"))
        .code(Code::Refused)
        .hint(format!("{more}; {hint}")))
}

/// The flags that name a stream.
fn flags(key: &StreamKey) -> String {
    let task = key.task.as_ref().map(|task| format!(" --task {task}")).unwrap_or_default();
    format!(" --project {}{task}", key.project)
}

/// A message by its id, wherever it stands: asked only when it is no open question.
fn find_message(context: &Context, id: &MsgId) -> Result<Option<(StreamKey, Message)>, Failure> {
    let tree = &context.tree;
    let named = context.named_project()?;
    let projects = tree.projects().map_err(|e| Failure::io(tree.layout.root().display(), &e))?;
    let wanted = |project: &_| named.as_ref().is_none_or(|named| named == project);
    let own = projects.into_iter().filter(|project| wanted(project)).map(StreamKey::project);
    let tasks = find::every_task(tree)?.into_iter().filter(|name| wanted(&name.project));
    for key in own.chain(tasks.map(|name| name.key())) {
        let Ok(stream) = tree.store.open(&key) else { continue };
        match stream.find(id) {
            Ok(behind) => return Ok(before(stream.as_ref(), behind, id)?.map(|message| (key, message))),
            Err(ReadError::UnknownId { .. }) => {}
            Err(error) => tracing::debug!(%key, %error, "not searched"),
        }
    }
    Ok(None)
}

/// The entry before a place. Ids of one stream increase, and so does the time in them: few stand behind.
fn before(
    stream: &dyn run_agent_core::Stream,
    behind: Cursor,
    id: &MsgId,
) -> Result<Option<Message>, Failure> {
    let mut count = 64;
    loop {
        let page = stream.last(count)?;
        let whole = page.entries.len() < count;
        if let Some(entry) = page.entries.into_iter().find(|entry| entry.message.id == *id) {
            return Ok(Some(entry.message));
        }
        // An entry that cannot be read any more.
        if whole || page.next < behind {
            return Ok(None);
        }
        count *= 8;
    }
}
