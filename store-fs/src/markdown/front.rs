//! Front matter that this tool did not write: by hand, by another tool of the family, or by another version. Facts are
//! never refused: what fits no field is kept in `meta` under the name it had, and what is missing is made up from
//! the entry's place, alike for every reader.

use std::collections::BTreeMap;

use run_agent_core::{
    Draft, Kind, Link, Message, MsgId, Parent, ProjectId, RunId, StreamKey, TaskId, Timestamp,
};
use serde_yaml::Value;

/// The type of an entry that names none.
const PLAIN_KIND: Kind = Kind::INFO;

/// Reads a header without its edges. `id` is what an entry that names none is called.
///
/// # Errors
/// When the text is no mapping.
pub(super) fn read(header: &str, key: &StreamKey, id: Option<&MsgId>) -> Result<Message, String> {
    let fields = match plain_lines(header) {
        Some(fields) => fields,
        None => by_yaml(header)?,
    };
    message(fields, key, id)
}

fn message(mut fields: Fields, key: &StreamKey, id: Option<&MsgId>) -> Result<Message, String> {
    let content = Draft::new(PLAIN_KIND, key.project.clone(), key.task.clone(), "");
    let mut into = Into { content };
    let written = fields.take(&["msg_id", "id"]);
    let msg_id = match written.as_deref().map(MsgId::parse) {
        Some(Ok(written)) => written,
        Some(Err(_)) | None => id.cloned().ok_or("it has no msg_id")?,
    };
    if let Some(text) = written.filter(|text| text != msg_id.as_str()) {
        into.keep("msg_id", text);
    }
    let ts = fields.take(&["ts", "timestamp", "time", "date"]);
    let ts = into.time(ts, &msg_id);
    into.kind(fields.take(&["type"]));
    // A scope that is named is the entry's own, also where it is not the stream's: a copied file stays what it was.
    let (project, task) = (fields.take(&["project_id", "project"]), fields.take(&["task_id", "task"]));
    into.scope(project, task);
    if let Some(text) = fields.take(&["run_id", "run"]) {
        match RunId::parse(&text) {
            Ok(run) => into.content.run = Some(run),
            Err(_) => into.keep("run_id", text),
        }
    }
    if let Some(text) = fields.take(&["issue_id"]) {
        match MsgId::parse(&text) {
            Ok(issue) => into.content.issue = Some(issue),
            Err(_) => into.keep("issue_id", text),
        }
    }
    into.content.attachment_path =
        fields.0.remove("attachment_path").filter(|value| !value.is_null()).map(|value| text_of(&value));
    for parent in fields.take_list("parents") {
        into.parent(parent);
    }
    for link in fields.take_list("links") {
        into.link(link);
    }
    if let Some(Value::Mapping(meta)) = fields.0.remove("meta") {
        for (name, value) in meta {
            into.keep(&text_of(&name), text_of(&value));
        }
    }
    for (name, value) in fields.0 {
        if !matches!(name.as_str(), "bytes" | "crc32") && !is_nothing(&value) {
            into.keep(&name, text_of(&value));
        }
    }
    if into.content.kind == Kind::ISSUE && into.content.issue.is_none() {
        into.content.issue = Some(msg_id.clone());
    }
    Ok(Message { id: msg_id, ts, content: into.content })
}

/// A message that is being filled.
struct Into {
    content: Draft,
}

impl Into {
    /// Never overwrites what the writer put into `meta` under this name.
    fn keep(&mut self, name: &str, text: String) {
        self.content.meta.entry(name.to_owned()).or_insert(text);
    }

    fn time(&mut self, written: Option<String>, id: &MsgId) -> Timestamp {
        let parsed = written.as_deref().and_then(moment);
        if let (None, Some(text)) = (parsed, written) {
            self.keep("ts", text);
        }
        // An entry without any time is of the time that nobody knows: the same for every reader.
        parsed.or_else(|| id.time()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn kind(&mut self, written: Option<String>) {
        let Some(text) = written else { return };
        match Kind::parse(&text.trim().to_ascii_uppercase().replace(['-', ' '], "_")) {
            Ok(kind) if kind.as_str() == "WARN" => self.content.kind = Kind::WARNING,
            Ok(kind) => self.content.kind = kind,
            Err(_) => self.keep("type", text),
        }
    }

    fn scope(&mut self, project: Option<String>, task: Option<String>) {
        match project.as_deref().map(ProjectId::parse) {
            Some(Ok(project)) => self.content.project = project,
            Some(Err(_)) => self.keep("project_id", project.unwrap_or_default()),
            None => {}
        }
        match task.as_deref().map(TaskId::parse) {
            Some(Ok(task)) => self.content.task = Some(task),
            Some(Err(_)) => self.keep("task_id", task.unwrap_or_default()),
            None => {}
        }
    }

    fn parent(&mut self, written: Value) {
        let (id, kind, meta) = match written {
            Value::Mapping(map) => {
                let get = |name: &str| map.get(name).filter(|v| !v.is_null()).map(text_of);
                let meta = map.get("meta").and_then(Value::as_mapping).cloned().unwrap_or_default();
                (get("msg_id").or_else(|| get("id")).unwrap_or_default(), get("kind"), meta)
            }
            other => (text_of(&other), None, serde_yaml::Mapping::new()),
        };
        match MsgId::parse(&id) {
            Ok(id) => {
                let mut parent = Parent::new(id, kind.as_deref());
                parent.meta = meta.iter().map(|(name, value)| (text_of(name), text_of(value))).collect();
                self.content.parents.push(parent);
            }
            Err(_) => self.keep("parents", id),
        }
    }

    fn link(&mut self, written: Value) {
        let link = match written {
            Value::Mapping(map) => {
                let get = |name: &str| map.get(name).filter(|v| !v.is_null()).map(text_of);
                Link { url: get("url").unwrap_or_default(), label: get("label"), kind: get("kind") }
            }
            other => Link { url: text_of(&other), label: None, kind: None },
        };
        self.content.links.push(link);
    }
}

/// The header's fields by name.
struct Fields(BTreeMap<String, Value>);

impl Fields {
    /// The text of the first of these names that says something.
    fn take(&mut self, names: &[&str]) -> Option<String> {
        let mut found = None;
        for name in names {
            if found.is_none()
                && let Some(value) = self.0.remove(*name).filter(|value| !is_nothing(value))
            {
                found = Some(text_of(&value));
            }
        }
        found
    }

    /// A list, or a single thing where a list was meant.
    fn take_list(&mut self, name: &str) -> Vec<Value> {
        match self.0.remove(name) {
            Some(Value::Sequence(items)) => items,
            Some(value) if !is_nothing(&value) => vec![value],
            Some(_) | None => Vec::new(),
        }
    }
}

/// Headers of plain `name: value` lines, as other tools of the family write most of theirs: a YAML crate needs fifty
/// times as long for them. `None`: this is more than that.
fn plain_lines(header: &str) -> Option<Fields> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '+');
    let mut fields = BTreeMap::new();
    for line in header.lines() {
        let (name, value) = line.split_once(':')?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            return None;
        }
        let value = value.strip_prefix(' ').unwrap_or(value);
        let text = match value {
            "\"\"" | "''" => String::new(),
            // A list or mapping follows, or nothing: YAML tells.
            "" => return None,
            quoted if quoted.starts_with('"') => run_agent_core::text::unquote(quoted)?,
            word if word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
                && word.chars().all(plain)
                && !word.ends_with(':') =>
            {
                word.to_owned()
            }
            _ => return None,
        };
        // Written twice is an error for YAML, which says so.
        if fields.insert(name.to_owned(), Value::String(text)).is_some() {
            return None;
        }
    }
    (!fields.is_empty()).then_some(Fields(fields))
}

/// Deeper than any header; the YAML crate needs time and stack that grow with it.
const DEPTH_MAX: usize = 32;

/// Refuses what makes a small text large or slow: aliases, which repeat, and nesting.
fn check_harmless(header: &str) -> Result<(), String> {
    let mut depth = 0usize;
    // The last character that is no blank, and whether nothing but blanks stood before it on its line.
    let (mut before, mut first) = ('\n', true);
    let mut chars = header.chars();
    while let Some(c) = chars.next() {
        let opens_a_node = match before {
            '\n' | ':' | '[' | '{' | '?' => true,
            '-' => first,
            ',' => depth > 0,
            // A quote within single quotes is written twice.
            '\'' => c == '\'',
            _ => false,
        };
        match c {
            // What is quoted says nothing, up to the quote that ends it.
            '"' if opens_a_node => {
                while let Some(inside) = chars.next() {
                    match inside {
                        '"' => break,
                        '\\' => {
                            chars.next();
                        }
                        _ => {}
                    }
                }
            }
            '\'' if opens_a_node => {
                chars.find(|inside| *inside == '\'');
            }
            '&' | '*' if opens_a_node => return Err("anchors and aliases are not read".to_owned()),
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(format!("it is nested more than {DEPTH_MAX} levels deep"));
        }
        if c == '\n' {
            (before, first) = (c, true);
        } else if !c.is_whitespace() {
            first = before == '\n' || (before == '-' && first);
            before = c;
        }
    }
    // Levels of a block need a blank each.
    let deepest = header.lines().map(|line| line.len() - line.trim_start_matches([' ', '-']).len()).max();
    if deepest.is_some_and(|deepest| deepest > 8 * DEPTH_MAX) {
        return Err(format!("it is nested more than {DEPTH_MAX} levels deep"));
    }
    Ok(())
}

fn by_yaml(header: &str) -> Result<Fields, String> {
    check_harmless(header)?;
    let value: Value = serde_yaml::from_str(header).map_err(|e| e.to_string())?;
    let Value::Mapping(map) = value else { return Err("it is no list of `name: value`".to_owned()) };
    Ok(Fields(map.into_iter().map(|(name, value)| (text_of(&name), value)).collect()))
}

fn is_nothing(value: &Value) -> bool {
    matches!(value, Value::Null) || value.as_str().is_some_and(str::is_empty)
}

/// A scalar's text; of anything else what YAML makes of it.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => {
            serde_yaml::to_string(value).unwrap_or_default().trim_end().to_owned()
        }
    }
}

/// RFC 3339, or what people write: a date, or date and time, in UTC.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(moment) = text.parse() {
        return Some(moment);
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// The oracle for the line parsers.
#[cfg(test)]
pub(super) fn by_yaml_alone(header: &str, key: &StreamKey) -> Result<Message, String> {
    message(by_yaml(header)?, key, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> StreamKey {
        StreamKey::project(ProjectId::parse("p").unwrap())
    }

    fn by_place() -> MsgId {
        MsgId::parse("HAND-1").unwrap()
    }

    fn given(header: &str) -> Message {
        read(header, &key(), Some(&by_place())).unwrap()
    }

    #[test]
    fn what_is_missing_comes_from_the_place() {
        let message = given("type: warn\n");
        assert_eq!(message.id, by_place());
        assert_eq!(message.ts, Timestamp::UNIX_EPOCH);
        assert_eq!((message.content.kind, &message.content.project), (Kind::WARNING, &key().project));
    }

    #[test]
    fn what_fits_no_field_is_kept_under_its_name() {
        let message = given(
            "run_id: me\nts: soon\ntype: '*'\nmood: good\nmeta:\n  n: 7\n  list: [a, b]\nparents: [MSG-1, {msg_id: MSG-2, kind: answers}]\n",
        );
        let meta = |name: &str| message.content.meta.get(name).map(String::as_str);
        assert_eq!((meta("run_id"), meta("ts"), meta("type")), (Some("me"), Some("soon"), Some("*")));
        assert_eq!((meta("mood"), meta("n"), meta("list")), (Some("good"), Some("7"), Some("- a\n- b")));
        assert_eq!(message.content.parents.len(), 2);
        assert_eq!(message.content.parents[1].kind.as_deref(), Some("answers"));
    }

    #[test]
    fn what_grows_when_it_is_read_is_refused_at_once() {
        let bomb = format!("x: &a [{}]\ny: [{}]\n", "z, ".repeat(15_000), "*a, ".repeat(10_000));
        for header in
            [&bomb, &format!("x: {}\n", "[".repeat(60_000)), &format!("x:\n  {}1\n", "- ".repeat(20_000))]
        {
            assert!(read(header, &key(), Some(&by_place())).is_err());
        }
        for harmless in ["note: this is *bold* & more, *truly*\n", "list:\n  - a - *b*\n", "x: [a, b]\n"] {
            assert!(read(harmless, &key(), Some(&by_place())).is_ok(), "{harmless}");
        }
    }

    #[test]
    fn times_that_people_write_are_taken_as_utc() {
        let at = |text: &str| moment(text).map(|t| t.to_string());
        assert_eq!(at("2026-02-05 10:00:00"), Some("2026-02-05T10:00:00Z".to_owned()));
        assert_eq!(at("2026-02-05"), Some("2026-02-05T00:00:00Z".to_owned()));
        assert_eq!(at("2026-02-05T10:00:00+01:00"), Some("2026-02-05T09:00:00Z".to_owned()));
        assert_eq!(at("yesterday"), None);
    }

    #[test]
    fn the_name_of_a_scope_may_be_short() {
        let message = given("msg_id: M-1\nproject: other\ntask: task-20260101-000000-child\n");
        assert_eq!(message.content.project.as_str(), "other");
        assert_eq!(message.content.task.unwrap().as_str(), "task-20260101-000000-child");
    }

    proptest! {
        #[test]
        fn any_header_is_survived(text in any::<String>()) {
            let _ = read(&text, &key(), Some(&by_place()));
        }

        #[test]
        fn plain_lines_say_what_yaml_says(
            values in proptest::collection::btree_map("[a-z_]{1,8}", "\"\"|[a-z/][a-zA-Z./_:-]{0,12}", 1..6)
        ) {
            let mut header = String::new();
            for (name, value) in &values {
                header.push_str(&format!("{name}: {value}\n"));
            }
            if let Some(plain) = plain_lines(&header) {
                let texts = |fields: Fields| -> BTreeMap<String, String> {
                    fields.0.iter().map(|(name, value)| (name.clone(), text_of(value))).collect()
                };
                prop_assert_eq!(texts(plain), texts(by_yaml(&header).unwrap()));
            }
        }
    }
}
