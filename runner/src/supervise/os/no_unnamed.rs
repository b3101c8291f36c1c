//! The portable twin of `unnamed`: there are none.

use std::fs::File;
use std::io;
use std::path::Path;

/// # Errors
/// Never.
#[expect(clippy::unnecessary_wraps, reason = "the twin of the way that may fail")]
pub fn make(_: &Path, _: u32) -> io::Result<Option<File>> {
    Ok(None)
}

/// # Errors
/// Always: no file was made that could be given one.
pub fn link(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
