//! Where a prompt comes from: a flag, a file, stdin.

use std::io::{IsTerminal, Read};
use std::path::Path;

use crate::args::PromptArgs;
use crate::error::Failure;

/// The largest prompt. What is larger, such as a device that never ends, was named by mistake.
const MAX: u64 = 16 * 1024 * 1024;

/// The prompt that was given, if one was. stdin counts when `use_stdin` and it is not a terminal.
pub(crate) fn read(args: &PromptArgs, use_stdin: bool) -> Result<Option<String>, Failure> {
    if let Some(text) = &args.prompt {
        return Ok(Some(text.clone()));
    }
    match &args.prompt_file {
        Some(path) if path.as_os_str() == "-" => stdin().map(Some),
        Some(path) => file(path).map(Some).map_err(|what| {
            Failure::usage(format!("cannot read the prompt file {}: {what}", path.display()))
        }),
        None if use_stdin && !std::io::stdin().is_terminal() => {
            Ok(Some(stdin()?).filter(|text| !text.is_empty()))
        }
        None => Ok(None),
    }
}

/// The text of a file, or in words why there is none.
pub(crate) fn file(path: &Path) -> Result<String, String> {
    text(std::fs::File::open(path).map_err(|e| e.to_string())?, MAX)
}

fn stdin() -> Result<String, Failure> {
    text(std::io::stdin().lock(), MAX)
        .map_err(|what| Failure::usage(format!("cannot read the prompt from stdin: {what}")))
}

/// All that is read there as text, and no more than `max` bytes of it.
pub(crate) fn text(from: impl Read, max: u64) -> Result<String, String> {
    let mut bytes = Vec::new();
    from.take(max + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > max {
        return Err(format!("it has more than {max} bytes, the most that is read"));
    }
    String::from_utf8(bytes).map_err(|e| format!("it is not UTF-8 text: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_read_to_the_limit_and_refused() {
        assert_eq!(text(&b"four"[..], 4), Ok("four".to_owned()));
        assert!(text(&b"fives"[..], 4).is_err_and(|what| what.contains("more than 4 bytes")));
        assert!(text(std::io::repeat(b'x'), 1000).is_err());
        assert!(text(&b"\xff"[..], 4).is_err_and(|what| what.contains("UTF-8")));
    }
}
