//! What every command takes, and how it comes to it: the flags that mean the same everywhere, and arguments that are
//! built when their command is called.

use std::ops::Deref;
use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches, ValueEnum};
use clap_complete::ArgValueCompleter as Complete;

use crate::commands::completion::{projects, tasks};

/// The arguments of one command: built when it is called and not before, together with the flags that mean the same
/// everywhere.
#[derive(Debug)]
pub(crate) struct Verb<A>(A);

impl<A> Deref for Verb<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.0
    }
}

impl<A: FromArgMatches> FromArgMatches for Verb<A> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        A::from_arg_matches(matches).map(Self)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        A::from_arg_matches_mut(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl<A: Args> Args for Verb<A> {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.defer(|command| {
            // What a flattened struct says about itself is not what the command is about.
            let about = command.get_about().cloned();
            let command = Global::augment_args(A::augment_args(command));
            match about {
                Some(about) => command.about(about),
                None => command,
            }
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Storage folder [default: $JRUN_ROOT, else ~/run-agent]
    #[arg(long, value_name = "DIR", help_heading = "Everywhere")]
    pub(crate) root: Option<PathBuf>,
    /// Configuration file [default: ~/.config/run-agent/config.hcl]
    #[arg(long, value_name = "FILE", help_heading = "Everywhere")]
    pub(crate) config: Option<PathBuf>,
    /// Project [default: the caller's, or the working folder's]
    #[arg(long, value_name = "NAME", help_heading = "Everywhere", add = Complete::new(projects))]
    pub(crate) project: Option<String>,
    /// Task, by id, slug or unique prefix [default: as for --project]
    #[arg(long, value_name = "TASK", help_heading = "Everywhere", add = Complete::new(tasks))]
    pub(crate) task: Option<String>,
    /// Print results and errors as JSON
    #[arg(long, help_heading = "Everywhere")]
    pub(crate) json: bool,
    /// Colours: auto, always or never [default: auto]
    #[arg(long, value_name = "WHEN", value_enum, help_heading = "Everywhere", hide_possible_values = true)]
    pub(crate) color: Option<When>,
    /// Tell the causes of an error, and what happens on the way
    #[arg(long, short, help_heading = "Everywhere")]
    pub(crate) verbose: bool,
}

impl Global {
    /// These flags, and those of `outer` where these are silent.
    pub(super) fn over(self, outer: Self) -> Self {
        Self {
            root: self.root.or(outer.root),
            config: self.config.or(outer.config),
            project: self.project.or(outer.project),
            task: self.task.or(outer.task),
            json: self.json || outer.json,
            color: self.color.or(outer.color),
            verbose: self.verbose || outer.verbose,
        }
    }
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}
