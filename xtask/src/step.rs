//! One command of a task: said on stderr before it starts, run at the workspace root, its failure a value.

use std::{
    env,
    ffi::OsStr,
    fmt,
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};

pub(crate) struct Step {
    command: Command,
}

/// A command that ran and reported failure. The task ends with the same exit code.
#[derive(Debug)]
pub(crate) struct Failed {
    command: String,
    pub(crate) code: u8,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` failed with exit code {}", self.command, self.code)
    }
}

impl std::error::Error for Failed {}

impl Step {
    pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Self {
        // Cargo names itself to what it runs, so that the same toolchain goes on.
        Self::program(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args(&args)
    }

    pub(crate) fn program(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        // `cargo run` describes this package to this process. Passed on, the description is taken for that of the
        // child: cargo-machete reads its arguments differently and then searches a folder named `machete`.
        for (key, _) in env::vars_os() {
            let name = key.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&key);
            }
        }
        Self { command }
    }

    pub(crate) fn args(mut self, args: &[impl AsRef<OsStr>]) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    pub(crate) fn run(mut self) -> Result<()> {
        let status = self.status()?;
        self.check(status)
    }

    /// Whether the command succeeds, for a step whose failure does not end the task.
    pub(crate) fn succeeds(mut self) -> Result<bool> {
        Ok(self.status()?.success())
    }

    /// What the command writes on stdout.
    pub(crate) fn stdout(mut self) -> Result<Vec<u8>> {
        self.announce();
        let output = self.command.stderr(Stdio::inherit()).output().with_context(|| self.cannot_start())?;
        self.check(output.status)?;
        Ok(output.stdout)
    }

    /// Whether the command can be run at all. A probe, not a step: nothing is announced or shown.
    pub(crate) fn answers(mut self) -> bool {
        self.command.output().is_ok_and(|output| output.status.success())
    }

    fn status(&mut self) -> Result<ExitStatus> {
        self.announce();
        self.command.status().with_context(|| self.cannot_start())
    }

    fn check(&self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        match status.code() {
            // Unix keeps exit codes within a byte.
            Some(code) => Err(Failed { command: self.line(), code: u8::try_from(code).unwrap_or(1) }.into()),
            None => bail!("`{}` was ended: {status}", self.line()),
        }
    }

    fn announce(&self) {
        eprintln!("$ {}", self.line());
    }

    fn cannot_start(&self) -> String {
        format!("cannot start `{}`", self.line())
    }

    fn line(&self) -> String {
        let program = Path::new(self.command.get_program());
        let program = program.file_name().unwrap_or(program.as_os_str());
        let envs = self
            .command
            .get_envs()
            .filter_map(|(key, value)| Some(format!("{}={}", key.display(), value?.display())));
        let words =
            [program].into_iter().chain(self.command.get_args()).map(|word| word.display().to_string());
        envs.chain(words).collect::<Vec<_>>().join(" ")
    }
}
