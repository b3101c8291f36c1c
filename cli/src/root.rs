//! Which folder is the root, is it ours to use, and which configuration belongs to it.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::args::Global;
use crate::config::{Config, home_path};
use crate::context::variable;
use crate::error::{Exit, Failure};

/// The configuration that a flag or variable names.
pub(crate) fn named_config(flags: &Global) -> Result<Option<PathBuf>, Failure> {
    match flags.config.clone().or_else(|| variable("RUN_AGENT_CONFIG").map(PathBuf::from)) {
        Some(path) if path.is_file() => Ok(Some(path)),
        Some(path) => Err(Failure::usage(format!("the configuration {} is not there", path.display()))),
        None => Ok(None),
    }
}

/// The root that the working folder lies in.
pub(crate) fn root_around() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let is_root =
        |folder: &&Path| folder.join(run_agent_core::layout::OWN_FOLDER).join("store.yaml").is_file();
    here.ancestors().find(is_root).map(Path::to_owned)
}

/// The user's own configuration, if there is one.
pub(crate) fn home_config() -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(".config/run-agent/config.hcl")).filter(|path| path.is_file())
}

pub(crate) fn default_root(named_config: Option<&Path>) -> Result<PathBuf, Failure> {
    let path = named_config.map(Path::to_owned).or_else(home_config);
    let config = Config::read(path.as_deref())?;
    let root = config.storage.root.as_deref().map(home_path);
    root.or_else(|| std::env::home_dir().map(|home| home.join("run-agent"))).ok_or_else(|| {
        Failure::usage("there is no home folder; name the storage folder with --root or JRUN_ROOT")
    })
}

/// Makes the root on first use, and refuses one that is another user's or another store's.
pub(crate) fn prepare_root(root: &Path) -> Result<(), Failure> {
    let own = root.join(run_agent_core::layout::OWN_FOLDER);
    let store = own.join("store.yaml");
    match std::fs::metadata(root) {
        Ok(meta) if !meta.is_dir() => {
            return Err(Failure::usage(format!("{} is not a folder", root.display())));
        }
        Ok(meta) => {
            let me = nix::unistd::geteuid().as_raw();
            if meta.uid() != me {
                return Err(Failure::new(
                    Exit::Failed,
                    format!(
                        "{} belongs to user {}, and this is user {me}; run as its owner, or name another folder with --root",
                        root.display(),
                        meta.uid()
                    ),
                ));
            }
        }
        Err(_) => {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(root)
                .map_err(|e| Failure::io(format!("cannot make the storage folder {}", root.display()), &e))?;
        }
    }
    match read_small(&store) {
        Ok(text) => check_store(&text, &store),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::fs::create_dir_all(&own)
            .and_then(|()| run_agent_runner::files::replace(&store, STORE_YAML.as_bytes(), true))
            .map_err(|e| Failure::io(format!("cannot write {}", store.display()), &e)),
        Err(error) => Err(Failure::io(format!("cannot read {}", store.display()), &error)),
    }
}

/// The beginning of a small file, with one read.
fn read_small(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = [0; 4096];
    let read = std::fs::File::open(path)?.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..read]).into_owned())
}

const STORE_YAML: &str = "version: 1\nbackend: \"fs\"\nformat: 1\n";

fn check_store(text: &str, path: &Path) -> Result<(), Failure> {
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
            .map(|v| v.trim().trim_matches('"').to_owned())
    };
    match (value("version").as_deref(), value("backend").as_deref()) {
        (Some("1"), Some("fs")) => Ok(()),
        (Some("1"), Some(backend)) => Err(Failure::usage(format!(
            "{}: this root holds its events in a `{backend}` store, which this version does not read; it reads `fs` (see `run-agent store migrate` of the version that wrote it)",
            path.display()
        ))),
        (Some(version), _) => Err(Failure::usage(format!(
            "{}: version {version} is newer than this program knows; update run-agent",
            path.display()
        ))),
        (None, _) => {
            Err(Failure::usage(format!("{}: it says no version; is this a run-agent root?", path.display())))
        }
    }
}
