//! What every stream has, whatever it is about: counts, the last activity, open questions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::sorted::Sorted;
use super::touched::Touched;
use crate::id::{MsgId, RunId};
use crate::message::{Kind, Message};
use crate::store::Cursor;
use crate::text;

/// The part of a question's text that the world keeps for lists, in bytes.
const QUESTION_TEXT_MAX: usize = 280;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// The place of the last entry that was folded in.
    seen: Option<Cursor>,
    pub counts: Sorted<Kind, u64>,
    pub last_activity: Option<Timestamp>,
    pub last_message: Option<MsgId>,
    pub open_questions: BTreeMap<MsgId, Question>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub asked: Timestamp,
    pub run: Option<RunId>,
    /// Asked with `ask` or posted with `--blocking`: somebody waits for the answer.
    pub blocking: bool,
    pub text: String,
}

/// Is this an answer to that question?
#[must_use]
pub fn answers(message: &Message, question: &MsgId) -> bool {
    closes_questions(message) && message.content.parents.iter().any(|parent| parent.msg_id == *question)
}

/// Only these close a question.
pub(super) fn closes_questions(message: &Message) -> bool {
    matches!(message.content.kind.as_str(), "ANSWER" | "USER")
}

impl Thread {
    /// False when the entry at this place was folded in before.
    pub(super) fn advance(&mut self, at: Cursor) -> bool {
        if self.seen.is_some_and(|seen| at <= seen) {
            return false;
        }
        self.seen = Some(at);
        true
    }

    /// The place of the last entry that was folded in.
    #[must_use]
    pub fn seen(&self) -> Option<Cursor> {
        self.seen
    }

    #[must_use]
    pub fn messages(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn count(&mut self, message: &Message, answered: &BTreeSet<MsgId>, touched: &mut Touched) {
        let content = &message.content;
        match self.counts.get_mut(&content.kind) {
            Some(n) => *n += 1,
            None => {
                self.counts.insert(content.kind.clone(), 1);
            }
        }
        // Tidying up is no activity: what is old stays old.
        if content.kind.as_str() != "RUN_DELETED" {
            self.last_activity = self.last_activity.max(Some(message.ts));
        }
        self.last_message = Some(message.id.clone());
        touched.counted = true;
        if content.kind == Kind::QUESTION && !answered.contains(&message.id) {
            let question = Question {
                asked: message.ts,
                run: content.run.clone(),
                blocking: content.meta.get("blocking").is_some_and(|b| b == "true"),
                text: text::head(&content.body, QUESTION_TEXT_MAX).to_owned(),
            };
            self.open_questions.insert(message.id.clone(), question);
            touched.asked = true;
        }
    }

    /// True when the question was open.
    pub(super) fn close(&mut self, id: &MsgId) -> bool {
        self.open_questions.remove(id).is_some()
    }
}
