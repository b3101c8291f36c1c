//! The text of a batch's file, and all that is wrong in it, each with its line.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::locate::{self, Step};
use super::node::Node;
use crate::commands::prompt;
use crate::render;

/// A file is small; one that is not is no batch.
const FILE_MAX: u64 = 16 * 1024 * 1024;
pub(super) const ID: Step<'static> = Step::Key(&["id", "name"]);

/// The most mistakes that are told. To find the line of each the text is parsed once more.
const TOLD: usize = 20;

/// The text, and where it came from: what an error needs.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    text: String,
    json: bool,
    /// The items stand under `tasks`, not at the top.
    nested: bool,
}

impl File {
    pub(super) fn read(path: &Path) -> Result<(Self, Node), String> {
        let cannot = |what: String| format!("cannot read the batch {}: {what}", path.display());
        let opened = std::fs::File::open(path).map_err(|e| cannot(e.to_string()))?;
        let text = prompt::text(opened, FILE_MAX)
            .map_err(|what| cannot(format!("{what}; long prompts go into files (prompt_file)")))?;
        if text.trim().is_empty() {
            return Err(format!("{}: it is empty; there are no tasks in it", path.display()));
        }
        let json = path.extension().is_some_and(|extension| extension == "json");
        let parsed: Result<Node, (Option<(usize, usize)>, String)> = if json {
            serde_json::from_str(&text).map_err(|e| (Some((e.line(), e.column())), e.to_string()))
        } else {
            serde_yaml::from_str(&text)
                .map_err(|e| (e.location().map(|place| (place.line(), place.column())), e.to_string()))
        };
        match parsed {
            Ok(node) => {
                let nested = matches!(node, Node::Map(_));
                Ok((Self { path: path.to_owned(), text, json, nested }, node))
            }
            Err((place, what)) => {
                let place = place.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
                // The place stands before it already.
                let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
                let kind = if json { "JSON" } else { "YAML" };
                Err(format!(
                    "{}{place}: it cannot be read as {kind}: {}",
                    path.display(),
                    render::brief(what)
                ))
            }
        }
    }

    /// A path of the file is meant from the file's folder.
    pub(super) fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    /// The line of what stands at a path that begins at the list of tasks.
    pub(super) fn line(&self, path: &[Step<'_>]) -> Option<usize> {
        let mut whole = Vec::new();
        if self.nested {
            whole.push(Step::Key(&["tasks"]));
        }
        whole.extend_from_slice(path);
        self.line_from_top(&whole)
    }

    /// The line of what stands at a path that begins at the top.
    pub(super) fn line_from_top(&self, path: &[Step<'_>]) -> Option<usize> {
        locate::line(&self.text, self.json, path)
    }

    pub(super) fn wrong(&self, line: Option<usize>, what: impl Display) -> String {
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{line}: {what}", self.path.display())
    }
}

/// What was found wrong so far.
#[derive(Debug)]
pub(super) struct Mistakes<'a> {
    pub(super) file: &'a File,
    found: Vec<(Option<usize>, String)>,
    more: usize,
}

impl<'a> Mistakes<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        Self { file, found: Vec::new(), more: 0 }
    }

    /// At a path that begins at the list of tasks.
    pub(super) fn at(&mut self, path: &[Step<'_>], what: impl FnOnce(&File) -> String) {
        self.add(|file| file.line(path), what);
    }

    /// At a path that begins at the top.
    pub(super) fn at_top(&mut self, path: &[Step<'_>], what: impl FnOnce(&File) -> String) {
        self.add(|file| file.line_from_top(path), what);
    }

    /// In one item, at what stands under `key`, or else at its id.
    pub(super) fn of_item(&mut self, entry: usize, key: &str, what: &str) {
        let line = |file: &File| {
            let line = |step| file.line(&[Step::Index(entry), step]);
            line(Step::Key(&[key])).or_else(|| line(ID))
        };
        self.add(line, |_| what.to_owned());
    }

    fn add(&mut self, line: impl FnOnce(&File) -> Option<usize>, what: impl FnOnce(&File) -> String) {
        if self.found.len() < TOLD {
            self.found.push((line(self.file), what(self.file)));
        } else {
            self.more += 1;
        }
    }

    /// One mistake a line, in the order of the file.
    pub(super) fn end(mut self) -> Result<(), String> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|(line, _)| *line);
        let mut lines: Vec<String> =
            self.found.iter().map(|(line, what)| self.file.wrong(*line, what)).collect();
        if self.more > 0 {
            lines.push(format!("and {}", render::count(self.more as u64, "more mistake")));
        }
        Err(lines.join("\n"))
    }
}
