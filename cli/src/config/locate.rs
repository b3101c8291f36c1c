//! Which configuration file it is: the one that `--config` names, else `RUN_AGENT_CONFIG`, else the user's own, else
//! the root's. Never one of the working folder: a repository must not be able to define agents.

use std::path::{Path, PathBuf};

use crate::args::Global;
use crate::context::variable;
use crate::error::Failure;

/// A configuration file, and why it is that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) path: PathBuf,
    pub(crate) why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Flag,
    Variable,
    Home,
    Root,
}

impl Why {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Flag => "--config",
            Self::Variable => "RUN_AGENT_CONFIG",
            Self::Home => "the user's own configuration",
            Self::Root => "the root's configuration",
        }
    }

    /// Whether the caller named the file.
    pub(crate) fn is_named(self) -> bool {
        match self {
            Self::Flag | Self::Variable => true,
            Self::Home | Self::Root => false,
        }
    }
}

/// The names that a configuration may have in its folder.
pub(crate) const NAMES: [&str; 3] = ["config.hcl", "config.yaml", "config.yml"];

/// The configuration that a flag or variable names. Whether it is there shows when it is read.
pub(crate) fn named(flags: &Global) -> Result<Option<Located>, Failure> {
    let flag = flags.config.clone().map(|path| (path, Why::Flag));
    let named = flag.or_else(|| variable("RUN_AGENT_CONFIG").map(|path| (path.into(), Why::Variable)));
    let Some((path, why)) = named else { return Ok(None) };
    let path = std::path::absolute(&path).map_err(|e| Failure::io(path.display(), &e))?;
    Ok(Some(Located { path, why }))
}

/// The folder of the user's own configuration.
pub(crate) fn home_folder() -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(".config/run-agent"))
}

/// The user's own configuration, if there is one.
pub(crate) fn home() -> Result<Option<Located>, Failure> {
    let Some(folder) = home_folder() else { return Ok(None) };
    Ok(in_folder(&folder)?.map(|path| Located { path, why: Why::Home }))
}

/// The file in force for this root, if there is any.
pub(crate) fn find(named: Option<&Located>, root: &Path) -> Result<Option<Located>, Failure> {
    if let Some(named) = named {
        return Ok(Some(named.clone()));
    }
    if let Some(home) = home()? {
        return Ok(Some(home));
    }
    Ok(in_folder(root)?.map(|path| Located { path, why: Why::Root }))
}

/// The configuration in a folder. Two would leave open which one counts.
fn in_folder(folder: &Path) -> Result<Option<PathBuf>, Failure> {
    let mut found = NAMES.iter().map(|name| folder.join(name)).filter(|path| path.symlink_metadata().is_ok());
    match (found.next(), found.next()) {
        (Some(first), Some(second)) => Err(Failure::usage(format!(
            "there are two configurations, {} and {}; keep one",
            first.display(),
            second.display()
        ))),
        (first, _) => Ok(first),
    }
}
