//! A server to measure: run-agent's, or the bare one. Started, looked at from outside, and ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeSpec;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use serde_json::Value;

use crate::scratch::{Backend, Bench, say_store};

/// How long a server that was told to end may take.
const END_WITHIN: Duration = Duration::from_secs(30);

/// A root with a store, whose messages are only handed to the system, as all writers of a measurement do it.
pub(crate) fn make_root(root: &Path, backend: Backend) -> Result<()> {
    say_store(root, backend)?;
    std::fs::write(root.join("config.hcl"), "storage { durability = \"none\" }\n")?;
    Ok(())
}

#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pid: Pid,
    /// Kept, so that it can print.
    _out: BufReader<ChildStdout>,
    /// Host and port.
    pub(crate) address: String,
    /// Where the bare one takes lines to push.
    pub(crate) lines: Option<PathBuf>,
    /// From before its start until it listened.
    pub(crate) began: Instant,
}

impl Server {
    /// `run-agent serve` on a root.
    pub(crate) fn start(bench: &Bench, root: &Path) -> Result<Self> {
        Self::of(bench.run_agent_in(root, &["serve", "--port", "0", "--json"]), None)
    }

    pub(crate) fn bare(bench: &Bench) -> Result<Self> {
        let mut command = bench.program("run-agent-bench-bare-server");
        let lines = bench.beside().join("lines.sock");
        let _ = std::fs::remove_file(&lines);
        command.arg(&lines);
        Self::of(command, Some(lines))
    }

    fn of(mut command: Command, lines: Option<PathBuf>) -> Result<Self> {
        let began = Instant::now();
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start a server")?;
        let mut out = BufReader::new(child.stdout.take().context("a server has no stdout")?);
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        let mut line = String::new();
        out.read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line).with_context(|| format!("a server said {line:?}"))?;
        let url = said["url"].as_str().context("a server names no address")?;
        let address = url.trim_start_matches("http://").to_owned();
        Ok(Self { child, pid, _out: out, address, lines, began })
    }

    /// One answer, read to its end.
    pub(crate) fn get(&self, path: &str) -> Result<()> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{path}: {}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    /// What its processor time is so far, of all its threads.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let time: TimeSpec = clock_gettime(clock_getcpuclockid(self.pid)?)?;
        Ok(time.into())
    }

    /// Megabytes of resident memory: now, and at the most so far.
    pub(crate) fn memory_mb(&self) -> Result<[f64; 2]> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let of = |name: &str| -> Result<f64> {
            let line =
                status.lines().find_map(|line| line.strip_prefix(name)).context("no memory is told")?;
            let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
            Ok(kib * 1024.0 / 1e6)
        };
        Ok([of("VmRSS:")?, of("VmHWM:")?])
    }

    /// Ends it in order: run-agent's writes down what it knows.
    pub(crate) fn end(mut self) -> Result<()> {
        kill(self.pid, Signal::SIGTERM)?;
        let deadline = Instant::now() + END_WITHIN;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "a server did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// To give the bare one lines to push.
    pub(crate) fn connect(lines: &Path) -> Result<UnixStream> {
        UnixStream::connect(lines).context("cannot reach the bare server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
