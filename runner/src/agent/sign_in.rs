//! How agents sign in at their providers, as far as that can be seen without asking anybody (`docs/agents.md`, "Signing
//! in"). What is found here is never read for its value, but for the words that tell what it is.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Setup;
use crate::files;

/// Where is looked.
pub struct Around<'a> {
    /// The variables that the agent would be started with.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The folder that it would work in.
    pub cwd: &'a Path,
}

impl std::fmt::Debug for Around<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Around").field("cwd", &self.cwd).finish_non_exhaustive()
    }
}

/// What an agent signs in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignIn {
    /// The token of its configuration.
    Token,
    Variable(String),
    /// What its own login or settings left.
    File(PathBuf),
    /// Nothing was found, and it may well need nothing: why.
    Unknown(&'static str),
    /// Nothing was found. The variables in which a token would be taken.
    Missing(Vec<String>),
}

/// What tells that a CLI of others can sign in by itself.
#[derive(Default)]
pub(super) struct Traces<'a> {
    /// Those that carry its token, the usual one first.
    pub(super) tokens: &'a [&'a str],
    /// Those that stand for another way.
    pub(super) others: &'a [&'a str],
    pub(super) files: Vec<Trace>,
}

/// A file that tells it: by being there, or by one of these words.
pub(super) struct Trace {
    path: PathBuf,
    words: Vec<String>,
}

/// More of a file is not looked at.
const TRACE_MAX: u64 = 4 << 20;

impl Trace {
    pub(super) fn file(path: PathBuf) -> Self {
        Self { path, words: Vec::new() }
    }

    pub(super) fn words(path: PathBuf, words: &[&str]) -> Self {
        Self { path, words: words.iter().map(|word| (*word).to_owned()).collect() }
    }

    /// By an entry of this name, in JSON.
    pub(super) fn naming(path: PathBuf, name: &str) -> Self {
        Self { path, words: vec![format!("\"{name}\"")] }
    }

    fn is_there(&self) -> bool {
        let Ok(file) = files::open_regular(&self.path) else { return false };
        let text = text_of(file);
        if self.words.is_empty() {
            !text.is_empty()
        } else {
            self.words.iter().any(|word| text.contains(word))
        }
    }
}

fn text_of(file: File) -> String {
    let mut bytes = Vec::new();
    let _ = file.take(TRACE_MAX).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Around<'_> {
    /// A variable that says something.
    fn says(&self, setup: &Setup, name: &str) -> Option<String> {
        let own = setup.env.get(name).cloned();
        own.or_else(|| (self.variable)(name)).filter(|value| !value.trim().is_empty())
    }

    /// The folder that a variable names, else this one below the home folder.
    pub(super) fn folder(&self, setup: &Setup, variable: &str, below_home: &str) -> PathBuf {
        let home = || PathBuf::from(self.says(setup, "HOME").unwrap_or_default());
        self.says(setup, variable).map_or_else(|| home().join(below_home), PathBuf::from)
    }

    pub(super) fn home(&self, setup: &Setup) -> PathBuf {
        PathBuf::from(self.says(setup, "HOME").unwrap_or_default())
    }
}

impl Setup {
    pub(super) fn sign_in(&self, around: &Around<'_>, traces: &Traces<'_>) -> SignIn {
        if self.token.is_some() {
            return SignIn::Token;
        }
        let tokens: Vec<&str> = match &self.token_env {
            Some(own) => std::iter::once(own.as_str()).chain(traces.tokens.iter().copied()).collect(),
            None => traces.tokens.to_vec(),
        };
        let mut named = tokens.iter().chain(traces.others);
        if let Some(name) = named.find(|name| around.says(self, name).is_some()) {
            return SignIn::Variable((*name).to_owned());
        }
        if let Some(trace) = traces.files.iter().find(|trace| trace.is_there()) {
            return SignIn::File(trace.path.clone());
        }
        if self.base_url.is_some() {
            return SignIn::Unknown("another endpoint is set, which may ask for nothing");
        }
        SignIn::Missing(tokens.into_iter().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests;
