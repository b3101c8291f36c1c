//! `bus`: the messages of a task or a project.
//!
//! | question | file |
//! | --- | --- |
//! | what is posted? | `post`, and `ndjson` for a stream of messages; `fields` for what may stand in it |
//! | what is read, from where, and how does it go on? | `read` |
//! | which messages are wanted? | `filter` |
//! | how is a message shown, with its attachment and with damage around it? | `show` |
//! | where was that said? | `search` |
//! | how does a bus leave this root? | `export` |
//! | which bus is it? | `discover` |
//! | how is one mended by hand? | `edit` |

mod answer;
mod discover;
mod edit;
mod export;
mod fields;
mod filter;
mod ndjson;
mod post;
mod read;
mod search;
mod show;

use clap::{Args, Subcommand};

use std::path::Path;

use run_agent_core::decide::MayAnswer;
use run_agent_core::{Draft, Message, MsgId, StreamKey};
use run_agent_runner::attach;

pub(crate) use search::of_project;

use crate::args::{Global, Verb};
use crate::context::Context;
use crate::error::{Failure, Outcome};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent bus read --task fix-login --tail 5")]
pub(crate) struct BusArgs {
    #[command(subcommand)]
    command: BusCommand,
}

#[derive(Debug, Subcommand)]
enum BusCommand {
    /// Post a message and print its id
    Post(Verb<post::PostArgs>),
    /// Read messages
    Read(Verb<read::ReadArgs>),
    /// Block until something new arrives (`read --wait`)
    Poll(Verb<read::PollArgs>),
    /// Read messages as they come (`read --follow`)
    #[command(visible_alias = "stream")]
    Follow(Verb<read::FollowArgs>),
    /// Find messages by their text
    Search(Verb<search::SearchArgs>),
    /// Write a bus out as markdown, or as one JSON message a line
    Export(Verb<export::ExportArgs>),
    /// Say which bus would be used here, and why
    Discover(Verb<discover::DiscoverArgs>),
    /// Mend a bus in an editor while others go on posting
    Edit(Verb<edit::EditArgs>),
}

pub(crate) fn run(global: &Global, args: &BusArgs) -> Outcome {
    match &args.command {
        BusCommand::Post(args) => post::run(global, args),
        BusCommand::Read(args) => read::run(global, args),
        BusCommand::Poll(args) => read::run(global, &args.polling()),
        BusCommand::Follow(args) => read::run(global, &args.following()),
        BusCommand::Search(args) => search::run(global, args),
        BusCommand::Export(args) => export::run(global, args),
        BusCommand::Discover(_) => discover::run(global),
        BusCommand::Edit(args) => edit::run(global, args),
    }
}

/// Posts the answer to a question in this stream, with a body of any size. `None`: another answer came first.
pub(super) fn answer(
    context: &Context,
    key: &StreamKey,
    question: &MsgId,
    mut draft: Draft,
) -> Result<Option<Message>, Failure> {
    let (stream, durability) = (context.tree.store.open(key)?, context.tree.durability);
    attach::fit(&context.tree, key, &mut draft, durability)?;
    let behind = stream.find(question)?;
    let posted = stream.append_if(behind, &mut MayAnswer::new(question), vec![draft], durability)?;
    Ok(posted.map(|mut entries| entries.remove(0).message))
}

/// The text of a message as `bus post` takes it.
pub(super) fn text(said: Option<&str>, file: Option<&Path>, flag: &str) -> Result<String, Failure> {
    post::given(said, file, flag)
}
