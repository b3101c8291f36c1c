//! What is wrong in a configuration, with its place: one line that a program can split, then the source line with a
//! caret.

use std::fmt::Write;
use std::path::PathBuf;

use super::plain::Span;
use crate::render;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) at: Span,
    pub(crate) what: String,
    /// The name or value that was probably meant.
    pub(crate) suggestion: Option<String>,
    /// It tells of a name, which is no secret wherever it stands.
    public: bool,
}

impl Problem {
    pub(crate) fn new(at: Span, what: impl Into<String>) -> Self {
        Self { at, what: what.into(), suggestion: None, public: false }
    }

    pub(crate) fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }

    pub(crate) fn public(self) -> Self {
        Self { public: true, ..self }
    }

    /// The same without what may be a secret: an error is copied into chats and tickets.
    pub(crate) fn without_secret(mut self, source: &Source) -> Self {
        let Place { line, column } = source.place(self.at.start);
        let text = source.text.lines().nth(line - 1).unwrap_or_default();
        let (kept, hidden) = without_secret(text);
        if hidden && !self.public && column > kept.chars().count() {
            let marked = source.text.get(self.at.clone()).unwrap_or_default();
            if !marked.is_empty() {
                self.what = self.what.replace(marked, "…");
            }
            self.suggestion = None;
        }
        self
    }

    /// What is wrong and what was probably meant, without the place.
    pub(crate) fn text(&self) -> String {
        match &self.suggestion {
            Some(suggestion) => format!("{}; did you mean `{suggestion}`?", self.what),
            None => self.what.clone(),
        }
    }
}

/// A configuration file as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// A mark of the encoding stands before the text in the file.
    pub(crate) marked: bool,
}

/// Where something stands: line and column count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Source {
    pub(crate) fn place(&self, offset: usize) -> Place {
        let before = &self.text[..floor(&self.text, offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }

    /// `path:line:column: what is wrong`, on one line.
    pub(crate) fn headline(&self, problem: &Problem) -> String {
        let Place { line, column } = self.place(problem.at.start);
        let text = render::brief(&problem.text());
        render::safe_line(&format!("{}:{line}:{column}: {text}", self.path.display()))
    }

    /// The headline, and the source line with a caret below the place.
    pub(crate) fn show(&self, problem: &Problem) -> String {
        let Place { line, column } = self.place(problem.at.start);
        let source = self.text.lines().nth(line - 1).unwrap_or_default();
        let (source, hidden) = without_secret(source);
        // A tab is as wide as one column, so that the caret stands where it should.
        let source = render::safe(source).replace('\t', " ");
        let (source, column) = around(&source, column);
        let room = source.chars().count().saturating_sub(column - 1);
        let marked = self.text.get(problem.at.clone()).unwrap_or_default();
        let width = marked.lines().next().unwrap_or_default().chars().count().min(room).max(1);
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let mut shown = self.headline(problem);
        let dots = if hidden { " …" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(shown, "\n{margin} |\n{number} | {source}{dots}\n{margin} | ");
        let _ = write!(shown, "{}{}", " ".repeat(column - 1), "^".repeat(width));
        shown
    }
}

/// The most of a source line that is shown, and how much of that stands before the place.
const SHOWN: usize = 120;
const BEFORE: usize = 40;

/// The part of a line that holds the place, and the place's column in it.
fn around(line: &str, column: usize) -> (String, usize) {
    if line.chars().count() <= SHOWN {
        return (line.to_owned(), column);
    }
    let from = (column - 1).saturating_sub(BEFORE);
    let mut shown: String = line.chars().skip(from).take(SHOWN).collect();
    if line.chars().count() > from + SHOWN {
        shown.push_str(" …");
    }
    if from == 0 { (shown, column) } else { (format!("… {shown}"), column - from + 2) }
}

/// The start of the character that this byte lies in.
fn floor(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A source line up to what may be a secret.
fn without_secret(line: &str) -> (&str, bool) {
    let Some(sign) = line.find(['=', ':']) else { return (line, false) };
    let lower = line.to_ascii_lowercase();
    let secret = ["token", "secret", "key", "password", "env"].iter().any(|word| lower.contains(word));
    // The path of a file with a secret is none, and neither is the name of a variable.
    let name = line[..sign].trim_end();
    let secret = secret && !name.ends_with("_file") && !name.ends_with("_env");
    if secret { (&line[..=sign], true) } else { (line, false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: "/r/config.hcl".into(), text: text.to_owned(), marked: false }
    }

    #[test]
    fn a_problem_is_shown_with_its_line_and_a_caret() {
        let source = source("stop {\n\tgräse = \"1s\"\n}\n");
        let problem = Problem::new(8..14, "unknown setting `gräse`").suggest(Some("grace".to_owned()));
        assert_eq!(
            source.show(&problem),
            "/r/config.hcl:2:2: unknown setting `gräse`; did you mean `grace`?\n  |\n2 |  gräse = \"1s\"\n  |  ^^^^^"
        );
    }

    #[test]
    fn a_secret_is_not_shown() {
        let source = source("agent \"x\" {\n  token = sk-secret\n}\n");
        let shown = source.show(&Problem::new(22..31, "wrong"));
        assert!(!shown.contains("sk-") && shown.contains("token = …") && shown.contains('^'), "{shown}");
    }

    #[test]
    fn a_place_beyond_the_end_is_the_end() {
        assert_eq!(source("a\n").place(99), Place { line: 2, column: 1 });
        assert!(source("").show(&Problem::new(0..0, "empty")).contains(":1:1: empty"));
    }
}
