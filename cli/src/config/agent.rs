//! From an agent's name to what is started: its type, command line, variables and token.

use std::io;
use std::path::PathBuf;

use run_agent_runner::agent::{
    AgentError, Backend, Claude, Codex, Command, Gemini, Opencode, Perplexity, Setup, Shell, Xai, perplexity,
    xai,
};

use super::problem::Problem;
use super::schema::AGENT_TYPES;
use super::{Config, home_path};
use crate::error::{Code, Exit, Failure};
use crate::find::near;
use crate::render;

impl Config {
    /// The agent of this name, ready to be started. One whose token is written down and cannot be read is not: it might
    /// work in the name of another account.
    pub(crate) fn agent(&self, name: &str) -> Result<Box<dyn Backend>, Failure> {
        self.agent_with(name, self.token(name))
    }

    /// Is it defined, and its program there, or the token of one that has no program?
    pub(crate) fn is_startable(&self, name: &str) -> bool {
        self.agent(name).is_ok_and(|agent| agent.is_there().is_ok())
    }

    fn agent_with(
        &self,
        name: &str,
        token: Result<Option<String>, Failure>,
    ) -> Result<Box<dyn Backend>, Failure> {
        let defined = self.settings.agents.contains_key(name);
        let kind = self.type_of(name);
        match kind.as_str() {
            "shell" => Ok(Box::new(Shell { name: name.to_owned() })),
            "command" if defined => self.command(name, token?),
            "claude" => Ok(Box::new(Claude(self.setup(name, token?)?))),
            "codex" => Ok(Box::new(Codex(self.setup(name, token?)?))),
            "gemini" => Ok(Box::new(Gemini(self.setup(name, token?)?))),
            "opencode" => Ok(Box::new(Opencode(self.setup(name, token?)?))),
            "xai" => Ok(Box::new(Xai(self.rest(name, token?, xai::TOKEN_ENV)?))),
            "perplexity" => Ok(Box::new(Perplexity(self.rest(name, token?, perplexity::TOKEN_ENV)?))),
            kind if defined || (kind != "command" && AGENT_TYPES.contains(&kind)) => Err(Failure::new(
                Exit::NotFound,
                format!(
                    "agent `{name}`: type `{kind}` is not supported by this version; supported are claude, codex, gemini, opencode, xai, perplexity, shell and command"
                ),
            )),
            _ => {
                let mut known: Vec<&str> = self.settings.agents.keys().map(String::as_str).collect();
                if !known.contains(&"shell") {
                    known.push("shell");
                }
                let near = near(name, known.iter().copied());
                let text = format!(
                    "no agent `{}`; known are: {} (define more in config.hcl)",
                    render::value(name),
                    known.join(", ")
                );
                Err(Failure::not_found(text).code(Code::UnknownAgent).suggest(near))
            }
        }
    }

    fn setup(&self, name: &str, token: Option<String>) -> Result<Setup, Failure> {
        if !self.agent_texts(name, "argv").is_empty() {
            return Err(Failure::usage(format!(
                "agent `{name}`: argv is for agents of the type command; use args, which are added to the command line"
            )));
        }
        Ok(Setup {
            name: name.to_owned(),
            model: self.agent_text(name, "model"),
            base_url: self.agent_text(name, "base_url"),
            args: self.agent_texts(name, "args"),
            env: self.agent_env(name),
            token,
            token_env: self.agent_text(name, "token_env"),
            min_version: self.agent_text(name, "min_version"),
        })
    }

    /// An agent that is asked from here: there is no program that finds a token by itself.
    fn rest(&self, name: &str, token: Option<String>, token_env: &str) -> Result<Setup, Failure> {
        let setup = self.setup(name, token)?;
        let variable = setup.token_env.as_deref().unwrap_or(token_env);
        let from_variable = || std::env::var(variable).ok().filter(|token| !token.trim().is_empty());
        let token = setup.token.clone().or_else(from_variable);
        Ok(Setup { token, ..setup })
    }

    fn command(&self, name: &str, token: Option<String>) -> Result<Box<dyn Backend>, Failure> {
        let mut argv = self.agent_texts(name, "argv");
        if argv.is_empty() {
            return Err(Failure::usage(format!(
                "agent `{name}`: a command agent needs argv = [\"program\", …] in config.hcl"
            )));
        }
        argv.extend(self.agent_texts(name, "args"));
        let setup = Setup {
            name: name.to_owned(),
            env: self.agent_env(name),
            token,
            token_env: self.agent_text(name, "token_env"),
            ..Setup::default()
        };
        if setup.token.is_some() && setup.token_env.is_none() {
            return Err(Failure::usage(format!(
                "agent `{name}`: a token needs token_env, the variable it is given in"
            )));
        }
        Ok(Box::new(Command { argv, setup }))
    }

    /// The agent's token, from the configuration or from a file. Read when the agent is to be started and kept nowhere.
    fn token(&self, name: &str) -> Result<Option<String>, Failure> {
        match self.given_token(name) {
            None => Ok(None),
            Some(GivenToken::Here(token) | GivenToken::File { token: Ok(token), .. }) => Ok(Some(token)),
            Some(GivenToken::File { path, token: Err(error) }) => Err(Failure::usage(format!(
                "agent `{name}`: cannot read its token from {}: {error}; mend or remove that setting",
                path.display()
            ))),
        }
    }

    /// Where the configuration has the agent's token, and what is there.
    pub(crate) fn given_token(&self, name: &str) -> Option<GivenToken> {
        let file = match self.agent_text(name, "token") {
            Some(token) => match token.strip_prefix('@') {
                None => return Some(GivenToken::Here(token)),
                Some(file) => file.to_owned(),
            },
            None => self.agent_text(name, "token_file")?,
        };
        let path = home_path(&file);
        let token = std::fs::read_to_string(&path).map(|token| token.trim().to_owned());
        let empty = || io::Error::new(io::ErrorKind::InvalidData, "it is empty");
        let token = token.and_then(|token| if token.is_empty() { Err(empty()) } else { Ok(token) });
        Some(GivenToken::File { path, token })
    }

    /// Is it defined, or of a type that needs no block?
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.agent_with(name, Ok(None)).is_ok()
    }

    /// The type of the agent of this name, whether there is such a type or not.
    pub(crate) fn type_of(&self, name: &str) -> String {
        self.agent_text(name, "type").unwrap_or_else(|| name.to_owned())
    }

    /// What no file's grammar shows: blocks whose agents cannot be started with the settings that they have.
    pub(crate) fn wrong_agents(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, settings) in &self.settings.agents {
            // What is wrong with its type is told already.
            let Some(at) = settings.values().map(|given| given.at.clone()).min_by_key(|at| at.start) else {
                continue;
            };
            if !AGENT_TYPES.contains(&self.type_of(name).as_str()) {
                continue;
            }
            let what = match self.agent(name) {
                Err(failure) => failure.text().to_owned(),
                Ok(agent) => match agent.is_there() {
                    Err(error @ (AgentError::Settings { .. } | AgentError::NoCommand { .. })) => {
                        error.to_string()
                    }
                    // Of this machine, and not of the file.
                    Ok(())
                    | Err(
                        AgentError::NotFound { .. }
                        | AgentError::NoProgram { .. }
                        | AgentError::NoToken { .. }
                        | AgentError::PromptTooLong { .. },
                    ) => continue,
                },
            };
            problems.push(Problem::new(at, what));
        }
        problems
    }

    /// The agents that somebody wrote down: those that take turns, if they are not the default ones, then the other
    /// blocks.
    pub(crate) fn written_agents(&self) -> Vec<String> {
        let mut names = Vec::new();
        if self.settings.plain.contains_key(&("agents", "order")) {
            names = self.agent_order();
        }
        let others: Vec<String> =
            self.settings.agents.keys().filter(|name| !names.contains(name)).cloned().collect();
        names.extend(others);
        names
    }

    /// Those that take turns, whether they can be started or not.
    pub(crate) fn agent_order(&self) -> Vec<String> {
        self.texts("agents", "order")
    }
}

/// A token that the configuration names.
pub(crate) enum GivenToken {
    Here(String),
    File { path: PathBuf, token: io::Result<String> },
}
