//! How many runs of a task there are of each status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::world::run::RunStatus;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<RunStatus, u32>", into = "BTreeMap<RunStatus, u32>")]
pub(super) struct RunCounts([u32; RunStatus::ALL.len()]);

impl RunCounts {
    pub(super) fn of(&self, status: RunStatus) -> u32 {
        self.0[status as usize]
    }

    /// A run was made, has another status, or is gone.
    pub(super) fn change(&mut self, before: Option<RunStatus>, now: Option<RunStatus>) {
        if let Some(before) = before {
            let count = &mut self.0[before as usize];
            *count = count.saturating_sub(1);
        }
        if let Some(now) = now {
            let count = &mut self.0[now as usize];
            *count = count.saturating_add(1);
        }
    }

    /// Without those that there are none of.
    pub(super) fn to_map(self) -> BTreeMap<RunStatus, u32> {
        RunStatus::ALL.into_iter().map(|status| (status, self.of(status))).filter(|(_, n)| *n > 0).collect()
    }
}

impl From<RunCounts> for BTreeMap<RunStatus, u32> {
    fn from(counts: RunCounts) -> Self {
        counts.to_map()
    }
}

impl From<BTreeMap<RunStatus, u32>> for RunCounts {
    fn from(map: BTreeMap<RunStatus, u32>) -> Self {
        let mut counts = Self::default();
        map.into_iter().for_each(|(status, n)| counts.0[status as usize] = n);
        counts
    }
}
