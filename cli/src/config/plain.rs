//! What a configuration file says before it is known what it means: a tree of plain values, each with its place in the
//! text. HCL and YAML both end here, so that one reader and one set of errors serve both.

use std::ops::Range;

/// Bytes of the text.
pub(crate) type Span = Range<usize>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) plain: Plain,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plain {
    Null,
    Flag(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A name with its value. A name may stand twice in a map: that is the reader's to refuse.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Where the name stands.
    pub(crate) at: Span,
    pub(crate) node: Node,
}

impl Plain {
    /// What it is, for an error.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Flag(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a block",
        }
    }
}
