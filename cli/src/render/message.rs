//! Messages for people.

use run_agent_core::{Message, Timestamp};

use super::safe;

/// A message in full: a line about it, then its text, indented when it has several lines.
pub(crate) fn message_text(message: &Message) -> String {
    let content = &message.content;
    let mut head = format!("{} {:<9} {}", clock(message.ts), content.kind.as_str(), message.id);
    if let Some(run) = &content.run {
        head.push_str(&format!("  run {run}"));
    }
    for parent in &content.parents {
        let kind = parent.kind.as_deref().unwrap_or("parent");
        head.push_str(&format!("  {}: {}", safe(kind), parent.msg_id));
    }
    let body = safe(&content.body);
    let body: String = body.trim_end_matches('\n').lines().map(|line| format!("    {line}\n")).collect();
    format!("{head}\n{body}")
}

/// A message as one line of a running story.
pub(crate) fn event_line(message: &Message) -> String {
    let content = &message.content;
    let mut line = safe(content.body.lines().next().unwrap_or_default());
    // What a person must act on is shown whole.
    let must_act = matches!(content.kind.as_str(), "ERROR" | "WARNING" | "QUESTION");
    if !must_act && line.chars().count() > 160 {
        line = line.chars().take(159).chain(['…']).collect();
    }
    // The sequence at the end tells runs of one swarm apart.
    let run = content.run.as_ref().map(|run| format!("[{}] ", short(run.as_str()))).unwrap_or_default();
    format!("{} {:<14} {run}{line}", clock(message.ts), content.kind.as_str())
}

/// The pid and sequence of a run id: enough to tell runs apart on a screen.
pub(crate) fn short(run: &str) -> &str {
    run.splitn(3, '-').nth(2).unwrap_or(run)
}

fn clock(ts: Timestamp) -> String {
    let utc = ts.to_zoned(jiff::tz::TimeZone::UTC);
    format!("{:02}:{:02}:{:02}.{:03}", utc.hour(), utc.minute(), utc.second(), utc.millisecond())
}
