//! What xAI streams, in either of its forms: `chat.completion.chunk` objects, or the events of the Responses interface.

use crate::agent::stream::{
    Account, Answer, Chunks, Exit, Head, Heard, Json, Reader, RestReader, Told, Trouble, class,
};

/// Reads one answer.
#[derive(Debug)]
pub struct XaiReader(RestReader<Xai>);

#[derive(Debug, Default)]
struct Xai {
    chunks: Chunks,
}

impl XaiReader {
    #[must_use]
    pub fn new(head: Head) -> Self {
        Self(RestReader::new(head, Xai::default()))
    }
}

impl Reader for XaiReader {
    fn line(&mut self, line: &[u8], heard: &mut Vec<Heard>) {
        self.0.line(line, heard);
    }

    fn stderr_line(&mut self, line: &[u8], heard: &mut Vec<Heard>) {
        self.0.stderr_line(line, heard);
    }

    fn end(&mut self, exit: Exit, stderr: &str, heard: &mut Vec<Heard>) -> Told {
        self.0.end(exit, stderr, heard)
    }
}

impl Answer for Xai {
    fn event(&mut self, event: &Json, account: &mut Account, heard: &mut Vec<Heard>) {
        match event.at(&["type"]).text() {
            None => self.chunks.chunk(event, account, heard),
            Some("response.created") => account.model(event.at(&["response", "model"]), heard),
            Some("response.output_text.delta") => {
                account.piece(event.at(&["delta"]).text().unwrap_or_default(), heard);
            }
            Some("response.completed") => {
                self.chunks.usage(event.at(&["response", "usage"]), account, heard);
                account.finished(true);
            }
            Some("response.incomplete") => {
                self.chunks.usage(event.at(&["response", "usage"]), account, heard);
                let why =
                    event.at(&["response", "incomplete_details", "reason"]).text().unwrap_or("no reason");
                account.notice(&format!("the answer is not complete: {why}"), heard);
                account.finished(true);
            }
            Some("response.failed") => {
                let error = event.at(&["response", "error"]);
                failed(error, account, heard);
            }
            Some("error") => failed(event, account, heard),
            Some(_) => {}
        }
    }
}

fn failed(error: &Json, account: &mut Account, heard: &mut Vec<Heard>) {
    let said = error.at(&["message"]).words().unwrap_or("the answer failed");
    let word = error.at(&["code"]).text().and_then(class::of_text);
    account.problem(Trouble::said(said).or_class(word), heard);
    account.finished(true);
}

#[cfg(test)]
mod tests;
