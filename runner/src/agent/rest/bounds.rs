//! How long an answer may be, and go on without saying anything. Silence has a bound of its own; this is for who keeps
//! talking. Pure: it is given the time.

use std::time::{Duration, Instant};

/// The longest answer in bytes. The text in it is bounded by far less.
const ANSWER_MAX: u64 = 64 << 20;
/// What a line begins with that says something. Others only keep the connection open.
const DATA: &[u8] = b"data";

/// Goes along with the body of one answer.
#[derive(Debug)]
pub(super) struct Bounds {
    bytes: u64,
    /// How much of [`DATA`] the line at hand begins with; none: it is another line.
    begins: Option<usize>,
    said: Instant,
    without_event: Duration,
}

impl Bounds {
    pub(super) fn new(now: Instant, without_event: Duration) -> Self {
        Self { bytes: 0, begins: Some(0), said: now, without_event }
    }

    /// Takes what came.
    ///
    /// # Errors
    /// Why no more is read.
    pub(super) fn take(&mut self, bytes: &[u8], now: Instant) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes > ANSWER_MAX {
            return Err(format!("the answer is longer than {} MiB", ANSWER_MAX >> 20));
        }
        if self.has_data(bytes) {
            self.said = now;
        }
        if now.duration_since(self.said) >= self.without_event {
            return Err(format!("the answer said nothing for {} s", self.without_event.as_secs_f64()));
        }
        Ok(())
    }

    fn has_data(&mut self, bytes: &[u8]) -> bool {
        let mut found = false;
        for byte in bytes {
            self.begins = match (byte, self.begins) {
                (b'\n', _) => Some(0),
                (byte, Some(n)) if DATA.get(n) == Some(byte) => Some(n + 1),
                (_, _) => None,
            };
            found |= self.begins == Some(DATA.len());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn who_only_keeps_the_connection_open_comes_to_an_end() {
        let began = Instant::now();
        let mut bounds = Bounds::new(began, MINUTE);
        let mut at =
            |seconds: u64, text: &str| bounds.take(text.as_bytes(), began + Duration::from_secs(seconds));
        assert_eq!(at(59, ": keep-alive\n\n"), Ok(()));
        assert_eq!(at(100, ": x\n\nda"), Err("the answer said nothing for 60 s".to_owned()));
        assert_eq!(at(100, "ta: {}\n\n"), Ok(()), "an event in two pieces");
        assert_eq!(at(159, "x data: {}\n"), Ok(()));
        assert_eq!(at(160, "dat\n: data\n"), Err("the answer said nothing for 60 s".to_owned()));
    }

    #[test]
    fn an_answer_without_an_end_has_one() {
        let began = Instant::now();
        let mut bounds = Bounds::new(began, MINUTE);
        let piece = vec![b'x'; 1 << 20];
        let taken = (0..1000).take_while(|_| bounds.take(&piece, began).is_ok()).count();
        assert_eq!(taken as u64, ANSWER_MAX >> 20);
    }
}
