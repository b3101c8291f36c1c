//! Transcripts: what a user types and sees, command by command, in `tests/transcripts/*.md`.
//!
//! Each file is one test with a root of its own: its commands run in their order, and what they print must be what the
//! file says. `SNAPSHOTS=overwrite` writes what they print into the files instead; then read the difference.

#![allow(clippy::unwrap_used)]

mod complete;
mod console;
mod redact;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use run_agent_tests::{Done, Root, binary};
use snapbox::data::DataFormat;
use snapbox::{Assert, Data};

use console::{Outcome, Part};
use redact::Names;

macro_rules! transcripts {
    ($($name:ident),* $(,)?) => {
        const ALL: &[&str] = &[$(stringify!($name)),*];
        $(#[test]
        fn $name() {
            play(&file(stringify!($name)));
        })*
    };
}

transcripts! {
    adopt, ask, bus_post, bus_read, completion, config, damage, doctor, done, everywhere, gc, inbox, job, list, names, output,
    resume, run_agent, serve, slots, status, stop, store, task, task_delete, validate, wait, why, wrap,
}

/// The programs that a transcript and its agents may call. No coding agent is among them, whatever the machine has.
const PROGRAMS: &[&str] = &[
    "cat", "chmod", "cp", "cut", "env", "false", "flock", "grep", "head", "kill", "ls", "mkdir", "mkfifo",
    "mv", "printf", "rm", "sed", "seq", "sh", "sleep", "sort", "tail", "tee", "timeout", "touch", "true",
    "wc",
];

/// How long one command may take; then it is ended, and the transcript shows `? -1`.
const LIMIT_S: &str = "60";

pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts").join(format!("{name}.md"))
}

fn play(path: &Path) {
    let stage = Stage::new();
    let mut names = Names::new(&stage.root);
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut parts = console::parse(&text);
    for part in &mut parts {
        let Part::Step(step) = part else { continue };
        let done = stage.shell(&names.filled(&step.command));
        names.meet_runs(&stage.root.path());
        step.outcome = Outcome {
            stdout: names.redact(&done.stdout),
            stderr: names.redact(&done.stderr),
            code: done.code,
        };
    }
    // Raw: a transcript says every word, and no `...` stands for some.
    let expected = Data::read_from(path, Some(DataFormat::Text)).raw();
    Assert::new().action_env("SNAPSHOTS").eq(Data::text(console::render(&parts)), expected);
}

/// A home with a root, a working folder, and nothing of the caller's surroundings.
struct Stage {
    root: Root,
    path: PathBuf,
    work: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let root = Root::new();
        let path = root.scratch().join("bin");
        let work = root.scratch().join("work");
        std::fs::create_dir(&path).unwrap();
        std::fs::create_dir(&work).unwrap();
        symlink(binary(), path.join("run-agent")).unwrap();
        for program in PROGRAMS {
            let found = ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(program));
            let found = found.into_iter().find(|path| path.exists());
            symlink(found.unwrap_or_else(|| panic!("no {program}")), path.join(program)).unwrap();
        }
        Self { root, path, work }
    }

    fn shell(&self, line: &str) -> Done {
        let output = Command::new("timeout")
            .args(["--signal", "KILL", LIMIT_S, "sh", "-c", line])
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.root.scratch())
            .env("JRUN_ROOT", self.root.path())
            .env("LC_ALL", "C.UTF-8")
            .current_dir(&self.work)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Done::of(output, &[line])
    }
}
