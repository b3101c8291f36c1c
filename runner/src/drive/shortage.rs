//! What a driver does when the machine is short of something: a full disk, no descriptor left. It stays alive and tries again,
//! since the loop's state is on the stream and the next look finds it.

use std::error::Error;
use std::io;
use std::time::Duration;

use nix::errno::Errno;

/// How often a step is tried again before the driver gives up and says why: about an hour.
const TRIES_MAX: u32 = 64;
const LONGEST: Duration = Duration::from_secs(60);

/// Steps that failed in a row.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    tries: u32,
}

impl Shortage {
    /// How long to wait before the next try: a second, doubling. `None`: trying again is of no use.
    pub(super) fn pause(&mut self, error: &(dyn Error + 'static)) -> Option<Duration> {
        if self.tries == TRIES_MAX || !is_shortage(error) {
            return None;
        }
        let pause = Duration::from_secs(1 << self.tries.min(6)).min(LONGEST);
        self.tries += 1;
        Some(pause)
    }
}

/// Is it something that others may give back?
fn is_shortage(error: &(dyn Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            let short =
                [Errno::ENOSPC, Errno::EDQUOT, Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EAGAIN];
            return short.contains(&Errno::from_raw(code));
        }
        at = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_waited_for_ever_longer_and_not_for_ever() {
        let full = io::Error::from_raw_os_error(Errno::ENOSPC as i32);
        let error = super::super::DriveError::Lock { path: "loop.lock".to_owned(), source: full };
        let mut shortage = Shortage::default();
        let pauses: Vec<u64> = std::iter::from_fn(|| shortage.pause(&error)).map(|p| p.as_secs()).collect();
        assert_eq!(pauses.get(..8), Some([1, 2, 4, 8, 16, 32, 60, 60].as_slice()));
        assert_eq!(pauses.len(), TRIES_MAX as usize);
    }

    #[test]
    fn what_nobody_gives_back_is_not_tried_again() {
        let gone = io::Error::from_raw_os_error(Errno::EACCES as i32);
        let error = super::super::DriveError::Lock { path: "loop.lock".to_owned(), source: gone };
        assert_eq!(Shortage::default().pause(&error), None);
    }
}
