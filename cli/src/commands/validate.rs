//! `validate`: which agents can be started here: where their programs are, of which version, what they sign in with, and
//! whether the providers of REST agents answer. Nothing is started but `--version`, and no token is shown.

mod network;
mod show;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap_complete::ArgValueCompleter as Complete;
use run_agent_core::policy::versions::{can_be_compared, is_older};
use run_agent_runner::agent::{Backend, SignIn};
use run_agent_runner::interrupt::Interrupt;
use run_agent_runner::versions::{NoAnswer, Stamp, Versions, ask_all};
use serde::Serialize;

use self::network::Network;
use super::completion::possible_agents;
use super::sign_in;
use crate::args::Global;
use crate::config::agent::GivenToken;
use crate::config::schema::AGENT_TYPES;
use crate::config::{Config, schema::AGENT};
use crate::context::{Context, here};
use crate::error::{Exit, Failure, Outcome};
use crate::render;

/// How long a program may take to say its version: the slowest takes four seconds where nothing else is going on.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without names: the agents of agents.order and of the blocks of the configuration, and those that \
        are installed besides. Exit codes: 0 all that are named or configured can be started; 1 one cannot, or none is left to \
        start without a name; 130 it was interrupted. Whether the configuration itself is right says `run-agent config validate`.\n\n\
        Examples:\n  run-agent validate --check-tokens\n  run-agent validate xai --check-network"
)]
pub(crate) struct ValidateArgs {
    /// Only these agents
    #[arg(value_name = "AGENT", add = Complete::new(possible_agents))]
    agents: Vec<String>,
    /// Look for a token or login of each agent too; none is used or shown
    #[arg(long)]
    check_tokens: bool,
    /// Make one real, paid request to the provider of each REST agent (xai, perplexity): a small one, once, for half a
    /// minute at most
    #[arg(long)]
    check_network: bool,
}

/// What was found of one agent.
#[derive(Debug, Serialize)]
struct Found {
    agent: String,
    #[serde(rename = "type")]
    kind: String,
    /// Somebody named it, here or in the configuration: what is wrong with it counts.
    configured: bool,
    usable: bool,
    program: Option<PathBuf>,
    version: Option<String>,
    min_version: Option<String>,
    too_old: bool,
    /// Only where it was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    sign_in: Option<Means>,
    /// Only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<Network>,
    problems: Vec<String>,
    warnings: Vec<String>,
    #[serde(skip)]
    backend: Option<Box<dyn Backend>>,
}

/// What an agent signs in with.
#[derive(Debug, Serialize)]
#[serde(tag = "from", rename_all = "snake_case")]
enum Means {
    Config,
    TokenFile {
        path: PathBuf,
    },
    Variable {
        name: String,
    },
    /// What its own login or settings left.
    Login {
        path: PathBuf,
    },
    /// Nothing was found, and it may need nothing.
    Unknown {
        why: &'static str,
    },
    NoneNeeded,
    Missing,
}

pub(crate) fn run(global: &Global, args: &ValidateArgs) -> Outcome {
    let context = Context::open_to_steer(global)?;
    let config = context.config()?;
    let mut all = find(config, &args.agents)?;
    let interrupt = Interrupt::listen().map_err(|e| Failure::io("cannot listen for signals", &e))?;
    if !ask(&context, &mut all, &interrupt) {
        return Ok(Exit::Interrupted);
    }
    if args.check_tokens {
        let cwd = here()?;
        all.iter_mut().for_each(|found| found.look_for_sign_in(config, &cwd));
    }
    if args.check_network && !network::check(&mut all, &interrupt) {
        return Ok(Exit::Interrupted);
    }
    for found in &mut all {
        found.usable = found.problems.is_empty();
    }
    let none = none_left(config, args, &all);
    let good = none.is_none() && all.iter().all(|found| found.usable || !found.configured);
    if context.json {
        render::json(&serde_json::json!({ "usable": good, "problem": none, "agents": all }))?;
    } else {
        show::show(args, &all, none.as_deref())?;
    }
    Ok(if good { Exit::Done } else { Exit::Failed })
}

/// The agents to look at, those that are configured first.
fn find(config: &Config, named: &[String]) -> Result<Vec<Found>, Failure> {
    if !named.is_empty() {
        let mut all: Vec<Found> = Vec::new();
        for name in named {
            // A name that is none is a mistake of the call.
            if !config.written_agents().contains(name) && !AGENT_TYPES.contains(&name.as_str()) {
                config.agent(name)?;
            }
            if all.iter().all(|found| found.agent != *name) {
                all.push(Found::of(config, name, true));
            }
        }
        return Ok(all);
    }
    let written = config.written_agents();
    let mut all: Vec<Found> = written.iter().map(|name| Found::of(config, name, true)).collect();
    let others = AGENT_TYPES.iter().filter(|name| written.iter().all(|written| written != *name));
    let others = others.map(|name| Found::of(config, name, false));
    // What nobody asked for is told where it could be used.
    all.extend(others.filter(|found| found.problems.is_empty()));
    Ok(all)
}

impl Found {
    fn of(config: &Config, name: &str, configured: bool) -> Self {
        let mut found = Self {
            agent: name.to_owned(),
            kind: config.type_of(name),
            configured,
            usable: false,
            program: None,
            version: None,
            min_version: None,
            too_old: false,
            sign_in: None,
            network: None,
            problems: Vec::new(),
            warnings: Vec::new(),
            backend: None,
        };
        match config.agent(name) {
            Ok(backend) => {
                match backend.path() {
                    Ok(path) => found.program = path.and_then(|path| std::path::absolute(path).ok()),
                    Err(error) => {
                        let install = how_to_install(&found.kind);
                        found.problems.push(without_name(name, &error.to_string()) + &install);
                    }
                }
                // Settings that are wrong, or what one without a program needs instead: nothing is started without.
                if found.problems.is_empty()
                    && let Err(error) = backend.is_there()
                {
                    found.problems.push(without_name(name, &error.to_string()));
                }
                let min = backend.program().map(|program| program.min_version.to_owned());
                found.min_version = min.filter(|min| !min.is_empty());
                found.backend = Some(backend);
            }
            Err(failure) => found.problems.push(without_name(name, failure.text())),
        }
        if let Some(min) = found.min_version.as_ref().filter(|min| !can_be_compared(min)) {
            let setting = format!("{AGENT} \"{name}\"");
            found.warnings.push(format!(
                "min_version = \"{}\" of {setting} is no version such as 1.2.3, so nothing is too old",
                render::value(min)
            ));
        }
        found
    }

    /// The program that is asked for its version.
    fn versioned(&self) -> Option<&Path> {
        self.backend.as_ref()?.program()?;
        self.program.as_deref()
    }

    fn hear(&mut self, answer: &Result<String, NoAnswer>) {
        match answer {
            Ok(version) => {
                let min = self.min_version.clone().unwrap_or_default();
                self.too_old = is_older(version, &min);
                if self.too_old {
                    self.warnings.push(format!(
                        "version {version} is older than {min}: what it says may not be understood; update it"
                    ));
                }
                self.version = Some(version.clone());
            }
            // Whoever cannot even say its version does no work either.
            Err(NoAnswer::NotStarted(_)) => self.problems.push(why(answer)),
            Err(_) => self.warnings.push(format!("its version is not known: {}", why(answer))),
        }
    }

    fn look_for_sign_in(&mut self, config: &Config, cwd: &Path) {
        let Some(backend) = &self.backend else { return };
        let given = config.given_token(&self.agent);
        self.sign_in = Some(match sign_in::of(backend.as_ref(), cwd) {
            None => Means::NoneNeeded,
            Some(SignIn::Token) => match given {
                Some(GivenToken::File { path, .. }) => Means::TokenFile { path },
                Some(GivenToken::Here(_)) | None => Means::Config,
            },
            Some(SignIn::Variable(name)) => Means::Variable { name },
            Some(SignIn::File(path)) => Means::Login { path },
            Some(SignIn::Unknown(why)) => Means::Unknown { why },
            Some(SignIn::Missing(variables)) => {
                let how = sign_in::how_to(config, &self.agent, &variables);
                self.problems.push(format!("no token and no login were found; {how}"));
                Means::Missing
            }
        });
    }
}

/// How people mostly come to the program of an agent of this type.
fn how_to_install(kind: &str) -> String {
    let package = match kind {
        "claude" => "@anthropic-ai/claude-code",
        "codex" => "@openai/codex",
        "gemini" => "@google/gemini-cli",
        "opencode" => "opencode-ai",
        _ => return String::new(),
    };
    format!(" (`npm install -g {package}`)")
}

fn why(answer: &Result<String, NoAnswer>) -> String {
    answer.as_ref().err().map(ToString::to_string).unwrap_or_default()
}

/// An error without the agent's name, which stands before it.
fn without_name(name: &str, text: &str) -> String {
    text.strip_prefix(&format!("agent `{name}`: ")).unwrap_or(text).to_owned()
}

/// Asks every program for its version, and keeps the answers. False: interrupted.
fn ask(context: &Context, all: &mut [Found], interrupt: &Interrupt) -> bool {
    let mut programs: Vec<PathBuf> = all.iter().filter_map(Found::versioned).map(Path::to_owned).collect();
    programs.sort();
    programs.dedup();
    if programs.is_empty() {
        return true;
    }
    let progress = render::progress(format!(
        "asking {} for their versions",
        render::count(programs.len() as u64, "program")
    ));
    let stamps: Vec<_> = programs.iter().map(|program| Stamp::of(program)).collect();
    let answers = ask_all(programs.iter().map(PathBuf::as_path), LIMIT, interrupt);
    drop(progress);
    if answers.iter().any(|answer| matches!(answer, Err(NoAnswer::GivenUp))) {
        return false;
    }
    let layout = &context.tree.layout;
    // A root that is not there yet is not made for this.
    let keeps = layout.store_file().exists();
    for ((program, stamp), answer) in programs.iter().zip(stamps).zip(&answers) {
        if let (Some(stamp), true) = (stamp, keeps) {
            Versions::of(layout).keep(program, stamp, answer.as_ref().ok().cloned());
        }
        let of_it = |found: &&mut Found| found.versioned() == Some(program);
        all.iter_mut().filter(of_it).for_each(|found| found.hear(answer));
    }
    true
}

/// Without a name there has to be an agent to take.
fn none_left(config: &Config, args: &ValidateArgs, all: &[Found]) -> Option<String> {
    let order = config.agent_order();
    let usable = |name: &String| all.iter().any(|found| found.agent == *name && found.usable);
    (args.agents.is_empty() && !order.iter().any(usable)).then(|| {
        format!(
            "no agent of agents.order is usable ({}): `task` and `job` need --agent; install one, or set agents.order",
            order.join(", ")
        )
    })
}
