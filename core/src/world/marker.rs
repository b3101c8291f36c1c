//! The DONE marker as somebody who looked at the task's folder found it.

use jiff::Timestamp;

/// A file that agents and people make by hand. It is not part of the world: the driver looks at it, and posts an
/// event where marker and stream disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    Absent,
    /// Any regular file counts, also an empty one. `written` is its own time.
    Present {
        written: Option<Timestamp>,
    },
    /// A folder, socket or anything else of that name: an error that the loop reports.
    NotAFile,
}
