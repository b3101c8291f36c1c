//! What the configuration says of an agent of a type that this tool knows.

use std::collections::BTreeMap;
use std::fmt;

use super::{AgentError, Call, Stream, locate};

/// One agent's own settings.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Setup {
    pub name: String,
    pub model: Option<String>,
    /// Another endpoint for the agent's API.
    pub base_url: Option<String>,
    /// Added to the command line, or to the request.
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub token: Option<String>,
    /// The token's variable, where it is not the agent's usual one.
    pub token_env: Option<String>,
    /// Older ones of the agent's program are warned of.
    pub min_version: Option<String>,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, model, base_url, args, env, token, token_env, min_version } = self;
        let names: Vec<&String> = env.keys().collect();
        f.debug_struct("Setup")
            .field("name", name)
            .field("model", model)
            .field("base_url", base_url)
            .field("args", args)
            // Values may be secrets.
            .field("env", &names)
            .field("token", &token.as_ref().map(|_| "…"))
            .field("token_env", token_env)
            .field("min_version", min_version)
            .finish()
    }
}

impl Setup {
    /// The call of a program that prints a stream of its own form. `argv` begins with the program's name, and the token is
    /// given in these variables; what the operator sets for the agent wins over what the module sets.
    pub(super) fn call(
        &self,
        argv: Vec<String>,
        token_in: &[&str],
        env: impl IntoIterator<Item = (&'static str, String)>,
        stream: Stream,
    ) -> Result<Call, AgentError> {
        let mut argv = argv;
        if let Some(program) = argv.first_mut() {
            *program = locate(&self.name, program)?;
        }
        let mut all: BTreeMap<String, String> =
            env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if let Some(token) = &self.token {
            let names = self.token_env.as_deref().map_or(token_in.to_vec(), |own| vec![own]);
            all.extend(names.into_iter().map(|name| (name.to_owned(), token.clone())));
        }
        all.extend(self.env.clone());
        Ok(Call { argv, env: all, stream: Some(stream), ..Call::default() })
    }
}

/// A command line, word by word.
#[derive(Debug)]
pub(super) struct Words(Vec<String>);

impl Words {
    pub(super) fn new(words: &[&str]) -> Self {
        Self(words.iter().map(|word| (*word).to_owned()).collect())
    }

    pub(super) fn add(mut self, words: &[&str]) -> Self {
        self.0.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// `flag value`, where there is a value.
    pub(super) fn flag(self, flag: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.add(&[flag, value]),
            None => self,
        }
    }

    pub(super) fn all(mut self, words: &[String]) -> Self {
        self.0.extend_from_slice(words);
        self
    }

    pub(super) fn done(self) -> Vec<String> {
        self.0
    }
}
