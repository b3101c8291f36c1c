//! The tables on stdout, as JSON below the target folder, and in `docs/performance.md`.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::row::Row;
use crate::rows::Group;

const HEAD: [&str; 7] = ["what", "run-agent", "floor", "figure", "spread", "to reach", "verdict"];
/// What stands between these two lines of the page is replaced.
const BEGIN: &str = "<!-- tables: begin -->\n";
const END: &str = "<!-- tables: end -->\n";

#[derive(Debug)]
pub(crate) struct Report {
    machine: String,
    tables: String,
    groups: Vec<Value>,
}

impl Report {
    pub(crate) fn new(rounds: usize) -> Self {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or("unknown processor", |(_, name)| name.trim());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kernel = kernel.trim().splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
        let date = jiff::Timestamp::now().strftime("%Y-%m-%d");
        let machine = format!("{date}; {model}, {cores} cores; Linux {kernel}; median of {rounds} rounds");
        println!("{machine}\n");
        Self { machine, tables: String::new(), groups: Vec::new() }
    }

    pub(crate) fn add(&mut self, group: &Group, rows: Vec<Row>) {
        let table = format!("**{}** against {}\n\n{}\n", group.name, group.floor, table(&rows));
        print!("{table}");
        self.tables.push_str(&table);
        self.groups.push(json!({ "group": group.name, "floor": group.floor, "rows": rows }));
    }

    pub(crate) fn write_json(&self) -> Result<()> {
        let driver = std::env::current_exe()?;
        let folder = driver.ancestors().nth(2).context("the driver lies in no target folder")?.join("bench");
        std::fs::create_dir_all(&folder)?;
        let json = json!({ "machine": self.machine, "groups": self.groups });
        Ok(std::fs::write(folder.join("latest.json"), format!("{json:#}\n"))?)
    }

    pub(crate) fn write_docs(&self) -> Result<()> {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
        let text = std::fs::read_to_string(&page).context("cannot read docs/performance.md")?;
        let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
        let (before, after) =
            parts.context("docs/performance.md has lost the lines that frame its tables")?;
        let text = format!("{before}{BEGIN}\n{}.\n\n{}{END}{after}", self.machine, self.tables);
        std::fs::write(&page, text).context("cannot write docs/performance.md")
    }
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
