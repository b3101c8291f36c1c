//! What the configuration says of an agent of a type that this tool knows.

use std::collections::BTreeMap;
use std::fmt;

use reqwest::Url;

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
    /// What can be seen to be wrong with the settings of an agent of any type.
    pub(super) fn check(&self) -> Result<(), AgentError> {
        match self.base_url.as_deref().map(address) {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(why)) => Err(self.wrong(why)),
        }
    }

    pub(super) fn wrong(&self, why: String) -> AgentError {
        AgentError::Settings { agent: self.name.clone(), why }
    }

    /// The variables that its token is given in: its own, where it has one.
    pub(super) fn token_variables<'a>(&'a self, usual: &[&'a str]) -> Vec<&'a str> {
        self.token_env.as_deref().map_or(usual.to_vec(), |own| vec![own])
    }

    pub(super) fn secrets(&self) -> Vec<String> {
        self.token.iter().cloned().collect()
    }

    /// What the settings give the agent: its token in these variables, and over that what the operator sets.
    pub(super) fn env(&self, token_in: &[&str]) -> BTreeMap<String, String> {
        let token = self.token.iter().flat_map(|token| {
            self.token_variables(token_in).into_iter().map(|name| (name.to_owned(), token.clone()))
        });
        token.chain(self.env.clone()).collect()
    }

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
        all.extend(self.env(token_in));
        Ok(Call { argv, env: all, stream: Some(stream), secrets: self.secrets(), ..Call::default() })
    }
}

/// The address of an interface. It is shown in events, and in lists of processes: no secret may lie in it.
pub(super) fn address(base_url: &str) -> Result<Url, String> {
    let wrong = |why: &str| format!("base_url is no address of an interface: {why}");
    let url = Url::parse(base_url).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("it begins neither with https:// nor with http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it has a name or a password in it; the token is a setting of its own"));
    }
    Ok(url)
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
