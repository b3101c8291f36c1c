//! The portable twin of `pidfd`: looks again and again.

use std::io;
use std::time::Duration;

use super::ProcessId;

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A process whose end is waited for.
#[derive(Debug)]
pub struct Watched(ProcessId);

impl Watched {
    /// `None`: this very process is gone.
    ///
    /// # Errors
    /// Never.
    pub fn on(process: ProcessId) -> io::Result<Option<Self>> {
        Ok(process.is_alive().then_some(Self(process)))
    }

    /// Blocks until the process has ended. How it did is not known.
    #[must_use]
    pub fn wait(self) -> Option<i32> {
        while self.0.is_alive() {
            std::thread::sleep(LOOK_EVERY);
        }
        None
    }
}
