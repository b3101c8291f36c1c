//! Server-sent events: from the bytes of an answer to events. Pure.

/// The longest event. A message has less than a mebibyte.
const EVENT_MAX: usize = 32 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: String,
}

/// Goes along with one answer. Bytes may come in any pieces.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// A line without its end.
    line: Vec<u8>,
    event: Event,
    begun: bool,
    size: usize,
}

/// What comes is no stream of events of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Parser {
    /// Takes in what came, and hands out the events that it ends.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut impl Extend<Event>) -> Result<(), TooLong> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.size += piece.len();
            if self.size > EVENT_MAX {
                return Err(TooLong);
            }
            self.line.extend_from_slice(piece);
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                out.extend(self.take_line(&String::from_utf8_lossy(&line)));
            }
        }
        Ok(())
    }

    fn take_line(&mut self, line: &str) -> Option<Event> {
        let line = line.trim_end_matches(['\n', '\r']);
        if line.is_empty() {
            self.size = 0;
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.begun).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            // It goes back in a header.
            "id" if value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => {
                self.event.id = Some(value.to_owned());
            }
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // A comment, or a field that is not ours.
            _ => return None,
        }
        self.begun = true;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<Event> {
        let (mut parser, mut out) = (Parser::default(), Vec::new());
        for piece in pieces {
            parser.push(piece, &mut out).unwrap();
        }
        out
    }

    fn event(name: &str, id: Option<&str>, data: &str) -> Event {
        Event { name: name.to_owned(), id: id.map(str::to_owned), data: data.to_owned() }
    }

    #[test]
    fn events_are_read_in_whatever_pieces_they_come() {
        let text = "id: m-1\nevent: message\ndata: {\ndata: \"\u{e9}\"}\n\n: a comment\n\nevent:done\r\ndata\r\n\r\ndata: half";
        let wanted = [event("message", Some("m-1"), "{\n\"\u{e9}\"}"), event("done", None, "")];
        assert_eq!(events(&[text.as_bytes()]), wanted);
        for cut in 0..text.len() {
            let (a, b) = text.as_bytes().split_at(cut);
            assert_eq!(events(&[a, b]), wanted, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(events(&bytes), wanted);
    }

    #[test]
    fn an_id_that_no_header_can_carry_is_none() {
        assert_eq!(events(&["id: a\u{7}b\ndata: x\n\n".as_bytes()]), [event("", None, "x")]);
    }

    #[test]
    fn what_never_ends_fills_no_memory() {
        let (mut parser, mut out) = (Parser::default(), Vec::new());
        let piece = vec![b'x'; EVENT_MAX / 2];
        assert_eq!(parser.push(&piece, &mut out), Ok(()));
        assert_eq!(parser.push(&piece, &mut out), Ok(()));
        assert_eq!(parser.push(b"x", &mut out), Err(TooLong));
        assert_eq!(out, []);
    }
}
