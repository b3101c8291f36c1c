//! Many loops with children at once on few slots: what the tool itself takes of the processor for each run.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::sys::wait::wait;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::row::{Reach, Row};
use crate::scratch::Bench;
use crate::side_by_side::pairs;

/// The first argument of a driver that starts a swarm, and inherits and reaps every process of it.
pub(crate) const VERB: &str = "swarm";

const CHILDREN: usize = 3;
const SLOTS: usize = 8;

/// What is started, all at once: the same command so many times, with a number of three digits in the place of `{n}`.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    count: usize,
    words: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Took {
    cpu_ms: f64,
    wall_ms: f64,
}

/// Where the roots lie. A file system that keeps what was deleted from being used again for a while (ext4 without a
/// journal) searches longer for each new file the more was deleted: that time is not the tool's.
fn memory() -> Option<TempDir> {
    tempfile::Builder::new().prefix("run-agent-bench-").tempdir_in("/dev/shm").ok()
}

pub(crate) fn swarm(bench: &Bench) -> Result<Vec<Row>> {
    let memory = memory();
    let mut rows = Vec::new();
    if let Some(memory) = &memory {
        let size = bench.pick((100, 2000), (20, 250));
        rows.extend(measure(bench, size, memory.path(), "root in memory", Reach::ExtraAtMost(10.0))?);
    }
    let reach = if memory.is_some() { Reach::Ratio } else { Reach::ExtraAtMost(10.0) };
    rows.extend(measure(bench, (20, 250), bench.beside(), "root on the disk", reach)?);
    Ok(rows)
}

fn measure(
    bench: &Bench,
    (tasks, sleep_ms): (usize, usize),
    folder: &Path,
    place: &str,
    reach: Reach,
) -> Result<[Row; 2]> {
    let runs = tasks * (1 + CHILDREN);
    let sleep = format!("sleep {}.{:03}", sleep_ms / 1000, sleep_ms % 1000);
    let root = |child: &str| format!("{sleep}\n{}wait\n", format!("{child} &\n").repeat(CHILDREN));
    let prompt =
        format!("{}run-agent done\n", root(&format!("run-agent job --agent shell --prompt '{sleep}'")));
    // The same agents without the tool.
    let bare = root(&format!("bash -c '{sleep}; true'"));
    let program = bench.program("run-agent").get_program().to_string_lossy().into_owned();
    let mut round = 0;
    let ours = || {
        round += 1;
        // In a root of their own: what was before would be folded again.
        let folder = folder.join(format!("swarm-{round}"));
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("config.hcl"), format!("limits {{ max_agents = {SLOTS} }}\n"))?;
        let folder = folder.display().to_string();
        let words = ["--root", &folder, "task", "--project", "p", "--task", "n{n}", "--agent", "shell"];
        take(bench, tasks, &[&[program.as_str()], &words[..], &["--prompt", &prompt]].concat())
    };
    let rounds = pairs(bench.rounds(), ours, || take(bench, tasks, &["bash", "-c", &bare]))?;
    let each = |took: &Took| took.cpu_ms / runs as f64;
    let processor = rounds.iter().map(|(ours, floor)| (each(ours), each(floor))).collect();
    let full = (runs * sleep_ms).div_ceil(SLOTS) as f64;
    let wall = rounds.iter().map(|(ours, _)| (ours.wall_ms, full)).collect();
    let what = format!("{tasks} tasks with {CHILDREN} children, {SLOTS} slots, {place}");
    Ok([
        Row::new(format!("{what}: processor time a run"), "ms", reach, processor),
        Row::new(format!("{what}: time beside slots that are always full"), "ms", Reach::Ratio, wall),
    ])
}

fn take(bench: &Bench, count: usize, words: &[&str]) -> Result<Took> {
    let order = Order { count, words: words.iter().map(|word| (*word).to_owned()).collect() };
    let mut parent = bench.program("run-agent-bench");
    parent.arg(VERB).arg(serde_json::to_string(&order)?).env_remove("JRUN_ROOT");
    let output = parent.stdout(Stdio::piped()).stderr(Stdio::inherit()).output();
    let output = output.context("cannot start the driver")?;
    ensure!(output.status.success(), "the swarm failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

pub(crate) fn run(order: &str) -> Result<()> {
    let Order { count, words } = serde_json::from_str(order)?;
    inherit_orphans();
    let began = Instant::now();
    let mut started = (1..=count).map(|n| start(&words, n)).collect::<Result<Vec<_>>>()?;
    for child in &mut started {
        let status = child.wait()?;
        ensure!(status.success(), "{words:?}: {status}");
    }
    let wall_ms = began.elapsed().as_secs_f64() * 1e3;
    loop {
        match wait() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => break,
            Err(error) => bail!("cannot wait for what was left: {error}"),
        }
    }
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let ms = |time: TimeVal| time.num_microseconds() as f64 / 1e3;
    let cpu_ms = ms(used.user_time()) + ms(used.system_time());
    println!("{}", serde_json::to_string(&Took { cpu_ms, wall_ms })?);
    Ok(())
}

fn start(words: &[String], n: usize) -> Result<Child> {
    let mut words = words.iter().map(|word| word.replace("{n}", &format!("{n:03}")));
    let mut command = Command::new(words.next().context("no command is given")?);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().with_context(|| format!("cannot start {command:?}"))
}

/// Supervisors outlive who starts them: without this their time would be counted nowhere.
fn inherit_orphans() {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_child_subreaper(true);
}
