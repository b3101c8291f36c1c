//! Changes of state in words. What was said of a task or run is not said again.

use std::collections::BTreeMap;

use run_agent_core::policy::watch::IDLE;
use run_agent_core::world::Change;

use crate::render;

#[derive(Debug, Default)]
pub(in super::super) struct Words {
    /// What was said last, by the id of the task or run.
    said: BTreeMap<String, String>,
}

impl Words {
    /// `None` for what changes no state, such as that a message was counted.
    pub(in super::super) fn of(&mut self, change: &Change) -> Option<String> {
        match change {
            Change::Counted { .. } => None,
            Change::Task(row) => {
                let done = if row.done { ", DONE" } else { "" };
                let words = format!("task {}{}{done}", row.status, because(&row.reason));
                self.news(row.task_id.as_str(), words)
            }
            Change::Run(row) => {
                let status = if row.stopping { "stopping" } else { row.status.as_str() };
                let reason = match (row.idle_since, &row.retrying) {
                    (Some(_), _) => IDLE.to_owned(),
                    (None, Some(retry)) => format!("retrying {retry}"),
                    (None, None) => row.reason.clone(),
                };
                let words =
                    format!("run {} {status}{}", render::short(row.run_id.as_str()), because(&reason));
                self.news(row.run_id.as_str(), words)
            }
            Change::RunDeleted { id, .. } => Some(format!("run {} deleted", render::short(id.as_str()))),
            Change::QuestionAsked { question, .. } if question.blocking => {
                Some("a blocking question is open".to_owned())
            }
            Change::QuestionAsked { .. } => Some("a question is open".to_owned()),
            Change::QuestionAnswered { .. } => Some("a question is answered".to_owned()),
        }
    }

    fn news(&mut self, id: &str, words: String) -> Option<String> {
        let before = self.said.insert(id.to_owned(), words.clone());
        (before.as_ref() != Some(&words)).then_some(words)
    }
}

fn because(reason: &str) -> String {
    if reason.is_empty() || reason == "exit code 0" {
        String::new()
    } else {
        format!(" ({})", render::safe_line(reason))
    }
}
