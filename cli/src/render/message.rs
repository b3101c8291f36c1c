//! Messages for people.

use std::io::IsTerminal;

use run_agent_core::{Message, Timestamp};

use super::{Hue, Paint, ago, cut, safe, safe_line, width, width_of_stderr};

/// The longest line of a running story where no terminal says how wide it is.
const LINE_MAX: usize = 160;

/// A message in full: a line about it, then its text, indented.
pub(crate) fn message_text(message: &Message) -> String {
    let (content, paint) = (&message.content, Paint::stdout());
    let kind = content.kind.as_str();
    let mut head = format!(
        "{} {} {}",
        paint.hue(Hue::Quiet, &moment(message.ts)),
        paint.hue(Hue::of_kind(kind), &format!("{kind:<KIND_WIDTH$}")),
        message.id
    );
    if let Some(run) = &content.run {
        head.push_str(&paint.hue(Hue::Quiet, &format!("  run {run}")));
    }
    for parent in &content.parents {
        let kind = parent.kind.as_deref().unwrap_or("parent");
        head.push_str(&paint.hue(Hue::Quiet, &format!("  {}: {}", safe(kind), parent.msg_id)));
    }
    let body = safe(&content.body);
    let body: String = body.trim_end_matches('\n').lines().map(|line| format!("    {line}\n")).collect();
    format!("{head}\n{body}")
}

/// A message as one line on stdout, below a heading: two columns are left for the indent.
pub(crate) fn event_line(message: &Message) -> String {
    let time = if std::io::stdout().is_terminal() {
        format!("{:>8}", ago(message.ts, Timestamp::now()))
    } else {
        moment(message.ts)
    };
    line(message, &time, Paint::stdout(), width().unwrap_or(LINE_MAX).saturating_sub(2))
}

/// As [`event_line`], in a story that is told again: with the times by which its moments are named.
pub(crate) fn replay_line(message: &Message) -> String {
    let terminal = std::io::stdout().is_terminal();
    let time = if terminal { message.ts.strftime("%T%.3f").to_string() } else { moment(message.ts) };
    line(message, &time, Paint::stdout(), width().unwrap_or(LINE_MAX))
}

/// A message as one line of a story that is told on stderr while it happens. `None` for what the next line says again.
pub(crate) fn story_line(message: &Message) -> Option<String> {
    // The run's start follows within milliseconds and says the same.
    if message.content.kind.as_str() == "RUN_INTENT" {
        return None;
    }
    Some(line(message, &clock(message.ts), Paint::stderr(), width_of_stderr().unwrap_or(LINE_MAX)))
}

fn line(message: &Message, time: &str, paint: Paint, width: usize) -> String {
    let content = &message.content;
    let kind = content.kind.as_str();
    // The sequence at the end tells runs of one swarm apart.
    let run = content.run.as_ref().map(|run| format!("[{}] ", short(run.as_str()))).unwrap_or_default();
    let mut text = safe_line(content.body.lines().next().unwrap_or_default());
    // What a person must act on is shown whole.
    if !matches!(kind, "ERROR" | "WARNING" | "QUESTION") {
        let before = time.len() + 1 + kind.len().max(KIND_WIDTH) + 1 + run.len();
        text = cut(&text, width.saturating_sub(before).max(TEXT_MIN));
    }
    format!(
        "{} {} {}{text}",
        paint.hue(Hue::Quiet, time),
        paint.hue(Hue::of_kind(kind), &format!("{kind:<KIND_WIDTH$}")),
        paint.hue(Hue::Quiet, &run),
    )
}

/// What is left of a text on the narrowest terminal.
const TEXT_MIN: usize = 20;
/// The width of the types of a story: most fit.
const KIND_WIDTH: usize = 13;

/// The pid and sequence of a run id: enough to tell runs apart on a screen.
pub(crate) fn short(run: &str) -> &str {
    run.splitn(3, '-').nth(2).unwrap_or(run)
}

/// When it was, in full for a program, and for a person without the date of today.
fn moment(ts: Timestamp) -> String {
    let day = |ts: Timestamp| ts.as_second().div_euclid(24 * 60 * 60);
    if !std::io::stdout().is_terminal() {
        return format!("{ts:.3}");
    }
    if day(ts) == day(Timestamp::now()) {
        return clock(ts);
    }
    ts.strftime("%F %T").to_string()
}

fn clock(ts: Timestamp) -> String {
    ts.strftime("%T").to_string()
}
