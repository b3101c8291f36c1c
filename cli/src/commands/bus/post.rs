//! `bus post`: one message, or a stream of them.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use run_agent_core::{Draft, Durability, Kind, Link, Message, MsgId, Parent, Stream, decide};
use run_agent_runner::attach;

use super::{answer, fields, ndjson};
use crate::args::{Global, ServerArgs};
use crate::client::answer::Posted;
use crate::client::{Client, Place};
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::{find, render};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent bus post --type PROGRESS --body 'half of the tests pass'")]
pub(crate) struct PostArgs {
    /// FACT PROGRESS DECISION REVIEW QUESTION ANSWER USER ERROR WARNING INFO OBSERVATION ISSUE, or a word of your own
    #[arg(long = "type", value_name = "TYPE", default_value = "INFO")]
    kind: String,
    /// The text [default: stdin]; above 64 KiB it is attached
    #[arg(
        long,
        visible_alias = "message",
        value_name = "TEXT",
        conflicts_with = "file",
        allow_hyphen_values = true
    )]
    body: Option<String>,
    /// A file with the text; `-` reads stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A file of any kind to go with the message; its name is the text where none is given
    #[arg(long, value_name = "FILE")]
    attach: Option<PathBuf>,
    /// A message that this one answers, supersedes or follows; repeatable
    #[arg(long = "parent", value_name = "ID[:KIND]")]
    parents: Vec<String>,
    /// Several parents at once
    #[arg(long = "parents", value_name = "ID,ID", value_delimiter = ',')]
    parent_list: Vec<String>,
    /// A question that holds the loop until it is answered
    #[arg(long)]
    blocking: bool,
    /// A link; repeatable
    #[arg(long = "link", value_name = "URL", allow_hyphen_values = true)]
    links: Vec<String>,
    /// A field of your own; repeatable
    #[arg(long = "meta", value_name = "KEY=VALUE", allow_hyphen_values = true)]
    meta: Vec<String>,
    /// What the message survives: none, interval or always [default: storage.durability]
    #[arg(long, value_name = "WHICH", value_parser = durability)]
    durability: Option<Durability>,
    /// A message for each line of stdin (type, body, parents, links, meta, issue_id, attach), an id a line back
    #[arg(long, conflicts_with_all = ["body", "file", "attach", "parents", "parent_list", "blocking", "links", "meta"])]
    stdin_ndjson: bool,
    /// Go on behind a line that is refused; its id is an empty line, the exit code 2
    #[arg(long = "continue", requires = "stdin_ndjson")]
    go_on: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(global: &Global, args: &PostArgs) -> Outcome {
    // What can be known to be wrong is, before a root is made.
    let kind = Kind::parse(&args.kind)?;
    decide::may_post(&kind)?;
    let (links, meta) = (links(args)?, meta(args)?);
    if let Some(client) = Client::of(global, &args.server)? {
        return there(global, &client, args, &kind, &links, meta);
    }
    let context = Context::open_or_make(global)?;
    context.caller()?;
    let durability = args.durability.unwrap_or(context.tree.durability);
    if args.stdin_ndjson {
        return ndjson::run(&context, kind, durability, args.go_on);
    }
    let key = context.stream()?;
    let stream = context.tree.store.open(&key)?;
    let mut draft = Draft::new(kind, key.project.clone(), key.task.clone(), body(args)?);
    draft.run = context.run_for(&key);
    draft.parents = parents(args)?;
    draft.links = links;
    draft.meta = meta;
    if args.blocking {
        draft.meta.insert("blocking".to_owned(), "true".to_owned());
    }
    if let Some(source) = &args.attach {
        attach::file(&context.tree, &key, &mut draft, source, durability)?;
    }
    let message = append(&context, stream.as_ref(), draft, durability)?;
    let (msg_id, timestamp) = (message.id, message.ts);
    let attachment_path = message.content.attachment_path;
    told(context.json, &message.content.kind, Posted { msg_id, timestamp, attachment_path })
}

fn told(json: bool, kind: &Kind, posted: Posted) -> Outcome {
    if let Some(note) = find::note_on_type(kind) {
        render::say(&note);
    }
    if json {
        render::json(&posted)?;
    } else {
        render::out(&format!("{}\n", posted.msg_id))?;
    }
    Ok(Exit::Done)
}

fn there(
    global: &Global,
    client: &Client,
    args: &PostArgs,
    kind: &Kind,
    links: &[Link],
    meta: BTreeMap<String, String>,
) -> Outcome {
    let refused = [
        (args.attach.is_some(), "--attach", "files do not go over yet"),
        (args.stdin_ndjson, "--stdin-ndjson", "messages go over one by one"),
        (args.durability.is_some(), "--durability", "the server's own storage.durability holds there"),
    ];
    if let Some((_, flag, why)) = refused.into_iter().find(|(given, ..)| *given) {
        return Err(Failure::usage(format!("{flag} has no meaning with --server: {why}; leave it out")));
    }
    let key = client.stream()?;
    let body = serde_json::json!({
        "type": kind, "body": body(args)?, "parents": parents(args)?, "links": links, "meta": meta,
        "blocking": args.blocking,
    });
    told(global.json, kind, client.post(&Place::of_stream(&key, &["messages"]), &body)?)
}

/// Appends one message, with a body of any size, and prints what is to be said about an answer that answers nothing.
pub(super) fn append(
    context: &Context,
    stream: &dyn Stream,
    mut draft: Draft,
    durability: Durability,
) -> Result<Message, Failure> {
    let key = stream.key();
    attach::fit(&context.tree, key, &mut draft, durability)?;
    let message = stream.append(vec![draft], durability)?.remove(0).message;
    if message.content.kind == Kind::ANSWER {
        answer::warn_of(context, key, stream, &message);
    }
    Ok(message)
}

fn links(args: &PostArgs) -> Result<Vec<Link>, Failure> {
    let link = |url: &String| {
        fields::url(url)?;
        Ok(Link { url: url.clone(), label: None, kind: None })
    };
    args.links.iter().map(link).collect()
}

fn meta(args: &PostArgs) -> Result<BTreeMap<String, String>, Failure> {
    let field = |field: &String| {
        let (name, value) = field.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--meta {}: write it as key=value", render::value(field)))
        })?;
        fields::name(name)?;
        Ok((name.to_owned(), value.to_owned()))
    };
    args.meta.iter().map(field).collect()
}

fn parents(args: &PostArgs) -> Result<Vec<Parent>, Failure> {
    let mut parents = Vec::new();
    for parent in &args.parents {
        // An id holds no colon, so the first one begins the kind.
        let (id, kind) =
            parent.split_once(':').map_or((parent.as_str(), None), |(id, kind)| (id, Some(kind)));
        parents.push(Parent::new(MsgId::parse(id)?, kind));
    }
    for parent in &args.parent_list {
        parents.push(Parent::new(MsgId::parse(parent)?, None));
    }
    Ok(parents)
}

pub(super) fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "none" => Ok(Durability::None),
        "interval" => Ok(Durability::Interval),
        "always" => Ok(Durability::Always),
        _ => Err("it is none, interval or always".to_owned()),
    }
}

fn body(args: &PostArgs) -> Result<String, Failure> {
    // Beside an attachment stdin is not asked for text: it may be a pipe that nobody writes to.
    if args.attach.is_some() && args.body.is_none() && args.file.is_none() {
        return Ok(String::new());
    }
    given(args.body.as_deref(), args.file.as_deref(), "--body")
}

/// The text of a message: said, in a file, or on stdin. `flag` is how it is said.
pub(super) fn given(said: Option<&str>, file: Option<&Path>, flag: &str) -> Result<String, Failure> {
    if let Some(text) = said {
        return Ok(text.to_owned());
    }
    if let Some(path) = file.filter(|path| path.as_os_str() != "-") {
        let file = std::fs::File::open(path)
            .map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))?;
        return text(file, &path.display().to_string(), path);
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::usage(format!(
            "nothing to post; give the text with {flag}, --file or on stdin"
        )));
    }
    match text(stdin.lock(), "stdin", Path::new("FILE"))? {
        text if text.is_empty() => Err(Failure::usage(format!(
            "nothing to post: stdin is empty; give the text with {flag} or --file"
        ))),
        text => Ok(text),
    }
}

/// Reads text up to the largest that is posted as one.
fn text(from: impl Read, what: &str, attach: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    from.take(attach::TEXT_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::usage(format!("cannot read {what}: {e}")))?;
    let hint = format!("post it as it is with --attach {}", attach.display());
    if bytes.len() as u64 > attach::TEXT_MAX {
        let max = attach::TEXT_MAX;
        return Err(Failure::usage(format!("{what} has more than {max} bytes of text; {hint}")));
    }
    String::from_utf8(bytes).map_err(|e| Failure::usage(format!("{what} is not UTF-8 text ({e}); {hint}")))
}
