//! How what was heard is shown to a person who follows a run: text as it comes, with all its blanks, and everything else
//! on lines of its own.

use std::fmt::Write;

use super::{Heard, Retry};

/// Goes along with one stream.
#[derive(Debug, Default)]
pub struct Show {
    /// The last line that was shown has no end.
    open: bool,
}

impl Show {
    /// Appends what is shown of this.
    pub fn push(&mut self, heard: &Heard, out: &mut String) {
        match heard {
            Heard::Text { text, whole } => {
                if *whole {
                    self.end_line(out);
                }
                out.push_str(text);
                self.open = !text.ends_with('\n');
                if *whole {
                    self.end_line(out);
                }
            }
            Heard::Tool { name, argument, .. } => self.line(out, format_args!("> {name} {argument}")),
            Heard::ToolEnd { failed: Some(true), .. } => self.line(out, format_args!("  (failed)")),
            Heard::Retrying(retry) => self.line(out, format_args!("! {}", retrying(retry))),
            Heard::Recovered => self.line(out, format_args!("! answered again")),
            Heard::Notice(text) => self.line(out, format_args!("! {text}")),
            Heard::Problem { class, message } => self.line(out, format_args!("! {class}: {message}")),
            Heard::Session(_)
            | Heard::Model(_)
            | Heard::Thinking(_)
            | Heard::ToolEnd { failed: Some(false) | None, .. }
            | Heard::Usage(_) => {}
        }
    }

    /// The stream has ended.
    pub fn end(&mut self, out: &mut String) {
        self.end_line(out);
    }

    fn line(&mut self, out: &mut String, text: std::fmt::Arguments<'_>) {
        self.end_line(out);
        // Writing to a String cannot fail.
        let _ = write!(out, "{text}");
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }

    fn end_line(&mut self, out: &mut String) {
        if std::mem::take(&mut self.open) {
            out.push('\n');
        }
    }
}

/// `retrying (429, rate_limit), retry 3 of 10 in 2 s`: also for lists of runs.
#[must_use]
pub fn retrying(retry: &Retry) -> String {
    let mut out = "retrying (".to_owned();
    if let Some(status) = retry.status {
        let _ = write!(out, "{status}, ");
    }
    let _ = write!(out, "{}), retry {}", retry.class, retry.attempt);
    if let Some(of) = retry.of {
        let _ = write!(out, " of {of}");
    }
    if let Some(wait) = retry.wait {
        let _ = write!(out, " in {} s", wait.as_secs_f64().round());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use run_agent_core::ErrorClass;

    use super::*;

    fn shown(heard: &[Heard]) -> String {
        let (mut show, mut out) = (Show::default(), String::new());
        heard.iter().for_each(|heard| show.push(heard, &mut out));
        show.end(&mut out);
        out
    }

    fn text(text: &str, whole: bool) -> Heard {
        Heard::Text { text: text.to_owned(), whole }
    }

    #[test]
    fn pieces_keep_their_blanks_and_everything_else_has_its_line() {
        let tool = Heard::Tool { id: "1".to_owned(), name: "shell".to_owned(), argument: "ls -l".to_owned() };
        let retry = Retry {
            class: ErrorClass::RateLimit,
            status: Some(429),
            attempt: 3,
            of: Some(10),
            wait: Some(Duration::from_millis(2412)),
            message: String::new(),
        };
        let heard = [
            text("Two ", false),
            text(" tools\n\n", false),
            text("ran.", false),
            tool,
            Heard::ToolEnd { id: "1".to_owned(), failed: Some(true) },
            text("whole", true),
            text("line\n", true),
            Heard::Retrying(retry),
            text("end", false),
        ];
        let wanted = "Two  tools\n\nran.\n> shell ls -l\n  (failed)\nwhole\nline\n\
            ! retrying (429, rate_limit), retry 3 of 10 in 2 s\nend\n";
        assert_eq!(shown(&heard), wanted);
    }
}
