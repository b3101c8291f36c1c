//! What a message's own fields may be called, and what a link may be, before they are posted: whoever reads them sees a
//! line each.

use crate::error::Failure;

/// A field's name.
pub(super) fn name(name: &str) -> Result<(), Failure> {
    one_line(name, "the name of a meta field")
}

/// Where a link leads to.
pub(super) fn url(url: &str) -> Result<(), Failure> {
    one_line(url, "a link")
}

fn one_line(text: &str, what: &str) -> Result<(), Failure> {
    if text.trim().is_empty() {
        return Err(Failure::usage(format!("{what} is empty")));
    }
    if text.chars().any(char::is_control) {
        let shown = run_agent_core::text::head(text, 100).escape_debug();
        return Err(Failure::usage(format!("{what} has control characters: {shown}")));
    }
    Ok(())
}
