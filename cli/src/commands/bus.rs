//! `bus`: post, read, follow.

use std::time::{Duration, Instant};

use run_agent_core::decide;
use run_agent_core::follow::{Follow, From};
use run_agent_core::message::BODY_MAX;
use run_agent_core::store::Page;
use run_agent_core::{Draft, Entry, Kind, Link, MsgId, Parent, RunId, StreamKey};
use run_agent_runner::wake::{LOOK_AGAIN, Wake};

use super::prompt;
use crate::args::{BusArgs, BusCommand, FilterArgs, Global, PostArgs, ReadArgs};
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::{find, render};

/// How many messages `read` shows when nothing else is said.
const TAIL: usize = 20;

pub(crate) fn run(global: &Global, args: &BusArgs) -> Outcome {
    match &args.command {
        BusCommand::Post(args) => post(global, args),
        BusCommand::Read(args) => read(global, args),
        BusCommand::Follow(args) => {
            let args = ReadArgs { filter: args.filter.clone(), follow: true, wait: None };
            read(global, &args)
        }
    }
}

fn post(global: &Global, args: &PostArgs) -> Outcome {
    // What can be known to be wrong is, before a root is made.
    let kind = Kind::parse(&args.kind)?;
    decide::may_post(&kind)?;
    let context = Context::open(global)?;
    context.caller()?;
    let key = context.stream()?;
    let mut draft = Draft::new(kind, key.project.clone(), key.task.clone(), body(args)?);
    draft.run = context.run_for(&key);
    for parent in &args.parents {
        // An id holds no colon, so the first one begins the kind.
        let (id, kind) =
            parent.split_once(':').map_or((parent.as_str(), None), |(id, kind)| (id, Some(kind)));
        draft.parents.push(Parent::new(MsgId::parse(id)?, kind));
    }
    for parent in &args.parent_list {
        draft.parents.push(Parent::new(MsgId::parse(parent)?, None));
    }
    draft.links = args.links.iter().map(|url| Link { url: url.clone(), label: None, kind: None }).collect();
    for field in &args.meta {
        let (name, value) = field
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--meta {field}: write it as key=value")))?;
        draft.meta.insert(name.to_owned(), value.to_owned());
    }
    if args.blocking {
        draft.meta.insert("blocking".to_owned(), "true".to_owned());
    }
    let stream = context.tree.store.open(&key)?;
    let entry = stream.append(vec![draft], context.tree.durability)?.remove(0);
    let message = entry.message;
    if let Some(note) = find::note_on_type(&message.content.kind) {
        render::say(&note);
    }
    if context.json {
        render::json(&serde_json::json!({ "msg_id": message.id, "timestamp": message.ts }))?;
    } else {
        render::out(&format!("{}\n", message.id))?;
    }
    Ok(Exit::Done)
}

fn body(args: &PostArgs) -> Result<String, Failure> {
    use std::io::IsTerminal;
    if let Some(text) = &args.body {
        return Ok(text.clone());
    }
    if let Some(path) = &args.file {
        let bytes = std::fs::read(path)
            .map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))?;
        return String::from_utf8(bytes)
            .map_err(|e| Failure::usage(format!("{} is not UTF-8 text: {e}", path.display())));
    }
    if std::io::stdin().is_terminal() {
        return Err(Failure::usage("nothing to post; give the text with --body, --file or on stdin"));
    }
    // A character that the limit cuts in two must not be taken for one that is no text.
    match prompt::stdin_up_to(BODY_MAX as u64 * 2)? {
        text if text.is_empty() => {
            Err(Failure::usage("nothing to post: stdin is empty; give the text with --body or --file"))
        }
        text => Ok(text),
    }
}

/// Which messages are wanted.
struct Filter {
    kinds: Vec<Kind>,
    run: Option<RunId>,
    text: Option<String>,
}

impl Filter {
    fn new(args: &FilterArgs) -> Result<Self, Failure> {
        Ok(Self {
            kinds: args.kinds.iter().map(|kind| Kind::parse(kind)).collect::<Result<_, _>>()?,
            run: args.from_run.as_deref().map(RunId::parse).transpose()?,
            text: args.grep.clone(),
        })
    }

    fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.run.is_none() && self.text.is_none()
    }

    fn matches(&self, entry: &Entry) -> bool {
        let content = &entry.message.content;
        (self.kinds.is_empty() || self.kinds.contains(&content.kind))
            && (self.run.is_none() || self.run == content.run)
            && self.text.as_ref().is_none_or(|text| content.body.contains(text.as_str()))
    }
}

fn read(global: &Global, args: &ReadArgs) -> Outcome {
    let context = Context::open(global)?;
    let key = context.stream()?;
    let filter = Filter::new(&args.filter)?;
    let mut follow = open(&context, &key, &args.filter, &filter, args.wait.is_some())?;
    let first = show(&context, &filter, &mut follow, args)?;
    if args.follow {
        return go_on(&context, &filter, &mut follow);
    }
    match args.wait {
        Some(limit) if first == 0 => wait(&context, &filter, &mut follow, limit),
        _ => Ok(Exit::Done),
    }
}

/// Where reading begins. With `--wait` and no `--since` or `--tail`, behind what is there: only news count.
fn open(
    context: &Context,
    key: &StreamKey,
    args: &FilterArgs,
    filter: &Filter,
    news_only: bool,
) -> Result<Follow, Failure> {
    let store = context.tree.store.clone();
    let from = match (&args.since, args.tail) {
        (Some(id), _) => From::After(MsgId::parse(id)?),
        (None, None) if news_only => From::End,
        (None, tail) if filter.is_empty() => From::Last(tail.unwrap_or(TAIL)),
        // The last N that match may stand anywhere.
        (None, _) => From::Start,
    };
    Ok(Follow::open(store, key, from)?)
}

/// Shows what is there. Returns how many.
fn show(context: &Context, filter: &Filter, follow: &mut Follow, args: &ReadArgs) -> Result<usize, Failure> {
    let limit = match (&args.filter.since, args.filter.tail) {
        (Some(_), _) => usize::MAX,
        (None, tail) => tail.unwrap_or(TAIL),
    };
    let mut last = std::collections::VecDeque::new();
    let mut count = 0;
    loop {
        let page = follow.ready()?;
        if page.is_empty() {
            break;
        }
        warn(&page);
        for entry in page.entries.into_iter().filter(|entry| filter.matches(entry)) {
            if limit == usize::MAX {
                print(context, &entry)?;
                count += 1;
                continue;
            }
            last.push_back(entry);
            if last.len() > limit {
                last.pop_front();
            }
        }
    }
    for entry in &last {
        print(context, entry)?;
    }
    Ok(count + last.len())
}

fn go_on(context: &Context, filter: &Filter, follow: &mut Follow) -> Outcome {
    loop {
        let page = follow.wait(Duration::from_secs(3600))?;
        warn(&page);
        for entry in page.entries.iter().filter(|entry| filter.matches(entry)) {
            print(context, entry)?;
        }
    }
}

fn wait(context: &Context, filter: &Filter, follow: &mut Follow, limit: Duration) -> Outcome {
    let began = Instant::now();
    let wake = Wake::new();
    wake.on_interrupt().map_err(|e| Failure::io("cannot listen for signals", &e))?;
    loop {
        let left = limit.saturating_sub(began.elapsed());
        let page = follow.wait(left.min(LOOK_AGAIN))?;
        warn(&page);
        let mut found = false;
        for entry in page.entries.iter().filter(|entry| filter.matches(entry)) {
            print(context, entry)?;
            found = true;
        }
        if found {
            return Ok(Exit::Done);
        }
        if wake.interrupted() {
            return Ok(Exit::Interrupted);
        }
        if left.is_zero() {
            render::say("nothing new that matches; call again to wait on");
            return Ok(Exit::TimeLimit);
        }
    }
}

fn print(context: &Context, entry: &Entry) -> Result<(), Failure> {
    if context.json {
        render::json(&entry.message)
    } else {
        render::out(&render::message_text(&entry.message))
    }
}

fn warn(page: &Page) {
    for damage in &page.damage {
        render::say(&format!("warning: {}: {}; what stands around it is read", damage.place, damage.what));
    }
}
