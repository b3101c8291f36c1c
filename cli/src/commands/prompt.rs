//! Where a prompt comes from: a flag, a file, stdin.

use std::io::{IsTerminal, Read};

use crate::args::PromptArgs;
use crate::error::Failure;

/// The prompt that was given, if one was. stdin counts when `use_stdin` and it is not a terminal.
pub(crate) fn read(args: &PromptArgs, use_stdin: bool) -> Result<Option<String>, Failure> {
    if let Some(text) = &args.prompt {
        return Ok(Some(text.clone()));
    }
    match &args.prompt_file {
        Some(path) if path.as_os_str() == "-" => stdin().map(Some),
        Some(path) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) => {
                Err(Failure::usage(format!("cannot read the prompt file {}: {error}", path.display())))
            }
        },
        None if use_stdin && !std::io::stdin().is_terminal() => {
            Ok(Some(stdin()?).filter(|text| !text.is_empty()))
        }
        None => Ok(None),
    }
}

/// All of stdin as text.
pub(crate) fn stdin() -> Result<String, Failure> {
    stdin_up_to(u64::MAX)
}

/// stdin as text, at most so many bytes of it: what is larger is refused anyway.
pub(crate) fn stdin_up_to(max: u64) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(max)
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::io("cannot read stdin", &e))?;
    String::from_utf8(bytes).map_err(|e| Failure::usage(format!("stdin is not UTF-8 text: {e}")))
}
