//! `<root>/.run-agent/store.yaml`: which store holds this root's events, and the storage settings in force, with the
//! identity of the configuration that they were taken from. Whoever posts a message reads this flat file, and parses no
//! configuration as long as that one is the same (docs/formats/store-yaml.md).

use std::fmt::Write as _;
use std::fs::Metadata;
use std::io::{self, Read};
use std::mem::ManuallyDrop;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use run_agent_core::Durability;
use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::text::{push_quoted, unquote};
use run_agent_runner::Tree;

use crate::config::{Config, word};
use crate::ringing::Ringing;
use crate::stores::Backend;

/// What the file says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoreFile {
    pub(crate) backend: Backend,
    pub(crate) durability: Durability,
    pub(crate) options: Options,
    pub(crate) config: Option<Seen>,
    /// Which folder this root is ([`identity`]).
    pub(crate) folder: Option<String>,
    /// Lines that this version does not know, kept when the file is written again.
    rest: Vec<String>,
}

/// The configuration that the settings were taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) path: PathBuf,
    /// A flag or variable named it: it counts for those who name it too.
    pub(crate) named: bool,
    /// What the file was, or that there was none.
    pub(crate) stamp: Option<Stamp>,
}

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    size: u64,
    /// 0 while the file is so young that another write could leave the same time.
    mtime_ns: i128,
    inode: u64,
}

/// Two writes within one tick of the system's clock leave the same time.
const TICK: Duration = Duration::from_millis(20);

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        let mtime_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Self { size: meta.size(), mtime_ns, inode: meta.ino() }
    }

    fn unless_young(meta: &Metadata) -> Self {
        let young = meta
            .modified()
            .ok()
            .and_then(|written| SystemTime::now().duration_since(written).ok())
            .is_some_and(|age| age < TICK);
        let stamp = Self::of(meta);
        if young { Self { mtime_ns: 0, ..stamp } } else { stamp }
    }
}

impl Seen {
    /// Looks at the file. Called before it is read: what changes in between is seen as a change by the next process.
    pub(crate) fn now(path: &Path, named: bool) -> Self {
        let stamp = std::fs::metadata(path).ok().map(|meta| Stamp::unless_young(&meta));
        Self { path: path.to_owned(), named, stamp }
    }

    /// As [`Seen::now`], but young or not: for a file that this process has just made, which nobody has edited yet.
    pub(crate) fn made(path: &Path) -> Self {
        let stamp = std::fs::metadata(path).ok().map(|meta| Stamp::of(&meta));
        Self { path: path.to_owned(), named: false, stamp }
    }

    /// True while the file is what it was: one system call.
    pub(crate) fn still_is(&self) -> bool {
        std::fs::metadata(&self.path).ok().map(|meta| Stamp::of(&meta)) == self.stamp
    }
}

/// The only version of the file, and of the files of each store, so far.
const VERSION: &str = "1";

/// What tells this folder from every copy of it: its inode and the moment it was made. No archive and no checkout can
/// carry them. `None` where the file system keeps no such moment.
pub(crate) fn identity(folder: &Metadata) -> Option<String> {
    let made = folder.created().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(format!("{}-{}", folder.ino(), made.as_nanos()))
}

/// Why a store file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreFileError {
    #[error("cannot read {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {what} {number} is newer than this program knows; update run-agent")]
    Newer { path: PathBuf, what: &'static str, number: String },
    #[error(
        "{path}: `{text}` is no {what}; if this is a run-agent root, remove the file, and the next command writes it anew"
    )]
    Garbled { path: PathBuf, what: &'static str, text: String },
    #[error(
        "{path}: it says no version; if this is a run-agent root, remove the file, and the next command writes it anew"
    )]
    NoVersion { path: PathBuf },
    #[error(
        "{path}: this root holds its events in the store `{backend}`, which this version does not read; use the version that wrote it"
    )]
    Backend { path: PathBuf, backend: String },
}

impl StoreFile {
    /// The settings of a configuration.
    pub(crate) fn of(config: &Config, seen: Seen) -> Self {
        Self {
            backend: config.backend().unwrap_or_else(Backend::of_new_root),
            durability: config.durability(),
            options: config.store_options(),
            config: Some(seen),
            folder: None,
            rest: Vec::new(),
        }
    }

    /// These settings of the configuration for the store that the root has.
    pub(crate) fn taken_into(self, old: &Self) -> Self {
        Self { backend: old.backend, folder: old.folder.clone(), rest: old.rest.clone(), ..self }
    }

    /// The settings of a root that nothing was put into yet.
    pub(crate) fn unmade(backend: Backend) -> Self {
        Self {
            backend,
            durability: Durability::Interval,
            options: Options::default(),
            config: None,
            folder: None,
            rest: Vec::new(),
        }
    }

    /// The root, with its store open. Whoever works with it said so before this file was read ([`stores::hold`]).
    ///
    /// [`stores::hold`]: crate::stores::hold
    pub(crate) fn tree(self, layout: Layout) -> Tree {
        let sync_every = self.options.sync_every;
        let store = Arc::new(Ringing::new(self.backend.open(&layout, self.options), &layout));
        Tree { store, layout, durability: self.durability, sync_every }
    }

    /// Whether the file at `path` says that it was written for the folder with this identity ([`identity`]), or
    /// `None` if there is no such file. One that does, or that is of a later version and may say so in another way, and
    /// cannot be used is an error: to go on with another root would be to work in the wrong one.
    pub(crate) fn is_of(path: &Path, folder: Option<&str>) -> Result<Option<bool>, StoreFileError> {
        let text = match read_small(path) {
            Ok(text) => text,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(source) => return Err(StoreFileError::Io { path: path.to_owned(), source }),
        };
        let mut lines = text.lines().rev().filter_map(|line| line.split_once(':'));
        let said = lines.find(|(name, _)| name.trim() == "folder").map(|(_, text)| plain(text));
        let own = folder.is_some() && said.as_deref() == folder;
        match Self::parse(&text, path) {
            Err(error) if own => Err(error),
            Err(error @ StoreFileError::Newer { .. }) if said.is_none() => Err(error),
            Ok(_) | Err(_) => Ok(Some(own)),
        }
    }

    /// Reads the file with one read. `None`: it is not there.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, StoreFileError> {
        match read_small(path) {
            Ok(text) => Self::parse(&text, path).map(Some),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(StoreFileError::Io { path: path.to_owned(), source }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, StoreFileError> {
        let mut lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(':')).collect();
        // The last line of a key counts, as it does for YAML readers that take it at all.
        let mut take = |key: &str| {
            let mut value = None;
            lines.retain(|(name, text)| {
                let found = name.trim() == key;
                if found {
                    value = Some(plain(text));
                }
                !found
            });
            value
        };
        let path = path.to_owned();
        let known = |what, text: Option<String>| match text {
            Some(text) if text == VERSION => Ok(()),
            Some(number) if number.parse().is_ok_and(|n: u64| n > 1) => {
                Err(StoreFileError::Newer { path: path.clone(), what, number })
            }
            Some(text) => Err(StoreFileError::Garbled { path: path.clone(), what, text }),
            None => Ok(()),
        };
        let version = take("version");
        if version.is_none() {
            return Err(StoreFileError::NoVersion { path });
        }
        known("version", version)?;
        let backend = take("backend").unwrap_or_default();
        let Some(backend) = Backend::named(&backend) else {
            return Err(StoreFileError::Backend { path, backend });
        };
        known("format", take("format"))?;
        let folder = take("folder").filter(|folder| !folder.is_empty());
        let plain = Options::default();
        let mut number = |key: &str| take(key).and_then(|value| value.parse::<u64>().ok());
        let options = Options {
            lock_timeout: number("lock_timeout_ms").map_or(plain.lock_timeout, Duration::from_millis),
            rotate_bytes: number("rotate_bytes").unwrap_or(plain.rotate_bytes),
            sync_every: number("sync_every_ms").map_or(plain.sync_every, Duration::from_millis),
            sync_messages: number("sync_messages").unwrap_or(plain.sync_messages),
        };
        let size = number("config_size");
        let inode = number("config_inode");
        let mtime_ns = take("config_mtime_ns").and_then(|value| value.parse().ok());
        let stamp = match (size, mtime_ns, inode) {
            (Some(size), Some(mtime_ns), Some(inode)) => Some(Stamp { size, mtime_ns, inode }),
            _ => None,
        };
        let named = take("config_named").as_deref() == Some("true");
        let config = take("config").map(|path| Seen { path: path.into(), named, stamp });
        let durability = take("durability").and_then(|value| word(&value)).unwrap_or(Durability::Interval);
        let rest = lines.iter().map(|(name, text)| format!("{name}:{text}")).collect();
        Ok(Self { backend, durability, options, config, folder, rest })
    }

    fn text(&self) -> String {
        let ms = |span: Duration| span.as_millis();
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = write!(out, "version: {VERSION}\nbackend: ");
        push_quoted(&mut out, self.backend.name());
        let durability = serde_json::json!(self.durability);
        let _ = writeln!(out, "\nformat: 1\ndurability: {durability}");
        let _ = writeln!(out, "sync_every_ms: {}", ms(self.options.sync_every));
        let _ = writeln!(out, "sync_messages: {}", self.options.sync_messages);
        let _ = writeln!(out, "rotate_bytes: {}", self.options.rotate_bytes);
        let _ = writeln!(out, "lock_timeout_ms: {}", ms(self.options.lock_timeout));
        if let Some(folder) = &self.folder {
            out.push_str("folder: ");
            push_quoted(&mut out, folder);
            out.push('\n');
        }
        // A path that is no text cannot be written down: such a configuration is looked at each time.
        if let Some((seen, path)) = self.config.as_ref().and_then(|seen| Some((seen, seen.path.to_str()?))) {
            out.push_str("config: ");
            push_quoted(&mut out, path);
            let _ = writeln!(out, "\nconfig_named: {}", seen.named);
            if let Some(Stamp { size, mtime_ns, inode }) = seen.stamp {
                let _ =
                    writeln!(out, "config_size: {size}\nconfig_mtime_ns: {mtime_ns}\nconfig_inode: {inode}");
            }
        }
        for line in &self.rest {
            let _ = writeln!(out, "{line}");
        }
        out
    }

    /// Writes the file anew. Processes that do it at once write the same, or the next one sees that the configuration
    /// is another and does it again.
    pub(crate) fn replace(&self, path: &Path) -> io::Result<()> {
        run_agent_runner::files::replace(path, self.text().as_bytes(), true)
    }

    /// Writes the file if it is not there: which store a root has is decided once, by whoever comes first.
    pub(crate) fn create(&self, path: &Path) -> io::Result<bool> {
        create_new(path, self.text().as_bytes())
    }
}

/// A whole file under a name that nobody has taken; `false` if somebody has.
pub(crate) fn create_new(path: &Path, text: &[u8]) -> io::Result<bool> {
    use std::io::Write;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new.{}", std::process::id()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(text).and_then(|()| file.sync_data());
    // A link, unlike a rename, does not replace what is there.
    let linked = written.and_then(|()| std::fs::hard_link(&temporary, path));
    std::fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The beginning of a small file, with one read.
fn read_small(path: &Path) -> io::Result<String> {
    let mut bytes = [0; 8192];
    // The process closes it when it ends, which saves each post a system call.
    let mut file = ManuallyDrop::new(run_agent_runner::files::open_regular(path)?);
    let read = file.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..read]).into_owned())
}

/// A scalar as this tool or a person writes it.
fn plain(text: &str) -> String {
    let text = text.trim();
    unquote(text).unwrap_or_else(|| text.split(" #").next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> StoreFile {
        StoreFile {
            backend: Backend::Segmented,
            durability: Durability::Always,
            options: Options {
                lock_timeout: Duration::from_millis(1500),
                rotate_bytes: 65_536,
                sync_every: Duration::from_millis(20),
                sync_messages: 3,
            },
            config: Some(Seen {
                path: "/home/a \"b\"/ü: #/config.hcl".into(),
                named: true,
                stamp: Some(Stamp { size: 7, mtime_ns: 1_795_000_000_123_456_789, inode: 42 }),
            }),
            folder: Some("42-1795259557080746726".to_owned()),
            rest: vec!["later: \"kept\"".to_owned()],
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_unknown_lines_are_kept() {
        let path = Path::new("/r/.run-agent/store.yaml");
        assert_eq!(StoreFile::parse(&full().text(), path).unwrap(), full());
    }

    #[test]
    fn the_sample_of_the_documentation_is_what_is_written() {
        let page = include_str!("../../docs/formats/store-yaml.md");
        let sample = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let read = StoreFile::parse(sample, Path::new("store.yaml")).unwrap();
        assert_eq!(read.text(), sample);
        assert_eq!((read.options, read.durability), (Options::default(), Durability::Interval));
    }

    #[test]
    fn a_file_of_three_lines_has_the_defaults() {
        let read =
            StoreFile::parse("version: 1\nbackend: fs # by hand\nformat: 1\n", Path::new("x")).unwrap();
        assert_eq!(read.options, Options::default());
        assert_eq!((read.durability, read.config), (Durability::Interval, None));
    }

    #[test]
    fn what_this_version_does_not_know_is_refused_with_the_files_name() {
        let refused = |text| StoreFile::parse(text, Path::new("/r/store.yaml")).unwrap_err().to_string();
        assert!(refused("").starts_with("/r/store.yaml: it says no version"));
        assert!(refused("").contains("remove the file"));
        assert!(refused("version: 2\n").contains("version 2 is newer"));
        assert!(refused("version: abc\n").contains("`abc` is no version"));
        assert!(refused("version: 1\nbackend: \"fs\"\nformat: 2\n").contains("format 2 is newer"));
        assert!(refused("version: 1\nbackend: \"other\"\n").contains("the store `other`"));
        assert!(refused("version: 1\n").contains("the store ``"));
    }

    #[test]
    fn only_one_of_those_who_create_a_file_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.yaml");
        assert!(full().create(&path).unwrap());
        assert!(!create_new(&path, b"other").unwrap());
        assert_eq!(StoreFile::read(&path).unwrap().unwrap(), full());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_file_that_is_replaced_appears_or_goes_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.hcl");
        let absent = Seen::now(&path, false);
        assert!(absent.still_is());
        std::fs::write(&path, "a").unwrap();
        let old = SystemTime::now() - Duration::from_secs(60);
        let age =
            |time| std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        age(old);
        assert!(!absent.still_is());
        let seen = Seen::now(&path, false);
        assert!(seen.still_is());
        std::fs::write(&path, "b").unwrap();
        assert!(!seen.still_is(), "the same size, another time");
        // The same size and time: a replaced file is another one all the same.
        std::fs::write(folder.path().join("other"), "b").unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        age(old);
        assert!(!seen.still_is());
        std::fs::remove_file(&path).unwrap();
        assert!(!seen.still_is());
    }
}
