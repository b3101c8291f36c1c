//! A cgroup (v2) of a run's own: what the kernel knows of a run's processes, whatever they do to their parents, their
//! sessions and their environments. A help where it can be had: every failure here means to do without.
//!
//! `run-agent-<run id>` lies below the nearest cgroup that is not itself a run's. So the cgroups of nested runs lie side
//! by side, and one of them can be ended as a whole.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use run_agent_core::RunId;

use super::ProcessId;

const PREFIX: &str = "run-agent-";

/// How often, and how far apart, a cgroup is tried to be removed whose last process is dead.
const REMOVE_TRIES: u32 = 100;
const REMOVE_NAP: Duration = Duration::from_millis(5);

/// An empty cgroup is its run's for a moment only, before the run's first process is in it.
const NOBODYS_AFTER: Duration = Duration::from_secs(3600);

/// Where the one hierarchy of version 2 is mounted, and which part of it.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    root: String,
    at: PathBuf,
}

/// Looked for once: alone on a machine, or beside hierarchies of version 1.
static MOUNT: LazyLock<Option<Mount>> = LazyLock::new(|| {
    std::fs::read_to_string("/proc/self/mountinfo").ok().and_then(|text| text.lines().find_map(mount_of))
});

/// One line of `mountinfo`: `… root mount-point options [tags] - type source …`.
fn mount_of(line: &str) -> Option<Mount> {
    let (head, tail) = line.split_once(" - ")?;
    if tail.split(' ').next()? != "cgroup2" {
        return None;
    }
    let mut words = head.split(' ').skip(3);
    Some(Mount { root: words.next()?.to_owned(), at: PathBuf::from(words.next()?) })
}

/// The path in a process's `cgroup` file, as the kernel gives it.
fn path_of(cgroup_file: &str) -> Option<&str> {
    cgroup_file.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The run whose cgroup a path lies in; of several the innermost.
fn run_in(path: &str) -> Option<RunId> {
    path.rsplit('/').find_map(run_named)
}

fn run_named(folder: &str) -> Option<RunId> {
    folder.strip_prefix(PREFIX).and_then(|id| RunId::parse(id).ok())
}

/// The nearest cgroup at or above a path that is not a run's, nor below one.
fn outside_of_runs(path: &str) -> &str {
    let mut at = 0;
    for part in path.split('/') {
        if run_named(part).is_some() {
            return path[..at].trim_end_matches('/');
        }
        at += part.len() + 1;
    }
    path.trim_end_matches('/')
}

/// The run whose cgroup a process is in.
pub(super) fn run_of(pid: u32) -> Option<RunId> {
    MOUNT.as_ref()?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    path_of(&text).and_then(run_in)
}

/// The folder of the cgroup below which runs have theirs, and whether this process is in a run's.
fn base() -> Option<(PathBuf, bool)> {
    let mount = MOUNT.as_ref()?;
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = path_of(&text)?;
    let base = outside_of_runs(path);
    // A container may see only a part of the hierarchy, under names of the whole.
    let below = base.strip_prefix(mount.root.trim_end_matches('/'))?;
    if below.split('/').any(|part| part == "..") {
        return None;
    }
    Some((mount.at.join(below.trim_start_matches('/')), base.len() < path.trim_end_matches('/').len()))
}

/// The folder of a cgroup outside all runs', for a process that is in a run's; a child may be started in it.
#[must_use]
pub fn outside() -> Option<Cgroup> {
    base().filter(|(_, inside)| *inside).map(|(path, _)| Cgroup { path })
}

/// Takes this process out of the cgroup of the run that started it.
pub fn leave() {
    if let Some(outside) = outside() {
        // A supervisor that stays in it is still told from what it looks after.
        let _ = outside.enter(std::process::id());
    }
}

/// One cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Where a run started by this process has its cgroup, if it can have one.
    #[must_use]
    pub fn for_run(run: &RunId) -> Option<Self> {
        base().map(|(base, _)| Self { path: base.join(format!("{PREFIX}{run}")) })
    }

    /// The cgroup of a run at a place that somebody noted, who may not be trusted: it is this run's by its name, and
    /// lies in the hierarchy.
    #[must_use]
    pub fn noted(path: &Path, run: &RunId) -> Option<Self> {
        let own = path.file_name().and_then(|name| name.to_str()).and_then(run_named)? == *run;
        let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
        let there = MOUNT.as_ref().is_some_and(|mount| path.starts_with(&mount.at));
        (own && plain && there).then(|| Self { path: path.to_owned() })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it.
    ///
    /// # Errors
    /// When this process may not.
    pub fn make(&self) -> io::Result<()> {
        std::fs::create_dir(&self.path)
    }

    /// A handle by which a child is started in it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn open(&self) -> io::Result<Handle> {
        File::open(&self.path).map(Handle)
    }

    /// Moves a process into it. That may wait for the whole machine's forks to calm down: a child is better started in it.
    ///
    /// # Errors
    /// When this process may not.
    pub fn enter(&self, pid: u32) -> io::Result<()> {
        std::fs::write(self.path.join("cgroup.procs"), pid.to_string())
    }

    /// Every process in it and below.
    ///
    /// # Errors
    /// When it is not there, or cannot be read.
    pub fn members(&self) -> io::Result<Vec<u32>> {
        let mut members = Vec::new();
        for folder in self.folders()? {
            let text = std::fs::read_to_string(folder.join("cgroup.procs"))?;
            members.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
        Ok(members)
    }

    /// SIGKILL to every process in it and below, at once, also to those that are being started.
    ///
    /// # Errors
    /// When the kernel is older than 5.14, or this process may not.
    pub fn kill(&self) -> io::Result<()> {
        std::fs::write(self.path.join("cgroup.kill"), "1")
    }

    #[must_use]
    pub fn is_there(&self) -> bool {
        self.path.is_dir()
    }

    /// Removes it with what lies below, if no process is left in it.
    pub fn remove(&self) {
        // A process with threads is seen to be dead before the last of them has left, and the cgroup is busy until then.
        for _ in 0..REMOVE_TRIES {
            let busy = self.folders().unwrap_or_default().iter().rev().any(|folder| {
                std::fs::remove_dir(folder).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
            });
            // What is kept running keeps its cgroup.
            if !busy || self.has_living() {
                return;
            }
            std::thread::sleep(REMOVE_NAP);
        }
    }

    fn has_living(&self) -> bool {
        self.members().unwrap_or_default().into_iter().any(|pid| ProcessId::now(pid).is_some())
    }

    /// Itself and every cgroup below, those above first.
    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let mut folders = vec![self.path.clone()];
        let mut next = 0;
        while let Some(folder) = folders.get(next).cloned() {
            next += 1;
            folders.extend(below(&folder)?);
        }
        Ok(folders)
    }
}

fn below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.map(|entry| entry.path()).collect())
}

/// Removes the cgroups beside which this process would make a run's, where nothing was in them for a long time: those of
/// runs whose folder went before anybody closed them. Whose they were does not matter, since an empty one is of no use.
pub fn remove_nobodys() {
    let Some((base, _)) = base() else { return };
    for path in below(&base).unwrap_or_default() {
        let is_runs = path.file_name().and_then(|name| name.to_str()).and_then(run_named).is_some();
        let made = path.metadata().and_then(|meta| meta.modified());
        let age = made.ok().and_then(|made| SystemTime::now().duration_since(made).ok());
        if is_runs && age.is_some_and(|age| age >= NOBODYS_AFTER) {
            // One that holds a process is busy, and stays.
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// An open cgroup.
#[derive(Debug)]
pub struct Handle(File);

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "20261121-0930001234-1-1";

    #[test]
    fn the_hierarchy_is_found_alone_and_beside_those_of_version_1() {
        let unified = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let hybrid = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        let of = |line| mount_of(line).map(|mount| mount.at);
        assert_eq!(of(unified), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(of(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(of("38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio"), None);
        assert_eq!(path_of("8:pids:/\n0::/user.slice/a\n"), Some("/user.slice/a"));
        assert_eq!(path_of("8:pids:/\n"), None);
    }

    #[test]
    fn runs_of_runs_have_their_cgroups_side_by_side() {
        let inside = format!("/user.slice/a/run-agent-{RUN}/x");
        assert_eq!(outside_of_runs(&inside), "/user.slice/a");
        assert_eq!(outside_of_runs(&format!("/run-agent-{RUN}")), "");
        assert_eq!(outside_of_runs("/user.slice/a"), "/user.slice/a");
        assert_eq!(outside_of_runs("/"), "");
        assert_eq!(run_in(&inside).as_ref().map(RunId::as_str), Some(RUN));
        assert_eq!(run_in("/run-agent-supervisor-x.scope"), None, "a scope is not a run");
    }

    /// Says that it is there, and has many threads until it is ended.
    #[test]
    #[ignore = "a process of the next test's"]
    fn many_threads() {
        for _ in 0..40 {
            std::thread::spawn(|| std::thread::sleep(Duration::from_secs(600)));
        }
        std::fs::write(std::env::var("UP").unwrap(), "x").unwrap();
        std::thread::sleep(Duration::from_secs(600));
    }

    #[test]
    fn the_cgroup_of_a_process_with_many_threads_is_removed_as_soon_as_it_is_seen_to_be_dead() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..20 {
            let run = RunId::parse(&format!("20261121-0930001234-{}-{n}", std::process::id())).unwrap();
            let Some(cgroup) = Cgroup::for_run(&run).filter(|cgroup| cgroup.make().is_ok()) else { return };
            let up = folder.path().join(n.to_string());
            let mut child = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "supervise::os::cgroup::tests::many_threads", "--ignored"])
                .env("UP", &up)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            let deadline = std::time::Instant::now() + Duration::from_secs(30);
            while !up.exists() {
                assert!(std::time::Instant::now() < deadline, "it does not come up");
                std::thread::yield_now();
            }
            cgroup.enter(child.id()).unwrap();
            child.kill().unwrap();
            while ProcessId::now(child.id()).is_some() {}
            cgroup.remove();
            let is_there = cgroup.is_there();
            child.wait().unwrap();
            cgroup.remove();
            assert!(!is_there, "round {n}");
        }
    }

    #[test]
    fn a_note_leads_only_to_the_runs_own_cgroup() {
        let run = RunId::parse(RUN).unwrap();
        let Some(mount) = MOUNT.as_ref() else { return };
        let own = mount.at.join(format!("a/run-agent-{RUN}"));
        assert!(Cgroup::noted(&own, &run).is_some());
        let other = RunId::parse("20261121-0930001234-1-2").unwrap();
        for wrong in [mount.at.join("a"), PathBuf::from(format!("/home/run-agent-{RUN}"))] {
            assert_eq!(Cgroup::noted(&wrong, &run), None, "{}", wrong.display());
        }
        assert_eq!(Cgroup::noted(&own, &other), None);
        assert_eq!(Cgroup::noted(&mount.at.join(format!("a/../run-agent-{RUN}")), &run), None);
    }
}
