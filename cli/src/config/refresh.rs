//! `config init` on a file that is there: settings that it does not have are added as comments, and comments that an
//! older version wrote are brought up to date. A line of the user's is never changed or dropped.
//!
//! Whose line it is, is decided by `written.txt`, which holds every line that any version has written: a comment that
//! stands there word for word was not touched. When a setting's line changes, the new one is added to that file and the
//! old one stays.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use hcl::edit::Span as _;
use hcl::edit::structure::Body;

use super::Form;
use super::problem::Source;
use super::schema::{self, AGENT, BLOCKS, Setting};
use super::stub::{block_text, line};

/// `block<TAB>line`, for every line of a setting that was ever written.
const WRITTEN: &str = include_str!("written.txt");

/// The file with the settings that it lacks. The source must be one that is read without a mistake.
pub(crate) fn refreshed(source: &Source) -> String {
    refreshed_from(source, WRITTEN)
}

pub(super) fn refreshed_from(source: &Source, written: &str) -> String {
    match Form::of(&source.path) {
        Form::Hcl => match source.text.parse::<Body>() {
            Ok(body) => hcl(&source.text, &body, written),
            Err(_) => source.text.clone(),
        },
        Form::Yaml => yaml(&source.text),
    }
}

/// The lines of a file, and what is to be put before each.
struct Edit<'a> {
    lines: Vec<&'a str>,
    before: BTreeMap<usize, Vec<String>>,
}

impl<'a> Edit<'a> {
    fn new(text: &'a str) -> Self {
        Self { lines: text.lines().collect(), before: BTreeMap::new() }
    }

    fn insert(&mut self, at: usize, line: String) {
        self.before.entry(at).or_default().push(line);
    }

    fn finish(self, text: &str, refreshed: &BTreeMap<usize, String>) -> String {
        if self.before.is_empty() && refreshed.is_empty() {
            return text.to_owned();
        }
        let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let mut out = String::new();
        for at in 0..=self.lines.len() {
            for line in self.before.get(&at).into_iter().flatten() {
                out.push_str(line);
                out.push_str(end);
            }
            if let Some(line) = self.lines.get(at) {
                out.push_str(refreshed.get(&at).map_or(line, |new| new.as_str()));
                out.push_str(end);
            }
        }
        out
    }
}

fn hcl(text: &str, body: &Body, written: &str) -> String {
    let mut edit = Edit::new(text);
    let mut refreshed = BTreeMap::new();
    let mut missing = Vec::new();
    for (block, _) in BLOCKS {
        let place = if block == AGENT { example(&edit.lines) } else { lines_of(text, body, block) };
        let Some(place) = place else {
            if block == AGENT || !body.has_attribute(block) {
                missing.push(block);
            }
            continue;
        };
        refreshed.extend(refresh(block, place.clone(), &edit.lines, written));
        let in_block = body.get_blocks(block).next();
        for setting in schema::of_block(block) {
            let set = block != AGENT && in_block.is_some_and(|b| b.body.has_attribute(setting.name));
            if set || mentions(&edit.lines[place.clone()], setting.name) {
                continue;
            }
            if block == AGENT {
                edit.insert(*place.end(), format!("#   {}", line(setting, Form::Hcl)));
            } else if place.start() < place.end() {
                edit.insert(*place.end(), format!("  # {}", line(setting, Form::Hcl)));
            } else if !mentions(&edit.lines, &dotted(setting)) {
                // A block on one line has no room: it is told below, and moves in with the user's help.
                edit.insert(place.end() + 1, format!("## {}.{}", block, line(setting, Form::Hcl)));
            }
        }
    }
    for block in missing {
        let end = edit.lines.len();
        edit.insert(end, String::new());
        for line in block_text(block, Form::Hcl).lines() {
            edit.insert(end, line.to_owned());
        }
    }
    edit.finish(text, &refreshed)
}

/// YAML has no braces to put comments into: what is missing is told at the end.
fn yaml(text: &str) -> String {
    let mut edit = Edit::new(text);
    let mut problems = Vec::new();
    let entries = super::yaml::parse(text, &mut problems);
    for setting in schema::SETTINGS {
        let set =
            entries.iter().filter(|entry| entry.name == setting.block).any(|entry| match &entry.node.plain {
                super::plain::Plain::Map(inner) => inner.iter().any(|inner| inner.name == setting.name),
                _ => false,
            });
        let line = line(setting, Form::Yaml);
        let stands = edit.lines.iter().any(|l| bare(l) == Some(line.as_str()));
        if !set && !stands && !mentions(&edit.lines, &dotted(setting)) {
            let end = edit.lines.len();
            edit.insert(end, format!("## {}.{line}", setting.block));
        }
    }
    edit.finish(text, &BTreeMap::new())
}

fn dotted(setting: &Setting) -> String {
    format!("{}.{}", setting.block, setting.name)
}

/// The lines of a block, its braces included.
fn lines_of(text: &str, body: &Body, block: &str) -> Option<RangeInclusive<usize>> {
    let span = body.get_blocks(block).next()?.span()?;
    let number = |offset: usize| text.get(..offset).unwrap_or_default().matches('\n').count();
    Some(number(span.start)..=number(span.end.saturating_sub(1)))
}

/// The lines of the agent's example, a block that is all comment.
fn example(lines: &[&str]) -> Option<RangeInclusive<usize>> {
    let opens =
        |line: &&str| bare(line).is_some_and(|line| line.starts_with("agent ") && line.ends_with('{'));
    let starts = (0..lines.len()).filter(|at| opens(&lines[*at]));
    starts.into_iter().find_map(|first| {
        let block = lines[first..].iter().map_while(|line| bare(line));
        Some(first..=first + block.into_iter().position(|line| line == "}")?)
    })
}

/// What stands behind a single `#`.
fn bare(line: &str) -> Option<&str> {
    line.trim().strip_prefix('#').filter(|rest| !rest.starts_with('#')).map(str::trim)
}

/// Whether a line, comment or not, sets this name.
fn mentions(lines: &[&str], name: &str) -> bool {
    lines.iter().any(|line| {
        let line = line.trim_start_matches(|c: char| c == '#' || c.is_whitespace());
        line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(['=', ':']))
    })
}

/// Brings the comments of one block up to date that nobody has touched.
fn refresh(
    block: &str,
    place: RangeInclusive<usize>,
    lines: &[&str],
    written: &str,
) -> BTreeMap<usize, String> {
    let mut refreshed = BTreeMap::new();
    for at in place {
        let Some(old) = bare(lines[at]) else { continue };
        let written = written.lines().any(|line| line.split_once('\t') == Some((block, old)));
        let setting = old.split_once(" =").and_then(|(name, _)| schema::find(block, name));
        if let (true, Some(setting)) = (written, setting) {
            let new = line(setting, Form::Hcl);
            if new != old {
                let start = lines[at].len() - lines[at].trim_end().len();
                let head = lines[at].len() - start - old.len();
                refreshed.insert(at, format!("{}{new}", &lines[at][..head]));
            }
        }
    }
    refreshed
}
