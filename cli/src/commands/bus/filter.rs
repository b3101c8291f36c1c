//! Which messages are wanted.

use clap::Args;
use clap_complete::ArgValueCompleter as Complete;
use run_agent_core::{Kind, Message, RunId};

use crate::client::Place;
use crate::commands::completion::runs;
use crate::error::Failure;
use crate::find;

// Which messages are wanted, on a command line.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FilterArgs {
    /// Only these types; repeatable
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    kinds: Vec<String>,
    /// Only what this run posted
    #[arg(long, value_name = "RUN", add = Complete::new(runs))]
    from_run: Option<String>,
    /// Only messages whose text contains this (with --full, their attachments' too)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    grep: Option<String>,
}

#[derive(Debug)]
pub(super) struct Filter {
    kinds: Vec<Kind>,
    run: Option<RunId>,
    text: Option<String>,
}

impl Filter {
    pub(super) fn new(args: &FilterArgs) -> Result<Self, Failure> {
        Ok(Self {
            kinds: kinds(&args.kinds)?,
            run: args.from_run.as_deref().map(RunId::parse).transpose()?,
            text: args.grep.clone(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.run.is_none() && self.text.is_none()
    }

    /// As the server is asked for what the same filter lets through.
    pub(super) fn asked(&self, place: Place) -> Place {
        let kinds: Vec<&str> = self.kinds.iter().map(Kind::as_str).collect();
        let kinds = Some(kinds.join(",")).filter(|kinds| !kinds.is_empty());
        place
            .with_some("type", kinds)
            .with_some("run", self.run.as_ref())
            .with_some("text", self.text.as_ref())
    }

    /// What may be a slip in the types, for whoever finds nothing.
    pub(super) fn notes(&self) -> Vec<String> {
        self.kinds.iter().filter_map(find::note_on_type).collect()
    }

    /// What the envelope alone decides.
    pub(super) fn wants(&self, message: &Message) -> bool {
        let content = &message.content;
        (self.kinds.is_empty() || self.kinds.contains(&content.kind))
            && (self.run.is_none() || self.run == content.run)
    }

    /// What one of the message's texts decides.
    pub(super) fn wants_text<'a>(&self, mut texts: impl Iterator<Item = &'a str>) -> bool {
        self.text.as_ref().is_none_or(|wanted| texts.any(|text| text.contains(wanted.as_str())))
    }
}

/// The types that `--type` names.
pub(super) fn kinds(words: &[String]) -> Result<Vec<Kind>, Failure> {
    words.iter().map(|kind| Ok(Kind::parse(kind)?)).collect()
}
