//! A loop's place among those that may be driven at once (`limits.max_tasks`): needed to start a root run, and held
//! until the driver ends (`docs/decisions/0048-max-tasks-counts-the-loops-that-no-agent-started.md`).

use std::time::Duration;

use run_agent_core::policy::slots::Class;

use crate::slots::{Look, Slots};
use crate::tree::{TaskName, Tree};

#[derive(Debug)]
pub(super) struct Place {
    /// `None`: this loop needs none.
    slots: Option<Slots>,
}

/// When others were at the queue for too long, the next look comes soon.
const BUSY: Duration = Duration::from_millis(100);

impl Place {
    pub(super) fn new(tree: &Tree, name: &TaskName, max_tasks: u32, depth: u32) -> Self {
        // One that an agent started lies below one that has a place: it would wait for itself.
        let counts = depth == 0;
        Self { slots: Slots::of_loop(tree, name, max_tasks).filter(|_| counts) }
    }

    /// Takes the place if it is this loop's turn; else how long to wait before the next look.
    pub(super) fn take(&mut self) -> Option<Duration> {
        let slots = self.slots.as_mut()?;
        match slots.look(Class::New) {
            Ok(Look::Entered) => None,
            Ok(Look::Waits { again, .. }) => Some(again),
            Ok(Look::Busy) => Some(BUSY),
            Err(error) => {
                tracing::warn!(%error, "the places of loops cannot be used: this one is driven without");
                self.slots = None;
                None
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(slots) = &mut self.slots {
            slots.leave();
        }
    }
}
