//! Looks back into a stream's past, from its end and no farther than needed.

use run_agent_core::store::{ReadError, Stream};
use run_agent_core::{Entry, Kind, MsgId, RunId, Timestamp};

/// How far back is looked at the most, in entries.
const BACK_MAX: usize = 65_536;

/// The end of a stream, as far back as needed.
pub(crate) fn back(stream: &dyn Stream, enough: impl Fn(&[Entry]) -> bool) -> Result<Vec<Entry>, ReadError> {
    let mut count = 256;
    loop {
        let entries = stream.last(count)?.entries;
        if entries.len() < count || count >= BACK_MAX || enough(&entries) {
            return Ok(entries);
        }
        count *= 8;
    }
}

/// The end of a stream, back to this time.
pub(crate) fn since(stream: &dyn Stream, time: Timestamp) -> Result<Vec<Entry>, ReadError> {
    back(stream, |entries| entries.first().is_none_or(|entry| entry.message.ts < time))
}

/// A blocking question, and what was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub question: String,
    pub answer: Option<String>,
}

/// The blocking questions of a run that began at this time, with their answers as far as there are any.
pub(crate) fn asked_by(stream: &dyn Stream, run: &RunId, began: Timestamp) -> Result<Vec<Asked>, ReadError> {
    let mut asked: Vec<(MsgId, Asked)> = Vec::new();
    for Entry { message, .. } in since(stream, began)? {
        let content = message.content;
        if content.kind == Kind::QUESTION {
            let blocking = content.meta.get("blocking").is_some_and(|blocking| blocking == "true");
            if blocking && content.run.as_ref() == Some(run) {
                asked.push((message.id, Asked { question: content.body, answer: None }));
            }
        } else if matches!(content.kind.as_str(), "ANSWER" | "USER") {
            for (_, one) in
                asked.iter_mut().filter(|(id, _)| content.parents.iter().any(|parent| parent.msg_id == *id))
            {
                one.answer.get_or_insert_with(|| content.body.clone());
            }
        }
    }
    Ok(asked.into_iter().map(|(_, one)| one).collect())
}
