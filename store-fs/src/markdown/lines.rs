//! The parser for the header that this tool writes. Any other form is `front`'s.
//!
//! It is most of what reading a stream costs, so each byte is looked at once: a name is compared where it must stand, and
//! its value ends at the first quote. Whatever is not exactly so sends the caller to `front`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use memchr::{memchr, memchr3};
use run_agent_core::text::{parse_time, unquote};
use run_agent_core::{Draft, Kind, Link, Message, MsgId, Parent, ProjectId, RunId, StreamKey, TaskId};

use super::is_plain_key;

/// Reads the form that this tool writes, and nothing else: `None` sends the caller to the reader of any front matter.
/// Most entries of a stream name its own project and task, which are not checked and kept once more.
pub(super) fn parse(header: &str, key: &StreamKey) -> Option<Message> {
    let mut rest = Rest(header);
    let id = MsgId::parse(&rest.take("msg_id: \"")?).ok()?;
    let ts = parse_time(&rest.take("ts: \"")?)?;
    let kind = Kind::parse(&rest.take("type: \"")?).ok()?;
    let project = match rest.take("project_id: \"")? {
        project if project == key.project.as_str() => key.project.clone(),
        project => ProjectId::parse(&project).ok()?,
    };
    let task = match (rest.take("task_id: \""), &key.task) {
        (None, _) => None,
        (Some(task), Some(own)) if task == own.as_str() => Some(own.clone()),
        (Some(task), _) => Some(TaskId::parse(&task).ok()?),
    };
    let mut content = Draft::new(kind, project, task, String::new());
    content.run = rest.take("run_id: \"").map(|r| RunId::parse(&r)).transpose().ok()?;
    content.issue = rest.take("issue_id: \"").map(|i| MsgId::parse(&i)).transpose().ok()?;
    content.parents = rest.parents()?;
    content.links = rest.links()?;
    content.meta = rest.map("meta:\n", "  ")?;
    content.attachment_path = rest.take("attachment_path: \"").map(Cow::into_owned);
    let bytes = rest.0.strip_prefix("bytes: ")?.strip_suffix('\n')?;
    bytes.bytes().all(|b| b.is_ascii_digit()).then_some(Message { id, ts, content })
}

/// The lines that are still to be read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// The value that stands behind `name`, its line's beginning up to the opening quote. Inlined, so that the comparison
    /// is one of so many bytes and not a call.
    #[inline(always)]
    fn take(&mut self, name: &'static str) -> Option<Cow<'a, str>> {
        let (value, rest) = quoted(self.0.strip_prefix(name)?)?;
        self.0 = rest;
        Some(value)
    }

    fn skip(&mut self, line: &'static str) -> bool {
        let rest = self.0.strip_prefix(line);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn parents(&mut self) -> Option<Vec<Parent>> {
        let mut parents = Vec::new();
        if !self.skip("parents:\n") {
            return Some(parents);
        }
        while let Some(id) = self.take("  - msg_id: \"") {
            let kind = self.take("    kind: \"").map(Cow::into_owned);
            let meta = self.map("    meta:\n", "      ")?;
            parents.push(Parent { msg_id: MsgId::parse(&id).ok()?, kind, meta });
        }
        Some(parents)
    }

    fn links(&mut self) -> Option<Vec<Link>> {
        let mut links = Vec::new();
        if !self.skip("links:\n") {
            return Some(links);
        }
        while let Some(url) = self.take("  - url: \"") {
            let label = self.take("    label: \"").map(Cow::into_owned);
            let kind = self.take("    kind: \"").map(Cow::into_owned);
            links.push(Link { url: url.into_owned(), label, kind });
        }
        Some(links)
    }

    fn map(&mut self, head: &'static str, indent: &'static str) -> Option<BTreeMap<String, String>> {
        let mut map = BTreeMap::new();
        if !self.skip(head) {
            return Some(map);
        }
        while let Some(entry) = self.0.strip_prefix(indent) {
            let (key, value) = if entry.starts_with('"') {
                quoted_key(entry)?
            } else {
                let (key, value) = entry.split_at(memchr(b':', entry.as_bytes())?);
                (is_plain_key(key).then(|| key.to_owned())?, value)
            };
            let (value, rest) = quoted(value.strip_prefix(": \"")?)?;
            map.insert(key, value.into_owned());
            self.0 = rest;
        }
        Some(map)
    }
}

/// What stands up to the closing quote, which ends its line, and the lines behind it.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = memchr3(b'"', b'\\', b'\n', text.as_bytes())?;
    if text.as_bytes()[end..].starts_with(b"\"\n") {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 2..]));
    }
    let line = &text[..memchr(b'\n', text.as_bytes())?];
    Some((Cow::Owned(unquote(&format!("\"{line}"))?), &text[line.len() + 1..]))
}

/// A key in quotes, and all that stands behind it. Its end is the first `": "` behind which a quoted value stands whole.
fn quoted_key(entry: &str) -> Option<(String, &str)> {
    let line = &entry[..memchr(b'\n', entry.as_bytes())?];
    line.match_indices("\": \"").find_map(|(at, _)| {
        let key = unquote(&line[..=at])?;
        unquote(&line[at + 3..]).map(|_| (key, &entry[at + 1..]))
    })
}
