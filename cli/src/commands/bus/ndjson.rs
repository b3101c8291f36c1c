//! `bus post --stdin-ndjson`: one JSON object a line in, one id a line out, in order.
//!
//! What stands in the pipe already is appended at once: a writer that hands its lines over singly gets each id before
//! it writes the next, and one that pours is not slowed by a lock and a write for each line.

use std::collections::BTreeMap;
use std::io::Read;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

use run_agent_core::message::FIELDS_MAX;
use run_agent_core::{Draft, Durability, Kind, Link, MsgId, Parent, RunId, Stream, StreamKey, decide};
use run_agent_runner::attach;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::fields;
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render;

/// What one read takes, and with that what one append may hold.
const PIECE: usize = 256 * 1024;
/// The longest line: a large text, and room for its escapes.
const LINE_MAX: usize = 80 * 1024 * 1024;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The fields are the API's. `attach` names a file to go with the message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(rename = "type")]
    kind: Option<Kind>,
    #[serde(default)]
    body: String,
    #[serde(default)]
    parents: Vec<AnyParent>,
    #[serde(default)]
    links: Vec<AnyLink>,
    #[serde(default)]
    meta: BTreeMap<String, String>,
    issue_id: Option<MsgId>,
    attach: Option<PathBuf>,
}

#[derive(Debug)]
struct AnyParent(Parent);

#[derive(Debug)]
struct AnyLink(Link);

impl<'de> Deserialize<'de> for AnyParent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let short = |id: &str| MsgId::parse(id).map(|id| Parent::new(id, None)).map_err(|e| e.to_string());
        let shape = TextOrMap { short, expected: "a message id, or an object with msg_id, kind and meta" };
        shape.deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for AnyLink {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let short = |url: &str| Ok(Link { url: url.to_owned(), label: None, kind: None });
        let shape = TextOrMap { short, expected: "a URL, or an object with url, label and kind" };
        shape.deserialize(deserializer).map(Self)
    }
}

/// A text that `short` makes the whole of, or an object. Never a list: it would be taken for the fields in the order
/// in which they happen to be declared.
struct TextOrMap<F> {
    short: F,
    expected: &'static str,
}

impl<'de, T: Deserialize<'de>, F: Fn(&str) -> Result<T, String>> TextOrMap<F> {
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(Shape { shape: self, made: PhantomData })
    }
}

struct Shape<F, T> {
    shape: TextOrMap<F>,
    made: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, F: Fn(&str) -> Result<T, String>> Visitor<'de> for Shape<F, T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.shape.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.shape.short)(text).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

struct Poster<'a> {
    context: &'a Context,
    key: StreamKey,
    stream: Arc<dyn Stream>,
    kind: Kind,
    run: Option<RunId>,
    durability: Durability,
    go_on: bool,
    /// Lines that were taken and not appended yet.
    batch: Vec<Draft>,
    line: u64,
    refused: u64,
}

pub(super) fn run(context: &Context, kind: Kind, durability: Durability, go_on: bool) -> Outcome {
    let key = context.stream()?;
    let stream = context.tree.store.open(&key)?;
    let run = context.run_for(&key);
    let mut poster =
        Poster { context, key, stream, kind, run, durability, go_on, batch: Vec::new(), line: 0, refused: 0 };
    let mut stdin = std::io::stdin().lock();
    let mut piece = vec![0; PIECE];
    let mut pending = Vec::new();
    loop {
        let read = match stdin.read(&mut piece) {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::io("cannot read stdin", &error)),
        };
        let mut rest = &piece[..read];
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            pending.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            poster.take(&pending)?;
            pending.clear();
        }
        pending.extend_from_slice(rest);
        if read == 0 && !pending.is_empty() {
            poster.take(&pending)?;
            pending.clear();
        }
        poster.append()?;
        if read == 0 {
            return Ok(if poster.refused == 0 { Exit::Done } else { Exit::Usage });
        }
        if pending.len() > LINE_MAX {
            // Where it ends, and with that where to go on, is not known.
            let line = poster.line + 1;
            return Err(Failure::usage(format!("line {line} has more than {LINE_MAX} bytes; attach a file")));
        }
    }
}

impl Poster<'_> {
    /// Takes a line. What it names as attachment is written at once, so that an append has only messages to write.
    fn take(&mut self, line: &[u8]) -> Result<(), Failure> {
        self.line += 1;
        // Some programs mark a text in this way.
        let line = if self.line == 1 { line.strip_prefix(BOM).unwrap_or(line) } else { line };
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let draft = match self.draft(line) {
            Ok(draft) => draft,
            Err(failure) if failure.exit() == Exit::Usage => return self.refuse(failure),
            Err(failure) => {
                self.append()?;
                return Err(failure.at(&format!("line {}", self.line)));
            }
        };
        // A message that the store may refuse must not take others with it.
        if may_be_too_large(&draft) {
            self.append()?;
            self.batch.push(draft);
            return match self.append() {
                Err(failure) if failure.exit() == Exit::Usage => self.refuse(failure),
                done => done,
            };
        }
        self.batch.push(draft);
        Ok(())
    }

    fn draft(&self, line: &[u8]) -> Result<Draft, Failure> {
        // A list would be taken for the fields in the order in which they happen to be declared.
        if line.trim_ascii_start().starts_with(b"[") {
            return Err(Failure::usage(
                "it is a JSON list and no JSON object; write a line as {\"body\":\"…\"}",
            ));
        }
        let line: Line = serde_json::from_slice(line).map_err(|e| no_line(&e))?;
        let kind = line.kind.unwrap_or_else(|| self.kind.clone());
        decide::may_post(&kind)?;
        let mut draft = Draft::new(kind, self.key.project.clone(), self.key.task.clone(), line.body);
        draft.run.clone_from(&self.run);
        draft.issue = line.issue_id;
        line.meta.keys().try_for_each(|name| fields::name(name))?;
        draft.meta = line.meta;
        draft.parents = line.parents.into_iter().map(|AnyParent(parent)| parent).collect();
        draft.links = line.links.into_iter().map(|AnyLink(link)| link).collect();
        draft.links.iter().try_for_each(|link| fields::url(&link.url))?;
        let tree = &self.context.tree;
        if let Some(source) = line.attach {
            attach::file(tree, &self.key, &mut draft, &source, self.durability)?;
        }
        attach::fit(tree, &self.key, &mut draft, self.durability)?;
        Ok(draft)
    }

    /// Appends what was taken and prints its ids.
    fn append(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let mut out = String::new();
        for entry in self.stream.append(batch, self.durability)? {
            let message = entry.message;
            if self.context.json {
                let mut told = serde_json::json!({ "msg_id": message.id, "timestamp": message.ts });
                if let Some(path) = message.content.attachment_path {
                    told["attachment_path"] = path.into();
                }
                out.push_str(&told.to_string());
            } else {
                out.push_str(message.id.as_str());
            }
            out.push('\n');
        }
        render::out(&out)
    }

    /// What stands before the line is posted; the line is not, and an answer stands in its place.
    fn refuse(&mut self, failure: Failure) -> Result<(), Failure> {
        self.append()?;
        if !self.go_on {
            return Err(failure.at(&format!("line {}", self.line)));
        }
        self.refused += 1;
        render::say(&format!("error: line {}: {failure}", self.line));
        if self.context.json {
            render::json(&serde_json::json!({ "line": self.line, "error": failure.to_string() }))
        } else {
            render::out("\n")
        }
    }
}

/// Which line of the input it is stands before it already.
fn no_line(error: &serde_json::Error) -> Failure {
    let what = if error.is_syntax() { "it is not JSON: " } else { "" };
    let text = format!("{what}{error}").replace(" at line 1 column ", " at column ");
    let text = text.replace("expected struct Line", "expected a JSON object");
    Failure::usage(render::brief(&text.replace("invalid type: sequence", "it is a list")))
}

/// True when the fields, each byte escaped at the worst, may be beyond what a store takes.
fn may_be_too_large(draft: &Draft) -> bool {
    let map = |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| k.len() + v.len() + 16).sum::<usize>();
    let text = |text: &Option<String>| text.as_ref().map_or(0, |text| text.len() + 16);
    let parents = draft.parents.iter().map(|p| p.msg_id.as_str().len() + text(&p.kind) + map(&p.meta) + 32);
    let links = draft.links.iter().map(|l| l.url.len() + text(&l.label) + text(&l.kind) + 32);
    6 * (map(&draft.meta) + parents.sum::<usize>() + links.sum::<usize>()) + 4096 > FIELDS_MAX
}
