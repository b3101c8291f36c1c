//! `bus search`: where was that said? Stream by stream, page by page: nothing is held but what is shown.

use std::fmt::Write as _;

use clap::Args;
use regex::{Regex, RegexBuilder};
use run_agent_core::{Cursor, Kind, Message, MsgId, ProjectId, Stream, StreamKey, Timestamp, window};
use serde::Serialize;

use super::filter;
use super::show::{Shown, line, warn};
use crate::args::{Global, duration};
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render::{self, Hue, Paint};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent bus search 'connection refused' --all-projects --since 2h")]
pub(crate) struct SearchArgs {
    /// What to look for; `--` stands before what begins with `-`
    #[arg(value_name = "TEXT")]
    text: String,
    /// TEXT is a regular expression
    #[arg(long)]
    regex: bool,
    /// Upper and lower case are alike
    #[arg(long, short)]
    ignore_case: bool,
    /// Everywhere [default: the task that is meant, or the project with its tasks]
    #[arg(long)]
    all_projects: bool,
    /// Only these types; repeatable
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    kinds: Vec<String>,
    /// Only what is newer than a time, an age such as 2h, or a message
    #[arg(long, value_name = "TIME|AGE|ID")]
    since: Option<String>,
    /// Stop after so many messages; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Look into attachments too
    #[arg(long)]
    full: bool,
}

/// One message that holds the text. In JSON: the message's fields, its stream, and the lines that match.
#[derive(Debug, Serialize)]
struct Found<'a> {
    stream: String,
    lines: Vec<Line<'a>>,
    #[serde(flatten)]
    shown: &'a Shown,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    /// Counted from 1, in the body or behind it in the attachment.
    number: usize,
    text: &'a str,
}

struct Search<'a> {
    context: &'a Context,
    pattern: Regex,
    kinds: Vec<Kind>,
    since: Option<Timestamp>,
    full: bool,
    limit: usize,
    found: usize,
    paint: Paint,
}

pub(super) fn run(global: &Global, args: &SearchArgs) -> Outcome {
    if args.all_projects && (global.project.is_some() || global.task.is_some()) {
        return Err(Failure::usage("--all-projects is everywhere; leave out --project and --task"));
    }
    let pattern = if args.regex { args.text.clone() } else { regex::escape(&args.text) };
    let pattern =
        RegexBuilder::new(&pattern).case_insensitive(args.ignore_case).multi_line(true).build().map_err(
            |e| {
                Failure::usage(format!(
                    "`{}` is no regular expression: {}",
                    run_agent_core::text::head(&args.text, 100).escape_debug(),
                    one_line(&e)
                ))
            },
        )?;
    let kinds = filter::kinds(&args.kinds)?;
    let since = args.since.as_deref().map(moment).transpose()?;
    let context = Context::open(global)?;
    let streams = scope(&context, args.all_projects)?;
    let mut search = Search {
        context: &context,
        pattern,
        kinds,
        since,
        full: args.full,
        limit: if args.limit == 0 { usize::MAX } else { args.limit },
        found: 0,
        paint: Paint::stdout(),
    };
    let mut unread = 0;
    for key in &streams {
        match search.stream(key) {
            Ok(true) => {}
            Ok(false) => {
                let found = render::count(search.limit as u64, "message");
                render::say(&format!("stopped after {found}; --limit 0 shows all"));
                return Ok(Exit::Done);
            }
            // One task that is deleted or cannot be read hides no other.
            Err(failure) if streams.len() > 1 && failure.exit() != Exit::Done => {
                render::say(&format!("warning: {failure}"));
                unread += 1;
            }
            Err(failure) => return Err(failure),
        }
    }
    if search.found == 0 {
        render::say(&format!("nothing matches in {}", render::count(streams.len() as u64, "stream")));
    }
    Ok(if unread > 0 { Exit::Failed } else { Exit::Done })
}

/// The streams that are searched: a project stands for itself and all its tasks.
fn scope(context: &Context, everywhere: bool) -> Result<Vec<StreamKey>, Failure> {
    if !everywhere {
        let key = context.stream().map_err(|failure| {
            let no_scope = failure.exit() == Exit::Usage;
            if no_scope { failure.and("--all-projects searches everywhere") } else { failure }
        })?;
        return match key.task {
            Some(_) => Ok(vec![key]),
            None => of_project(context, &key.project),
        };
    }
    let root = context.tree.layout.root();
    let mut streams = Vec::new();
    for project in context.tree.projects().map_err(|e| Failure::io(root.display(), &e))? {
        streams.extend(of_project(context, &project)?);
    }
    Ok(streams)
}

/// A project's stream and those of its tasks.
pub(crate) fn of_project(context: &Context, project: &ProjectId) -> Result<Vec<StreamKey>, Failure> {
    let tasks = match context.tree.tasks(project) {
        Ok(tasks) => tasks,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::not_found(format!("no project `{project}`")));
        }
        Err(error) => {
            let folder = context.tree.layout.project(project);
            return Err(Failure::io(format!("cannot read the project folder {}", folder.display()), &error));
        }
    };
    let of_tasks = tasks.into_iter().map(|task| StreamKey::task(project.clone(), task));
    Ok(std::iter::once(StreamKey::project(project.clone())).chain(of_tasks).collect())
}

/// A time, how long ago, or the moment of a message.
fn moment(text: &str) -> Result<Timestamp, Failure> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    if let Ok(ago) = duration(text) {
        return Ok(Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::MIN));
    }
    // Ids of one moment and process differ in their counter, which no other stream knows: the moment itself is over.
    let next = |time: Timestamp| time.checked_add(std::time::Duration::from_nanos(1)).unwrap_or(time);
    MsgId::parse(text).ok().and_then(|id| id.time()).map(next).ok_or_else(|| {
        Failure::usage(format!(
            "--since {}: give a time such as 2026-11-21T09:30:00Z, how long ago such as 2h, or a message's id",
            render::value(text)
        ))
    })
}

impl Search<'_> {
    /// False when the limit is reached.
    fn stream(&mut self, key: &StreamKey) -> Result<bool, Failure> {
        let stream = self.context.tree.store.open(key)?;
        let mut from = match self.since {
            Some(time) => window::since(&*stream, time)?,
            None => Cursor::START,
        };
        // What is appended meanwhile is not waited for: the search ends.
        let end = stream.end()?;
        while from < end {
            let (next, go_on) = self.page(&*stream, from)?;
            if !go_on || next == from {
                return Ok(go_on);
            }
            from = next;
        }
        Ok(true)
    }

    fn page(&mut self, stream: &dyn Stream, from: Cursor) -> Result<(Cursor, bool), Failure> {
        let page = stream.read(from, window::PAGE)?;
        page.damage.iter().for_each(warn);
        let mut out = String::new();
        for entry in page.entries {
            let message = entry.message;
            let wanted = (self.kinds.is_empty() || self.kinds.contains(&message.content.kind))
                && self.since.is_none_or(|since| message.ts >= since);
            if !wanted || !self.look_at(stream.key(), message, &mut out)? {
                continue;
            }
            self.found += 1;
            if self.found >= self.limit {
                render::out(&out)?;
                return Ok((page.next, false));
            }
        }
        if !out.is_empty() {
            render::out(&out)?;
        }
        Ok((page.next, true))
    }

    fn look_at(&self, key: &StreamKey, message: Message, out: &mut String) -> Result<bool, Failure> {
        let shown = Shown::new(self.full.then_some(&self.context.tree), key, message);
        let lines: Vec<Line<'_>> = shown
            .texts()
            .flat_map(str::lines)
            .enumerate()
            .filter(|(_, text)| self.pattern.is_match(text))
            .map(|(at, text)| Line { number: at + 1, text })
            .collect();
        if lines.is_empty() {
            return Ok(false);
        }
        if self.context.json {
            line(out, &Found { stream: key.to_string(), lines, shown: &shown })?;
            return Ok(true);
        }
        let message = &shown.message;
        let _ = writeln!(
            out,
            "{key}  {}  {} {}",
            message.ts.strftime("%Y-%m-%d %H:%M:%S"),
            message.content.kind,
            message.id
        );
        for Line { number, text } in lines {
            let _ = writeln!(out, "    {number}: {}", self.highlighted(text));
        }
        Ok(true)
    }

    /// The line, cut to what fits around its first match, safe for a terminal, with what matches set off.
    fn highlighted(&self, text: &str) -> String {
        let first = self.pattern.find(text).map_or(0, |found| found.start());
        let text = around(text, first);
        let mut out = String::new();
        let mut at = 0;
        for found in self.pattern.find_iter(text).filter(|found| !found.is_empty() && self.paint.is_on()) {
            out.push_str(&render::safe(&text[at..found.start()]));
            out.push_str(&self.paint.hue(Hue::Bad, &render::safe(found.as_str())));
            at = found.end();
        }
        out.push_str(&render::safe(&text[at..]));
        out
    }
}

/// At most so many bytes of a line are shown.
const SHOWN_MAX: usize = 400;

fn around(text: &str, at: usize) -> &str {
    let mut from = if text.len() <= SHOWN_MAX { 0 } else { at.saturating_sub(SHOWN_MAX / 4) };
    while !text.is_char_boundary(from) {
        from -= 1;
    }
    run_agent_core::text::head(&text[from..], SHOWN_MAX)
}

/// The reason alone: the crate draws the expression over several lines.
fn one_line(error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(_) = error {
        return "it would grow too large; repeat less in it".to_owned();
    }
    let text = error.to_string();
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_an_age_or_a_message() {
        assert_eq!(
            moment("2026-11-21T09:30:00Z").unwrap().as_second(),
            moment("MSG-20261121-093000-000000000-PID00001-0001").unwrap().as_second()
        );
        assert!(moment("2h").unwrap() < moment("1h").unwrap());
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn a_long_line_is_cut_around_what_matches() {
        let text = format!("{}needle{}", "é".repeat(1000), "x".repeat(1000));
        let cut = around(&text, 2000);
        assert!(cut.contains("needle") && cut.len() <= SHOWN_MAX, "{cut}");
        assert_eq!(around("short", 3), "short");
    }
}
