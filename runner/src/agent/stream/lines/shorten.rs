//! A line that is longer than the bound, cut to it so that it is JSON still: its long texts lose their ends, and say so; if
//! that is not enough, the line loses its own. What it says of itself stands in short fields, whatever their order.

use super::LINE_MAX;
use crate::agent::stream::CUT;

/// For what is appended where something was cut.
const SPARE: usize = 256;

/// Takes a line in and keeps what fits. What is kept depends on the line alone, not on the pieces in which it comes.
#[derive(Debug, Default)]
pub(super) struct Shortened {
    kept: Vec<u8>,
    text: Option<Text>,
    /// What would close the brackets that are open.
    open: Vec<u8>,
    /// Up to here all that is kept is whole, and closing what is open makes it JSON.
    whole: usize,
    full: bool,
}

/// The text at hand.
#[derive(Debug)]
struct Text {
    /// How much more of it is kept.
    room: usize,
    /// So many bytes of an escape are still to come.
    escape: usize,
    cut: bool,
}

impl Shortened {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.full |= self.kept.len() + SPARE > LINE_MAX;
            if self.full {
                return;
            }
            match self.text.take() {
                Some(text) => self.within_text(text, *byte),
                None => self.between(*byte),
            }
        }
    }

    fn within_text(&mut self, mut text: Text, byte: u8) {
        if byte == b'"' && text.escape == 0 {
            if text.cut {
                self.kept.extend_from_slice(CUT.replace('\n', "\\n").as_bytes());
            }
            self.kept.push(byte);
            return;
        }
        // No character and no escape is kept in part.
        text.cut |= text.room == 0 && text.escape == 0 && byte & 0xc0 != 0x80;
        if !text.cut {
            self.kept.push(byte);
        }
        text.room = text.room.saturating_sub(1);
        text.escape = match (text.escape, byte) {
            (0, b'\\') => 1,
            (1, b'u') => 4,
            (left, _) => left.saturating_sub(1),
        };
        self.text = Some(text);
    }

    fn between(&mut self, byte: u8) {
        match byte {
            // The longer what was kept already, the less of the next.
            b'"' => {
                let room = (LINE_MAX - self.kept.len()) / 4;
                self.text = Some(Text { room, escape: 0, cut: false });
            }
            b'{' => self.open.push(b'}'),
            b'[' => self.open.push(b']'),
            b'}' | b']' => drop(self.open.pop()),
            _ => {}
        }
        if byte == b',' {
            self.whole = self.kept.len();
        }
        self.kept.push(byte);
        if b"{}[]".contains(&byte) {
            self.whole = self.kept.len();
        }
    }

    /// The line has ended.
    pub(super) fn end(mut self) -> Vec<u8> {
        if self.full {
            self.kept.truncate(self.whole);
            self.kept.extend(self.open.iter().rev());
        }
        self.kept
    }
}
