//! A new configuration file: every setting as a comment, with its default and what it does.
//!
//! Lines with `##` explain. A setting is behind a single `#`: with that taken away, one line or all, the file is still
//! a configuration, and still says what holds without it.

use std::fmt::Write;

use super::Form;
use super::schema::{self, AGENT, BLOCKS, Setting};

const HEAD: &str = "\
## run-agent's configuration. Every setting stands here with its default; take the single # before one away to set it.
## `run-agent config show` says what is in force and why, `config validate` what is wrong, and `config init` adds the
## settings of a newer version without touching a line of yours.
";

/// The agent that the example block is named after.
const EXAMPLE: &str = "claude";

pub(crate) fn stub(form: Form) -> String {
    let mut text = HEAD.to_owned();
    for (block, _) in BLOCKS {
        text.push('\n');
        text.push_str(&block_text(block, form));
    }
    text
}

/// One block with all its settings as comments.
pub(crate) fn block_text(block: &str, form: Form) -> String {
    let about = BLOCKS.iter().find(|(name, _)| *name == block).map_or("", |(_, about)| *about);
    let mut text: String = about.lines().map(|line| format!("## {line}\n")).collect();
    let (open, indent, close) = match (form, block) {
        (Form::Hcl, AGENT) => (format!("# agent \"{EXAMPLE}\" {{"), "#   ", "# }\n"),
        (Form::Hcl, _) => (format!("{block} {{"), "  # ", "}\n"),
        (Form::Yaml, AGENT) => (format!("agent:\n  # {EXAMPLE}:"), "  #   ", ""),
        (Form::Yaml, _) => (format!("{block}:"), "  # ", ""),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{open}");
    for setting in schema::of_block(block) {
        let _ = writeln!(text, "{indent}{}", line(setting, form));
    }
    text.push_str(close);
    text
}

/// A setting with its default and what it does, as it stands behind its `#`.
pub(crate) fn line(setting: &Setting, form: Form) -> String {
    let sign = match form {
        Form::Hcl => " =",
        Form::Yaml => ":",
    };
    let set = format!("{}{sign} {}", setting.name, setting.default);
    format!("{set:<40} # {}", setting.doc)
}
