//! `inbox`: what needs a person, over all projects, and answering it.
//!
//! | question | file |
//! | --- | --- |
//! | what is there? | `item` |
//! | how is it shown? | `show` |
//! | how is a question answered? | `answer` |

mod answer;
mod item;
mod show;

use std::ffi::OsStr;

use clap::{Args, Subcommand};
use clap_complete::CompletionCandidate as Candidate;
use run_agent_core::inbox::Need;

use crate::args::{Global, Verb};
use crate::context::Context;
use crate::error::{Exit, Outcome};
use crate::render;

use item::Item;
pub(crate) use item::is_left_alone;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Open questions, those first for which somebody waits; loops that gave up, that nobody drives any more, or \
        that wait for a task which failed, or whose budget is used up; agents whose account is refused; runs that give no sign of life. A loop that gave up stays until it is taken up again, \
        or `run-agent done` says that it is settled.\n\nExample:\n  run-agent inbox --project shop"
)]
pub(crate) struct InboxArgs {
    #[command(subcommand)]
    command: Option<InboxCommand>,
    /// The first N; 0 for all [default: 50 on a terminal, else all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Debug, Subcommand)]
enum InboxCommand {
    /// Answer an open question
    Answer(Verb<answer::AnswerArgs>),
}

pub(crate) fn run(global: &Global, args: &InboxArgs) -> Outcome {
    if let Some(InboxCommand::Answer(answer)) = &args.command {
        return answer::run(global, answer);
    }
    let context = Context::open(global)?;
    let found = item::all(&context)?;
    show::show(&context, &found.items, args.limit)?;
    Ok(if found.all_read { Exit::Done } else { Exit::Failed })
}

/// Ids of open questions, for a shell that asks for names.
pub(crate) fn questions(context: &Context, current: &OsStr) -> Vec<Candidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let offer = |item: &Item| match &item.need {
        item::What::Need(Need::Question { msg_id, text, .. }) if msg_id.as_str().starts_with(current) => {
            let line = text.lines().next().unwrap_or_default();
            Some(Candidate::new(msg_id.to_string()).help(Some(render::safe_line(line).into())))
        }
        item::What::Need(_) | item::What::NoDriver => None,
    };
    item::kept(context).iter().filter_map(offer).collect()
}
