//! Which runs wait for which without a limit: two that wait for each other would wait for ever, since a command that
//! blocks is a sign of life (`docs/decisions/0055-a-wait-that-would-close-a-circle.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use run_agent_core::RunId;

use crate::files;
use crate::tree::Tree;

/// Written down for as long as this lives.
#[derive(Debug)]
#[must_use = "the wait is known for as long as this lives"]
pub struct Waiting {
    path: PathBuf,
    _lock: File,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // One that stays is dead, and the next who comes to it removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The way from what is to be waited for to the run that wants to wait.
    #[error("run {} would wait for run {} for ever: {}", .0.last().map_or("", |run| run.as_str()), .0.first().map_or("", |run| run.as_str()), told(.0))]
    Circle(Vec<RunId>),
    #[error("cannot write down in {path} who waits for whom")]
    Io { path: PathBuf, source: io::Error },
}

fn told(way: &[RunId]) -> String {
    let steps = way.windows(2).map(|pair| format!("{} waits for {}", pair[0], pair[1]));
    steps.collect::<Vec<_>>().join(", ")
}

/// A command that this run's agent called is about to wait for the ends of others, without a limit.
///
/// # Errors
/// [`WaitError::Circle`] when one of them waits for this run, directly or by way of others.
pub fn begin(tree: &Tree, run: &RunId, on: &[RunId]) -> Result<Waiting, WaitError> {
    let folder = tree.layout.waits();
    let error = |source| WaitError::Io { path: folder.clone(), source };
    tree.no_link(&folder).map_err(|link| error(io::Error::other(link.to_string())))?;
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(error)?;
    let _mutex = lock(&folder).map_err(error)?;
    if let Some(way) = way_back(run, on, &edges(&folder).map_err(error)?) {
        return Err(WaitError::Circle(way));
    }
    let path = folder.join(format!("{run}-{}", std::process::id()));
    let mut file = files::open_lock(&path).map_err(error)?;
    files::try_lock(&file).map_err(error)?;
    let lines: String = on.iter().map(|run| format!("{run}\n")).collect();
    file.set_len(0).and_then(|()| file.write_all(lines.as_bytes())).map_err(error)?;
    Ok(Waiting { path, _lock: file })
}

/// Who waits now, and for whom. What the dead left is removed.
fn edges(folder: &Path) -> io::Result<BTreeMap<RunId, BTreeSet<RunId>>> {
    let mut edges: BTreeMap<RunId, BTreeSet<RunId>> = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.rsplit_once('-'));
        let Some(run) = name.and_then(|(run, _)| RunId::parse(run).ok()) else { continue };
        if !files::is_locked(&path)? {
            let _ = std::fs::remove_file(&path);
            continue;
        }
        let mut text = String::new();
        // Gone since: it waits no more.
        let Ok(file) = File::open(&path) else { continue };
        if file.take(TEXT_MAX).read_to_string(&mut text).is_ok() {
            edges.entry(run).or_default().extend(text.lines().filter_map(|line| RunId::parse(line).ok()));
        }
    }
    Ok(edges)
}

/// The way from one of `on` to `run` by what each waits for, if there is one.
fn way_back(run: &RunId, on: &[RunId], edges: &BTreeMap<RunId, BTreeSet<RunId>>) -> Option<Vec<RunId>> {
    let mut seen = BTreeSet::new();
    let mut ways: Vec<Vec<RunId>> = on.iter().map(|on| vec![on.clone()]).collect();
    while let Some(way) = ways.pop() {
        let last = way.last()?;
        if last == run {
            return Some(way);
        }
        if seen.insert(last.clone()) {
            let further = edges.get(last).into_iter().flatten();
            ways.extend(further.map(|next| way.iter().cloned().chain([next.clone()]).collect::<Vec<_>>()));
        }
    }
    None
}

fn lock(folder: &Path) -> io::Result<File> {
    let mutex = files::open_lock(&folder.join("mutex"))?;
    let deadline = Instant::now() + MUTEX_WAIT;
    // Tried rather than waited for: a holder that was halted holds nobody up.
    while !files::try_lock(&mutex)? && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(mutex)
}

const MUTEX_WAIT: Duration = Duration::from_secs(1);
/// A command line has room for some thousand runs.
const TEXT_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(n: u32) -> RunId {
        RunId::parse(&format!("20261121-0930001234-1-{n}")).unwrap()
    }

    #[test]
    fn the_way_back_is_found_through_others_and_circles_of_others_are_no_matter() {
        let pairs = [(1, 2), (2, 3), (3, 2), (3, 4), (5, 6)];
        let mut edges: BTreeMap<RunId, BTreeSet<RunId>> = BTreeMap::new();
        for (from, to) in pairs {
            edges.entry(run(from)).or_default().insert(run(to));
        }
        assert_eq!(way_back(&run(4), &[run(5), run(1)], &edges), Some([1, 2, 3, 4].map(run).to_vec()));
        assert_eq!(way_back(&run(7), &[run(5), run(1)], &edges), None);
        let told = WaitError::Circle([1, 2].map(run).to_vec()).to_string();
        assert!(told.ends_with(&format!("for ever: {} waits for {}", run(1), run(2))), "{told}");
    }

    #[test]
    fn who_waits_is_known_as_long_as_its_lock_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{}-77", run(1)));
        std::fs::write(&path, format!("{}\n", run(2))).unwrap();
        std::fs::write(folder.path().join("mutex"), "").unwrap();
        let lock = files::open_lock(&path).unwrap();
        assert!(files::try_lock(&lock).unwrap());
        assert_eq!(edges(folder.path()).unwrap(), BTreeMap::from([(run(1), BTreeSet::from([run(2)]))]));
        drop(lock);
        assert_eq!(edges(folder.path()).unwrap(), BTreeMap::new());
        assert!(!path.exists());
    }
}
