//! The tables on stdout, as JSON below the target folder, and in `docs/performance.md`.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use crate::machine::Machine;
use crate::row::Row;
use crate::rows::{GROUPS, Group};
use crate::scratch::Bench;

const HEAD: [&str; 7] = ["what", "run-agent", "floor", "figure", "spread", "to reach", "verdict"];
/// What stands between these two lines of the page is replaced, group by group.
const BEGIN: &str = "<!-- tables: begin -->\n";
const END: &str = "<!-- tables: end -->\n";
/// How the part of a group begins.
const HEADING: &str = "### ";

#[derive(Debug)]
pub(crate) struct Report {
    machine: Machine,
    rounds: usize,
    groups: Vec<(&'static str, String)>,
}

impl Report {
    pub(crate) fn new(bench: &Bench) -> Self {
        let (machine, rounds) = (Machine::look(bench.beside()), bench.rounds());
        println!("{machine}; median of {rounds} rounds\n");
        Self { machine, rounds, groups: Vec::new() }
    }

    /// Shows a group and keeps it as JSON, so that a run which is ended early keeps what it has.
    pub(crate) fn add(&mut self, group: &Group, rows: &[Row]) -> Result<()> {
        let table = format!("Against {}.\n\n{}", group.floor, table(rows));
        println!("{HEADING}{}\n\n{table}", group.name);
        let machine = format!("{}; median of {} rounds.", self.machine, self.rounds);
        self.groups.push((group.name, format!("{HEADING}{}\n\n{machine}\n{table}\n", group.name)));

        let driver = std::env::current_exe()?;
        let folder = driver.ancestors().nth(2).context("the driver lies in no target folder")?.join("bench");
        std::fs::create_dir_all(&folder)?;
        let json = json!({
            "group": group.name,
            "floor": group.floor,
            "machine": self.machine,
            "rounds": self.rounds,
            "rows": rows,
        });
        let file = folder.join(format!("{}.json", group.name));
        std::fs::write(&file, format!("{json:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    pub(crate) fn write_docs(&self) -> Result<()> {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
        let text = std::fs::read_to_string(&page).context("cannot read docs/performance.md")?;
        let text = replace(&text, &self.groups)?;
        std::fs::write(&page, text).context("cannot write docs/performance.md")
    }
}

/// The page with the parts of the measured groups in the place of their old ones. Parts of groups that no longer exist
/// go; the others stay as they are, in the order in which groups are printed.
fn replace(page: &str, measured: &[(&'static str, String)]) -> Result<String> {
    let parts = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let (before, (old, after)) =
        parts.context("docs/performance.md has lost the lines that frame its tables")?;
    let old_part = |name: &str| {
        let from = old.find(&format!("{HEADING}{name}\n"))?;
        let rest = &old[from + HEADING.len()..];
        let len = rest.find(&format!("\n{HEADING}")).map_or(rest.len(), |at| at + 1);
        Some(old[from..from + HEADING.len() + len].to_owned())
    };
    let new_part = |name: &str| measured.iter().find(|part| part.0 == name).map(|part| part.1.clone());
    let tables: String =
        GROUPS.iter().filter_map(|group| new_part(group.name).or_else(|| old_part(group.name))).collect();
    Ok(format!("{before}{BEGIN}\n{tables}{END}{after}"))
}

/// A table that reads well as plain text and as markdown.
fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    lines.insert(1, widths.map(|width| "-".repeat(width)));
    let cells = |line: &[String; 7]| -> Vec<String> {
        line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect()
    };
    lines.iter().map(|line| format!("| {} |\n", cells(line).join(" | "))).collect()
}

#[test]
fn only_what_was_measured_is_replaced() {
    let page = format!("prose\n{BEGIN}\n### post\n\nold post\n\n### job\n\nold job\n\n{END}more\n");
    let measured =
        [("append", "### append\n\nnew\n\n".to_owned()), ("job", "### job\n\nnew job\n\n".to_owned())];
    let wanted = format!(
        "prose\n{BEGIN}\n### post\n\nold post\n\n### append\n\nnew\n\n### job\n\nnew job\n\n{END}more\n"
    );
    let replaced = replace(&page, &measured);
    assert_eq!(replaced.ok(), Some(wanted));
    assert!(replace("no frame", &measured).is_err());
}
