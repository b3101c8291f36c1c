//! YAML to plain values, by the parser's events, which carry their places. Anchors and aliases are refused: they are
//! how a small file becomes a huge one.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

use super::plain::{Entry, Node, Plain, Span};
use super::problem::Problem;

/// Deeper than any setting needs.
const DEPTH_MAX: usize = 16;

/// The top level of a file.
pub(crate) fn parse(text: &str, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let mut reader = Reader { text, parser: Parser::new_from_str(text), chars: Chars::new(text) };
    match reader.document() {
        Ok(None | Some(Node { plain: Plain::Null, .. })) => Vec::new(),
        Ok(Some(Node { plain: Plain::Map(entries), .. })) => entries,
        Ok(Some(node)) => {
            let what = format!("a configuration is a map of blocks, and this is {}", node.plain.noun());
            problems.push(Problem::new(node.span, what));
            Vec::new()
        }
        Err(problem) => {
            problems.push(problem);
            Vec::new()
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    chars: Chars<'a>,
}

type Found<'a> = (Event<'a>, Span);

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Option<Node>, Problem> {
        let mut found = None;
        while let Some((event, at)) = self.next()? {
            match event {
                Event::Nothing
                | Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                _ if found.is_some() => {
                    return Err(Problem::new(at, "a configuration is one document"));
                }
                event => found = Some(self.node(event, at, 0)?),
            }
        }
        Ok(found)
    }

    fn next(&mut self) -> Result<Option<Found<'a>>, Problem> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                let from = self.chars.byte(span.start.index());
                let to = self.chars.byte(span.end.index());
                Ok(Some((event, from..to)))
            }
            Some(Err(error)) => Err(self.syntax(&error)),
        }
    }

    fn syntax(&mut self, error: &ScanError) -> Problem {
        let at = self.chars.byte(error.marker().index());
        Problem::new(at..at + 1, format!("this is not YAML: {}", error.info()))
    }

    fn node(&mut self, event: Event<'a>, at: Span, depth: usize) -> Result<Node, Problem> {
        if depth > DEPTH_MAX {
            return Err(Problem::new(at, "this is nested too deeply"));
        }
        let plain = match event {
            Event::Scalar(value, style, anchor, _) => {
                no_anchor(anchor, &at)?;
                scalar(&value, style)
            }
            Event::SequenceStart(anchor, _) => {
                no_anchor(anchor, &at)?;
                let mut items = Vec::new();
                loop {
                    match self.inside(&at)? {
                        (Event::SequenceEnd, _) => break Plain::List(items),
                        (event, at) => items.push(self.node(event, at, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(anchor, _) => {
                no_anchor(anchor, &at)?;
                let mut entries = Vec::new();
                loop {
                    let (name, at) = match self.inside(&at)? {
                        (Event::MappingEnd, _) => break Plain::Map(entries),
                        (Event::Scalar(name, ..), at) => (name.into_owned(), at),
                        (_, at) => {
                            return Err(Problem::new(at, "a name is a plain word or a text in quotes"));
                        }
                    };
                    let (event, value_at) = self.inside(&at)?;
                    let node = self.node(event, value_at, depth + 1)?;
                    entries.push(Entry { name, at, node });
                }
            }
            Event::Alias(_) => {
                return Err(Problem::new(at, "anchors and aliases are not taken here; write it out"));
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err(Problem::new(at, "a value is missing here")),
        };
        // What a map or list spans ends with its last item; its beginning is what an error points at.
        let at = Span { start: at.start, end: at.end.max(at.start).min(self.text.len()) };
        Ok(Node { span: at, plain })
    }

    fn inside(&mut self, at: &Span) -> Result<Found<'a>, Problem> {
        self.next()?.ok_or_else(|| Problem::new(at.clone(), "this has no end"))
    }
}

fn no_anchor(anchor: usize, at: &Span) -> Result<(), Problem> {
    if anchor == 0 { Ok(()) } else { Err(Problem::new(at.clone(), "anchors and aliases are not taken here")) }
}

/// YAML 1.2's core schema for what stands without quotes.
fn scalar(value: &str, style: ScalarStyle) -> Plain {
    if style != ScalarStyle::Plain {
        return Plain::Text(value.to_owned());
    }
    match value {
        "" | "~" | "null" | "Null" | "NULL" => Plain::Null,
        "true" | "True" | "TRUE" => Plain::Flag(true),
        "false" | "False" | "FALSE" => Plain::Flag(false),
        _ if value.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) => {
            value.parse().map_or_else(|_| Plain::Text(value.to_owned()), Plain::Number)
        }
        _ => Plain::Text(value.to_owned()),
    }
}

/// From the parser's count of characters to bytes. The counts mostly grow, so each starts from the one before.
struct Chars<'a> {
    text: &'a str,
    chars: usize,
    bytes: usize,
}

impl<'a> Chars<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, chars: 0, bytes: 0 }
    }

    fn byte(&mut self, index: usize) -> usize {
        if index < self.chars {
            (self.chars, self.bytes) = (0, 0);
        }
        let rest = &self.text[self.bytes..];
        let more = rest.char_indices().nth(index - self.chars).map_or(rest.len(), |(at, _)| at);
        (self.chars, self.bytes) = (index, self.bytes + more);
        self.bytes
    }
}
