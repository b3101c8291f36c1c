//! Which folder is the root, is it ours to use, and which storage settings hold in it.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Once;

use run_agent_core::layout::{Layout, OWN_FOLDER};
use run_agent_runner::doctor::Finding;

use crate::args::Global;
use crate::commands::completion;
use crate::config::locate::{self, Located};
use crate::config::problem::Place;
use crate::config::{Config, Form, Unusable, home_path, stub};
use crate::error::{Exit, Failure};
use crate::render;
use crate::store_file::{Seen, StoreFile, StoreFileError, create_new, identity};
use crate::stores::{self, Backend};

/// What the root was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Flag,
    Variable,
    Around,
    Configured,
    Default,
}

impl Why {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Flag => "--root",
            Self::Variable => "JRUN_ROOT",
            Self::Around => "the working folder, which lies in it",
            Self::Configured => "storage.root",
            Self::Default => "default",
        }
    }
}

/// The root, and what it was taken from.
pub(crate) fn choose(flags: &Global, named: Option<&Located>) -> Result<(PathBuf, Why), Failure> {
    let given = std::env::var_os("JRUN_ROOT").filter(|root| !root.is_empty());
    let (root, why) = match (&flags.root, given) {
        (Some(root), _) => (root.clone(), Why::Flag),
        (None, Some(root)) => (root.into(), Why::Variable),
        (None, None) => {
            let (around, passed) = look_around()?;
            let (root, why) = match around {
                Some(root) => (root, Why::Around),
                // Only here does finding the root need the configuration.
                None => default_root(named)?,
            };
            warn_of(&passed, &root);
            (root, why)
        }
    };
    Ok((std::path::absolute(&root).map_err(|e| Failure::io(root.display(), &e))?, why))
}

/// The root that the working folder lies in.
pub(crate) fn root_around() -> Option<PathBuf> {
    look_around().ok()?.0
}

/// The nearest folder around the working folder that is a root, and the nearer ones that only say so. A repository can
/// hold whatever makes a root, and its configuration would name the commands to run: a folder that nobody named is
/// believed only if its store file was written for this very folder. One that was and cannot be used is an error, as is
/// one of ours in whose place lies what cannot be read: no other root is taken in its stead.
fn look_around() -> Result<(Option<PathBuf>, Vec<PathBuf>), Failure> {
    let mut passed = Vec::new();
    let Ok(here) = std::env::current_dir() else { return Ok((None, passed)) };
    for folder in here.ancestors() {
        let path = folder.join(OWN_FOLDER).join("store.yaml");
        // Most folders hold none.
        if path.symlink_metadata().is_err() {
            continue;
        }
        let Ok(meta) = std::fs::metadata(folder) else { continue };
        match StoreFile::is_of(&path, identity(&meta).as_deref()) {
            Ok(Some(true)) => return Ok((Some(folder.to_owned()), passed)),
            Ok(Some(false)) => passed.push(folder.to_owned()),
            Ok(None) => {}
            // What another user left in a folder above says nothing to this one.
            Err(_) if meta.uid() != nix::unistd::geteuid().as_raw() => passed.push(folder.to_owned()),
            Err(error) => return Err(Failure::from(error).hint("or name another storage folder with --root")),
        }
    }
    Ok((None, passed))
}

/// Says once which folders were passed over, unless that is the root after all.
fn warn_of(passed: &[PathBuf], root: &Path) {
    static SAID: Once = Once::new();
    let same = |a: &Path, b: &Path| a == b || std::fs::canonicalize(a).ok() == std::fs::canonicalize(b).ok();
    let others: Vec<&PathBuf> = passed.iter().filter(|folder| !same(folder, root)).collect();
    if others.is_empty() || completion::is_asked() {
        return;
    }
    SAID.call_once(|| {
        for folder in others {
            render::say(&format!(
                "warning: the storage folder {} is passed over, since it was made elsewhere and its configuration names commands to run; only if you trust it, name it once: --root {}",
                render::safe_line(&folder.display().to_string()),
                render::quoted(folder),
            ));
        }
    });
}

fn default_root(named: Option<&Located>) -> Result<(PathBuf, Why), Failure> {
    let located = match named {
        Some(named) => Some(named.clone()),
        None => locate::home()?,
    };
    let config = Config::read(located.as_ref())?;
    if let Some(root) = config.root() {
        return Ok((root, Why::Configured));
    }
    let home = std::env::home_dir().map(|_| (home_path("~/run-agent"), Why::Default));
    home.ok_or_else(|| {
        Failure::usage("there is no home folder; name the storage folder with --root or JRUN_ROOT")
    })
}

/// How a command opens a root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// It makes a root that is not there.
    pub(crate) makes: bool,
    /// It reads the configuration itself, and tells of a mistake in it.
    pub(crate) quiet: bool,
    /// An agent of this root calls.
    pub(crate) agent: bool,
}

/// Refuses a root that is another user's or another store's, makes one that is not there if the command does so, and
/// gives the storage settings in force. Where the configuration is the same as before this costs one look at it.
pub(crate) fn open(
    layout: &Layout,
    named: Option<&Located>,
    why: Why,
    manner: Manner,
) -> Result<StoreFile, Failure> {
    let folder = own(layout.root(), manner.makes)?;
    let path = layout.store_file();
    match StoreFile::read(&path)? {
        Some(mut file) => {
            // Whoever comes this far was told of this root or knows it: a root that was moved or brought back from a
            // copy is one again.
            let elsewhere = file.folder != folder;
            file.folder = folder;
            if !is_current(&file, layout, named) {
                return refresh(layout, &path, file, named, manner, elsewhere);
            }
            if elsewhere {
                let _ = file.replace(&path);
            }
            Ok(file)
        }
        None => match stores::found_in(layout)? {
            // It lost its own file, or another tool made it: a project or task in it has a bus.
            Some(held) => first_use(layout, &path, named, folder, Some(held)),
            None if manner.makes => first_use(layout, &path, named, folder, None),
            // Nobody said that there is one.
            None if why == Why::Default => Ok(StoreFile::unmade(Backend::of_new_root())),
            None => Err(no_root(layout)),
        },
    }
}

/// A name that leads to no root is a slip: nothing is made of it by a command that only looks.
fn no_root(layout: &Layout) -> Failure {
    Failure::not_found(format!("{} is no storage folder", layout.root().display()))
        .hint("look at its name; one is made by `task`, `job`, `wrap`, `bus post`, `config init` and `demo`")
}

/// The storage settings of a root that is only looked at, and what is wrong with the file that says them.
pub(crate) fn examine(layout: &Layout, why: Why) -> Result<(StoreFile, Option<Finding>), Failure> {
    own(layout.root(), false)?;
    let path = layout.store_file();
    let error = match StoreFile::read(&path) {
        Ok(Some(file)) => return Ok((file, None)),
        Ok(None) => None,
        Err(error @ (StoreFileError::Garbled { .. } | StoreFileError::NoVersion { .. })) => Some(error),
        Err(error) => return Err(error.into()),
    };
    match (stores::found_in(layout)?, error) {
        (Some(held), None) => Ok((StoreFile::unmade(held), Some(Finding::StoreFileMissing { path }))),
        // What holds buses is read as such.
        (Some(held), Some(error)) => {
            let why = error.to_string();
            Ok((StoreFile::unmade(held), Some(Finding::StoreFileBroken { path, why })))
        }
        (None, None) if why == Why::Default => Ok((StoreFile::unmade(Backend::of_new_root()), None)),
        (None, None) => Err(no_root(layout)),
        (None, Some(error)) => Err(error.into()),
    }
}

/// The storage settings in force in a root that is there, as they were last written down.
pub(crate) fn settled(layout: &Layout) -> Result<StoreFile, Failure> {
    StoreFile::read(&layout.store_file())?.ok_or_else(|| no_root(layout))
}

/// The identity of the root's folder, which is this user's own. `make`: it is made if it is not there.
fn own(root: &Path, make: bool) -> Result<Option<String>, Failure> {
    match std::fs::metadata(root) {
        Ok(meta) if !meta.is_dir() => Err(Failure::usage(format!("{} is not a folder", root.display()))),
        Ok(meta) => {
            let me = nix::unistd::geteuid().as_raw();
            if meta.uid() == me {
                return Ok(identity(&meta));
            }
            Err(Failure::new(
                Exit::Failed,
                format!(
                    "{} belongs to user {}, and this is user {me}; run as its owner, or name another folder with --root",
                    root.display(),
                    meta.uid()
                ),
            ))
        }
        Err(_) if !make => Ok(None),
        Err(_) => std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .and_then(|()| std::fs::metadata(root))
            .map(|meta| identity(&meta))
            .map_err(|e| Failure::io(format!("cannot make the storage folder {}", root.display()), &e)),
    }
}

/// Whether the settings are those of the configuration that counts here. Only the file that they were taken from is
/// looked at; one that appears where it would win is found by the next command that needs the configuration itself.
fn is_current(file: &StoreFile, layout: &Layout, named: Option<&Located>) -> bool {
    let Some(seen) = &file.config else { return false };
    let counts = match named {
        Some(named) => seen.named && seen.path == named.path,
        None => {
            let folder = seen.path.parent();
            let ours = folder == Some(layout.root()) || folder == locate::home_folder().as_deref();
            !seen.named && ours
        }
    };
    counts && seen.still_is()
}

/// The settings of the file that counts, and that file with what it says.
struct Found {
    settings: StoreFile,
    config: Config,
    located: Option<Located>,
}

fn find(layout: &Layout, named: Option<&Located>) -> Result<Found, Trouble> {
    let located = locate::find(named, layout.root()).map_err(Trouble::Refused)?;
    let absent = || Seen::now(&layout.config_file(), false);
    let seen = located.as_ref().map_or_else(absent, |found| Seen::now(&found.path, found.why.is_named()));
    let config = Config::read(located.as_ref());
    let config = config.map_err(|unusable| match unusable {
        // A file that was named and cannot be read is a slip of the caller's.
        Unusable::Unread(_) if named.is_some() => Trouble::Refused(unusable.into()),
        Unusable::Unread(_) | Unusable::Wrong { .. } => Trouble::Broken(unusable.line(), unusable.into()),
    })?;
    Ok(Found { settings: StoreFile::of(&config, seen), config, located })
}

enum Trouble {
    /// The configuration has a mistake: on one line, and in full.
    Broken(String, Failure),
    /// What is asked for cannot be.
    Refused(Failure),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Broken(_, failure) | Trouble::Refused(failure) => failure,
        }
    }
}

/// Takes the settings of a configuration that has changed. A mistake in it costs nobody the bus: the settings that were
/// in force stay so. An agent goes on whatever is wrong, since it can mend nothing of it.
fn refresh(
    layout: &Layout,
    path: &Path,
    old: StoreFile,
    named: Option<&Located>,
    manner: Manner,
    elsewhere: bool,
) -> Result<StoreFile, Failure> {
    let found = find(layout, named).and_then(|found| {
        same_backend(old.backend, &found.config, found.located.as_ref()).map_err(Trouble::Refused)?;
        Ok(found.settings)
    });
    let why = match found {
        Ok(new) => {
            let new = new.taken_into(&old);
            if new != old || elsewhere {
                // Where it cannot be written the settings hold all the same, and the next process looks again.
                let _ = new.replace(path);
            }
            return Ok(new);
        }
        Err(Trouble::Broken(line, _)) => line,
        Err(Trouble::Refused(failure)) if manner.agent => failure.line(),
        Err(Trouble::Refused(failure)) => return Err(failure),
    };
    if elsewhere {
        let _ = old.replace(path);
    }
    if !manner.quiet {
        render::say(&format!("warning: {why} (the storage settings that were in force stay)"));
    }
    Ok(old)
}

/// A root's store is decided once; a configuration that asks for another one does not change it.
fn same_backend(held: Backend, config: &Config, located: Option<&Located>) -> Result<(), Failure> {
    let Some(asked) = config.backend().filter(|asked| *asked != held) else { return Ok(()) };
    let (asked, held) = (asked.name(), held.name());
    Err(Failure::usage(format!(
        "{}storage.backend = \"{asked}\", but this root holds its events in the store `{held}`; keep that, or move them with `run-agent store migrate --to {asked}`",
        backend_place(config, located),
    )))
}

/// `path:line:column: `
fn backend_place(config: &Config, located: Option<&Located>) -> String {
    match (located, config.backend_place()) {
        (Some(found), Some(Place { line, column })) => format!("{}:{line}:{column}: ", found.path.display()),
        _ => String::new(),
    }
}

/// A new root takes its store from the configuration, so one with a mistake is an error here. `held`: the store whose
/// files lie in it already.
fn first_use(
    layout: &Layout,
    path: &Path,
    named: Option<&Located>,
    folder: Option<String>,
    held: Option<Backend>,
) -> Result<StoreFile, Failure> {
    let Found { settings: mut new, config, located } = find(layout, named)?;
    new.folder = folder;
    if let Some(held) = held {
        same_backend(held, &config, located.as_ref())?;
        new.backend = held;
    }
    let cannot = |path: &Path, e| Failure::io(format!("cannot write {}", path.display()), &e);
    if located.is_none() {
        let config = layout.config_file();
        create_new(&config, stub::stub(Form::Hcl).as_bytes()).map_err(|e| cannot(&config, e))?;
        new.config = Some(Seen::made(&config));
    }
    let own = layout.root().join(OWN_FOLDER);
    std::fs::create_dir_all(&own).map_err(|e| cannot(&own, e))?;
    if new.create(path).map_err(|e| cannot(path, e))? {
        return Ok(new);
    }
    // Another process was first.
    Ok(StoreFile::read(path)?.unwrap_or(new))
}

/// The settings that whoever reads the configuration found, for those who do not.
pub(crate) fn adopt(layout: &Layout, located: Option<&Located>, config: &Config) -> Result<(), Failure> {
    let path = layout.store_file();
    let Some(old) = StoreFile::read(&path)? else { return Ok(()) };
    let place = located.map_or_else(|| layout.config_file(), |found| found.path.clone());
    if old.config.as_ref().is_some_and(|seen| seen.path == place) {
        return Ok(());
    }
    let seen = Seen::now(&place, located.is_some_and(|found| found.why.is_named()));
    let new = StoreFile::of(config, seen).taken_into(&old);
    same_backend(old.backend, config, located)?;
    let _ = new.replace(&path);
    Ok(())
}
