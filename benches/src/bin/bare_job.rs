//! The floor of `job`: makes a folder with five small files and runs `/bin/sh -c true`, and nothing else.

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

fn main() -> io::Result<ExitCode> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or(io::ErrorKind::InvalidInput)?;
    let folder = folder.join(std::process::id().to_string());
    std::fs::create_dir(&folder)?;
    for name in ["prompt.md", "run-info.yaml", "agent-stdout.txt", "agent-stderr.txt", "output.md"] {
        std::fs::write(folder.join(name), "a small file\n")?;
    }
    let status = Command::new("/bin/sh").args(["-c", "true"]).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
