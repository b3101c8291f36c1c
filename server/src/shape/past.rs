use run_agent_core::world::{Change, Question, RunRow, TaskRow};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Events {
    pub(crate) events: Vec<Happened>,
    /// Where to go on: `from` of the next request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<String>,
    pub(crate) has_more: bool,
}

/// An event, and what it changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Happened {
    pub(crate) project_id: String,
    pub(crate) task_id: Option<String>,
    #[schema(value_type = super::message::MessageShape)]
    pub(crate) message: Box<RawValue>,
    #[schema(value_type = Vec<Object>)]
    pub(crate) changes: Vec<Change>,
}

/// What lists would have shown at a moment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PastState {
    pub(crate) project_id: String,
    pub(crate) task_id: Option<String>,
    /// Of the last event that counts.
    pub(crate) timestamp: Option<String>,
    pub(crate) msg_id: Option<String>,
    #[schema(value_type = Vec<Object>)]
    pub(crate) tasks: Vec<TaskRow>,
    #[schema(value_type = Vec<Object>)]
    pub(crate) runs: Vec<RunRow>,
    /// Those that were open.
    pub(crate) questions: Vec<OpenQuestion>,
    /// Messages by type.
    pub(crate) counts: Vec<Counted>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenQuestion {
    pub(crate) task_id: Option<String>,
    pub(crate) msg_id: String,
    #[schema(value_type = Object)]
    pub(crate) question: Question,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Counted {
    pub(crate) task_id: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) count: u64,
}

/// A place where the text was found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Found {
    pub(crate) project_id: String,
    pub(crate) task_id: Option<String>,
    /// Of a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) msg_id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    /// Of an output, or the run that posted the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run_id: Option<String>,
    /// The output's name: output.md or stdout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<String>,
    /// The line, counted from 1, and its text, cut where it is long.
    pub(crate) line: usize,
    pub(crate) text: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchResult {
    /// Messages first, newest first in each stream; then outputs, newest runs first.
    pub(crate) found: Vec<Found>,
    /// False where it ended before everything was looked at: there was enough, or it took too long.
    pub(crate) complete: bool,
}
