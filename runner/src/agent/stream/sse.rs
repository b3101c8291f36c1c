//! Server-sent events from lines: the body of a streaming HTTP answer, one line at a time.

use super::lines::LINE_MAX;

/// Gathers the `data` of an event until the empty line that ends it.
#[derive(Debug, Default)]
pub(crate) struct Sse {
    data: Vec<u8>,
    has_data: bool,
}

impl Sse {
    /// Takes one line in; the data of an event when this line ends one. Events over the bound are cut, which no JSON
    /// survives: they are left out.
    pub(crate) fn line(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        if line.is_empty() {
            return self.end();
        }
        // `event`, `id` and `retry` say nothing that the data does not; a colon alone begins a comment.
        let data = line.strip_prefix(b"data")?;
        let data = match data.strip_prefix(b":") {
            Some(data) => data.strip_prefix(b" ").unwrap_or(data),
            None if data.is_empty() => data,
            None => return None,
        };
        if self.has_data {
            self.data.push(b'\n');
        }
        self.has_data = true;
        let room = LINE_MAX.saturating_sub(self.data.len());
        self.data.extend_from_slice(&data[..data.len().min(room)]);
        None
    }

    /// The stream has ended: an event without its empty line counts here, since only the answer's own end tells
    /// whether it was cut.
    pub(crate) fn end(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.has_data).then(|| std::mem::take(&mut self.data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<String> {
        let mut sse = Sse::default();
        let mut out: Vec<Vec<u8>> = text.lines().filter_map(|line| sse.line(line.as_bytes())).collect();
        out.extend(sse.end());
        out.into_iter().map(|data| String::from_utf8(data).unwrap()).collect()
    }

    #[test]
    fn data_lines_are_joined_and_everything_else_is_left_out() {
        let text =
            ": comment\nevent: x\nid: 1\ndata: a\ndata:b\ndata\n\n\n\ndatum: no\ndata: [DONE]\n\ndata:  two";
        assert_eq!(events(text), ["a\nb\n", "[DONE]", " two"]);
    }

    #[test]
    fn an_event_is_bounded() {
        let mut sse = Sse::default();
        let line = [b"data: ".as_slice(), &vec![b'x'; LINE_MAX]].concat();
        for _ in 0..3 {
            assert_eq!(sse.line(&line), None);
        }
        assert!(sse.line(b"").unwrap().len() <= LINE_MAX + 3);
    }
}
