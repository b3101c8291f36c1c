//! What is written into a start-up file, and how it is found again. Pure: bytes in, bytes out.
//!
//! The first marker line remembers what the file was like before, so that removing the block gives the same bytes
//! back: `(new file)` when there was none, `(newline added)` when its last line had no end.

use super::Shell;

const BEGIN: &str = "# >>> run-agent shell-setup >>>";
const END: &str = "# <<< run-agent shell-setup <<<";
const NEW_FILE: &str = " (new file)";
const NEWLINE_ADDED: &str = " (newline added)";
const COMMANDS: [&str; 3] = ["claude", "codex", "gemini"];

/// A file as bytes; `None` is no file.
type Text = Option<Vec<u8>>;

/// The aliases without the marker lines.
pub(super) fn text(shell: Shell) -> String {
    let mut out = String::from(
        "# Agents that are started by hand are recorded. `run-agent shell-setup uninstall` removes this.\n",
    );
    out.push_str(match shell {
        Shell::Bash | Shell::Zsh => "if command -v run-agent >/dev/null 2>&1; then\n",
        Shell::Fish => "if status is-interactive; and command -q run-agent\n",
    });
    for command in COMMANDS {
        out.push_str(&format!("  alias {command}='run-agent wrap -- {command}'\n"));
    }
    out.push_str(match shell {
        Shell::Bash | Shell::Zsh => "fi\n",
        Shell::Fish => "end\n",
    });
    out
}

/// The file with the block at its end.
pub(super) fn appended(file: Option<&[u8]>, text: &str) -> Text {
    let (before, note) = match file {
        None => (Vec::new(), NEW_FILE),
        Some(bytes) if bytes.is_empty() || bytes.ends_with(b"\n") => (bytes.to_vec(), ""),
        Some(bytes) => ([bytes, b"\n"].concat(), NEWLINE_ADDED),
    };
    Some([before, whole(note, text).into_bytes()].concat())
}

fn whole(note: &str, text: &str) -> String {
    format!("{BEGIN}{note}\n{text}{END}\n")
}

/// Where the block stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    from: usize,
    to: usize,
    note: &'static str,
}

/// Markers that do not belong together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BlockError {
    /// From 1.
    pub(super) line: usize,
    pub(super) what: &'static str,
}

impl Block {
    pub(super) fn find(file: &Text) -> Result<Option<Self>, BlockError> {
        let bytes = file.as_deref().unwrap_or_default();
        let mut begun: Option<(usize, usize, &'static str)> = None;
        let mut found = None;
        let mut at = 0;
        for (n, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let wrong = |what| Err(BlockError { line: n + 1, what });
            let (from, text) = (at, line.strip_suffix(b"\n").unwrap_or(line));
            at += line.len();
            match (begin(text), text == END.as_bytes(), &begun) {
                (Some(_), _, _) if found.is_some() => return wrong("a second run-agent block begins here"),
                (Some(note), _, None) => begun = Some((n + 1, from, note)),
                (Some(_), _, Some(_)) => return wrong("a run-agent block begins inside another one"),
                (None, true, Some((_, from, note))) => {
                    found = Some(Self { from: *from, to: at, note });
                    begun = None;
                }
                (None, true, None) => return wrong("a run-agent block ends here that does not begin"),
                (None, false, _) => {}
            }
        }
        match begun {
            Some((line, ..)) => {
                Err(BlockError { line, what: "a run-agent block begins here and does not end" })
            }
            None => Ok(found),
        }
    }

    /// The file with the block as it should be, in the same place.
    pub(super) fn replaced(&self, file: &Text, text: &str) -> Option<Text> {
        let bytes = file.as_deref().unwrap_or_default();
        let block = whole(self.note, text);
        Some(Some([&bytes[..self.from], block.as_bytes(), &bytes[self.to..]].concat()))
    }

    /// The file as it was before, with what was written behind the block since.
    pub(super) fn removed(&self, file: &Text) -> Text {
        let bytes = file.as_deref().unwrap_or_default();
        let (mut before, after) = (&bytes[..self.from], &bytes[self.to..]);
        if self.note == NEWLINE_ADDED && after.is_empty() {
            before = before.strip_suffix(b"\n").unwrap_or(before);
        }
        let rest = [before, after].concat();
        (!(rest.is_empty() && self.note == NEW_FILE)).then_some(rest)
    }
}

/// What a first marker line remembers.
fn begin(line: &[u8]) -> Option<&'static str> {
    let note = line.strip_prefix(BEGIN.as_bytes())?;
    ["", NEW_FILE, NEWLINE_ADDED].into_iter().find(|known| known.as_bytes() == note)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(file: Option<&[u8]>) -> Text {
        appended(file, &text(Shell::Bash))
    }

    #[test]
    fn what_is_installed_and_removed_gives_the_same_bytes() {
        let files: [Option<&[u8]>; 6] =
            [None, Some(b""), Some(b"a\n"), Some(b"a"), Some(b"a\r\nb\r\n\n\n"), Some(b"\xff\xfe\0 x")];
        for file in files {
            let with = installed(file);
            let block = Block::find(&with).unwrap().unwrap();
            assert_eq!(block.removed(&with).as_deref(), file, "{file:?}");
            assert_eq!(
                block.replaced(&with, &text(Shell::Bash)),
                Some(with),
                "installing again changes nothing"
            );
        }
    }

    #[test]
    fn what_was_written_behind_the_block_stays() {
        for (file, rest) in [(&b"a"[..], &b"a\nb\n"[..]), (b"a\n", b"a\nb\n")] {
            let with = Some([installed(Some(file)).unwrap(), b"b\n".to_vec()].concat());
            assert_eq!(Block::find(&with).unwrap().unwrap().removed(&with).as_deref(), Some(rest));
        }
        let with = Some([installed(None).unwrap(), b"b".to_vec()].concat());
        assert_eq!(Block::find(&with).unwrap().unwrap().removed(&with), Some(b"b".to_vec()));
    }

    #[test]
    fn an_older_block_is_replaced_where_it_stands() {
        let old = Some(format!("a\n{BEGIN}\nalias x=y\n{END}\nb\n").into_bytes());
        let new = Block::find(&old).unwrap().unwrap().replaced(&old, "z\n").unwrap();
        assert_eq!(new, Some(format!("a\n{BEGIN}\nz\n{END}\nb\n").into_bytes()));
    }

    #[test]
    fn markers_that_do_not_belong_together_are_not_touched() {
        let find = |text: String| Block::find(&Some(text.into_bytes())).unwrap_err().line;
        assert_eq!(find(format!("a\n{BEGIN}\nx\n")), 2);
        assert_eq!(find(format!("{END}\n")), 1);
        assert_eq!(find(format!("{BEGIN}\n{BEGIN}\n{END}\n")), 2);
        assert_eq!(find(format!("{BEGIN}\n{END}\n{BEGIN}\n{END}\n")), 3);
    }
}
