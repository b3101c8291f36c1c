//! The line parser for the header that this tool writes. Any other form is `front`'s.

use std::borrow::Cow;
use std::collections::BTreeMap;

use run_agent_core::text::{unquote, unquoted};
use run_agent_core::{
    Draft, Kind, Link, Message, MsgId, Parent, ProjectId, RunId, StreamKey, TaskId, Timestamp,
};

use super::is_plain_key;

/// Reads the form that this tool writes, and nothing else: `None` sends the caller to the reader of any front matter.
/// Most entries of a stream name its own project and task, which are not checked and kept once more.
pub(super) fn parse(header: &str, key: &StreamKey) -> Option<Message> {
    let mut lines = header.lines().peekable();
    let mut take = |name: &str| -> Option<Cow<'_, str>> {
        let value = unquoted(lines.peek()?.strip_prefix(name)?.strip_prefix(": ")?)?;
        lines.next();
        Some(value)
    };
    let id = MsgId::parse(&take("msg_id")?).ok()?;
    let ts: Timestamp = take("ts")?.parse().ok()?;
    let kind = Kind::parse(&take("type")?).ok()?;
    let project = match take("project_id")? {
        project if project == key.project.as_str() => key.project.clone(),
        project => ProjectId::parse(&project).ok()?,
    };
    let task = match (take("task_id"), &key.task) {
        (None, _) => None,
        (Some(task), Some(own)) if task == own.as_str() => Some(own.clone()),
        (Some(task), _) => Some(TaskId::parse(&task).ok()?),
    };
    let mut content = Draft::new(kind, project, task, "");
    content.run = take("run_id").map(|r| RunId::parse(&r)).transpose().ok()?;
    content.issue = take("issue_id").map(|i| MsgId::parse(&i)).transpose().ok()?;
    content.parents = parse_parents(&mut lines)?;
    content.links = parse_links(&mut lines)?;
    content.meta = parse_map(&mut lines, "")?;
    content.attachment_path = field(&mut lines, "attachment_path");
    lines.next()?.strip_prefix("bytes: ")?;
    lines.next().is_none().then_some(Message { id, ts, content })
}

type Lines<'a> = std::iter::Peekable<std::str::Lines<'a>>;

fn field(lines: &mut Lines<'_>, key: &str) -> Option<String> {
    let value = unquote(lines.peek()?.strip_prefix(key)?.strip_prefix(": ")?)?;
    lines.next();
    Some(value)
}

fn parse_parents(lines: &mut Lines<'_>) -> Option<Vec<Parent>> {
    let mut parents = Vec::new();
    if lines.next_if_eq(&"parents:").is_none() {
        return Some(parents);
    }
    while let Some(id) = field(lines, "  - msg_id") {
        let kind = field(lines, "    kind");
        parents.push(Parent { msg_id: MsgId::parse(&id).ok()?, kind, meta: parse_map(lines, "    ")? });
    }
    Some(parents)
}

fn parse_links(lines: &mut Lines<'_>) -> Option<Vec<Link>> {
    let mut links = Vec::new();
    if lines.next_if_eq(&"links:").is_none() {
        return Some(links);
    }
    while let Some(url) = field(lines, "  - url") {
        links.push(Link { url, label: field(lines, "    label"), kind: field(lines, "    kind") });
    }
    Some(links)
}

fn parse_map(lines: &mut Lines<'_>, indent: &str) -> Option<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    if lines.next_if(|line| line.strip_prefix(indent) == Some("meta:")).is_none() {
        return Some(map);
    }
    while let Some(entry) = lines.peek().and_then(|line| line.strip_prefix(indent)?.strip_prefix("  ")) {
        if entry.starts_with([' ', '-']) {
            return None;
        }
        let (key, value) = if entry.starts_with('"') {
            // The end of a quoted key is the first `": "` behind which a quoted value stands whole.
            let end = entry
                .match_indices("\": \"")
                .map(|(at, _)| at)
                .find(|at| unquote(&entry[..=*at]).is_some())?;
            (unquote(&entry[..=end])?, unquote(&entry[end + 3..])?)
        } else {
            let (key, value) = entry.split_once(": ")?;
            (is_plain_key(key).then(|| key.to_owned())?, unquote(value)?)
        };
        map.insert(key, value);
        lines.next();
    }
    Some(map)
}
