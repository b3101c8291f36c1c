//! A task's runs, in order of time.

use serde::{Deserialize, Serialize};

use super::run::Run;
use super::sorted::Sorted;
use crate::id::RunId;

/// A task has few runs for the most part, and a world has many tasks: each run lies in a block of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Sorted<RunId, Box<Run>>")]
pub struct Runs(Sorted<RunId, Box<Run>>);

impl From<Sorted<RunId, Box<Run>>> for Runs {
    fn from(mut read: Sorted<RunId, Box<Run>>) -> Self {
        let ids: Vec<RunId> = read.iter().map(|(id, _)| id.clone()).collect();
        for run in read.values_mut() {
            share_ids(run, |known| ids.binary_search(known).ok().map(|at| &ids[at]));
        }
        Self(read)
    }
}

/// The runs that a run names are of its own task for the most part, whose ids are there already.
fn share_ids<'a>(run: &mut Run, own: impl Fn(&RunId) -> Option<&'a RunId>) {
    for known in [&mut run.parent, &mut run.previous].into_iter().flatten() {
        if let Some(own) = own(known) {
            known.clone_from(own);
        }
    }
}

impl Runs {
    #[must_use]
    pub fn get(&self, id: &RunId) -> Option<&Run> {
        self.0.get(id).map(AsRef::as_ref)
    }

    #[must_use]
    pub fn get_key_value(&self, id: &RunId) -> Option<(&RunId, &Run)> {
        self.0.get_key_value(id).map(|(id, run)| (id, run.as_ref()))
    }

    pub(super) fn get_mut(&mut self, id: &RunId) -> Option<&mut Run> {
        self.0.get_mut(id).map(AsMut::as_mut)
    }

    #[must_use]
    pub fn contains_key(&self, id: &RunId) -> bool {
        self.0.get(id).is_some()
    }

    pub(super) fn insert(&mut self, id: RunId, mut run: Run) {
        share_ids(&mut run, |known| self.0.get_key_value(known).map(|(own, _)| own));
        self.0.insert(id, Box::new(run));
    }

    pub(super) fn remove(&mut self, id: &RunId) {
        self.0.remove(id);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&RunId, &Run)> {
        self.0.iter().map(|(id, run)| (id, run.as_ref()))
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &RunId> {
        self.iter().map(|(id, _)| id)
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.0.values().map(AsRef::as_ref)
    }

    #[must_use]
    pub fn newest(&self) -> Option<(&RunId, &Run)> {
        self.iter().next_back()
    }
}

impl std::ops::Index<&RunId> for Runs {
    type Output = Run;

    /// # Panics
    /// When there is no such run.
    #[allow(clippy::expect_used)]
    fn index(&self, id: &RunId) -> &Run {
        self.get(id).expect("a run of this task")
    }
}
