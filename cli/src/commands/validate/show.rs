//! What `validate` found, for people: a table, then a line for each thing that is wrong.

use super::network::Network;
use super::{Found, Means, ValidateArgs};
use crate::error::Failure;
use crate::render::{self, Cell, Column, Hue};

const COLUMNS: [Column; 7] = [
    Column::new("AGENT", 6).kept(),
    Column::new("STATE", 5).kept(),
    Column::new("VERSION", 4),
    Column::new("SIGN-IN", 3),
    Column::new("NETWORK", 4),
    Column::new("TYPE", 1),
    Column::new("PROGRAM", 2).min(16),
];

pub(super) fn show(args: &ValidateArgs, all: &[Found], none: Option<&str>) -> Result<(), Failure> {
    let mut columns = COLUMNS.to_vec();
    columns.retain(|column| args.check_tokens || column.title != "SIGN-IN");
    columns.retain(|column| args.check_network || column.title != "NETWORK");
    let rows: Vec<Vec<Cell>> = all.iter().map(|found| found.row(args)).collect();
    let mut out = if rows.is_empty() { String::new() } else { render::columns(&columns, &rows) };
    for found in all {
        for (word, texts) in [("", &found.problems), ("warning: ", &found.warnings)] {
            for text in texts {
                let line = format!("{}: {word}{text}", found.agent);
                out.push_str(&format!("{}\n", render::safe_line(&line)));
            }
        }
    }
    if all.iter().any(|found| matches!(found.network, Some(Network::NotAsked { .. }))) {
        out.push_str("not asked: only a REST agent (xai, perplexity) that is usable is asked from here\n");
    }
    if let Some(none) = none {
        out.push_str(&format!("{}\n", render::safe_line(none)));
    }
    render::out(&out)
}

impl Found {
    fn row(&self, args: &ValidateArgs) -> Vec<Cell> {
        let safe = |text: &str| Cell::new(render::safe_line(text));
        let state = match (self.usable, self.warnings.is_empty()) {
            (true, true) => Cell::new("usable").hue(Hue::Good),
            (true, false) => Cell::new("usable, with a warning").hue(Hue::Mild),
            (false, _) => Cell::new("not usable").hue(Hue::Bad),
        };
        let program = self.program.as_ref().map_or("-".to_owned(), |path| path.display().to_string());
        let version = self.version.as_deref().unwrap_or("-");
        let version = safe(version);
        let mut row =
            vec![safe(&self.agent), state, if self.too_old { version.hue(Hue::Mild) } else { version }];
        if args.check_tokens {
            row.push(safe(&self.sign_in.as_ref().map_or("-".to_owned(), Means::words)));
        }
        if args.check_network {
            row.push(safe(&self.network.as_ref().map_or("-".to_owned(), Network::words)));
        }
        row.extend([safe(&self.kind), safe(&program)]);
        row
    }
}

impl Means {
    fn words(&self) -> String {
        match self {
            Self::Config => "token of the configuration".to_owned(),
            Self::TokenFile { path } => format!("token in {}", path.display()),
            Self::Variable { name } => name.clone(),
            Self::Login { path } => format!("login in {}", path.display()),
            Self::Unknown { why } => format!("not known: {why}"),
            Self::NoneNeeded => "none needed".to_owned(),
            Self::Missing => "none found".to_owned(),
        }
    }
}
