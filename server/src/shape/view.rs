use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::message::MessageShape;

/// A task, folded.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct View {
    /// The version of the rules by which it is folded.
    pub(crate) world: u32,
    /// Up to where: entries behind it have greater places.
    pub(crate) cursor: u64,
    /// The id of the last message that was folded in.
    pub(crate) last: Option<String>,
    #[schema(value_type = Object)]
    pub(crate) task: Box<RawValue>,
    #[schema(value_type = Vec<MessageShape>)]
    pub(crate) last_messages: Vec<Box<RawValue>>,
    /// Stretches of its stream that could not be read.
    pub(crate) damage: Vec<String>,
    /// What stream and files disagree about, a line each.
    pub(crate) notes: Vec<String>,
    /// The nearest cause of its status.
    pub(crate) why: String,
    /// Its loop is open, and its driver died.
    pub(crate) no_driver: bool,
    /// Where it lies on the server's machine.
    pub(crate) folder: String,
}
