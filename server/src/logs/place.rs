//! Ids of log streams: they name how far a client got, so that any server goes on there, whatever it remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use run_agent_core::{RunId, Timestamp};

/// So many lines of each stream of a run were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct At {
    pub(super) stdout: u64,
    pub(super) stderr: u64,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s={};e={}", self.stdout, self.stderr)
    }
}

impl At {
    pub(super) fn parse(id: &str) -> Option<Self> {
        let (stdout, stderr) = id.split_once(';')?;
        let number = |text: &str, name: &str| text.strip_prefix(name)?.parse().ok();
        Some(Self { stdout: number(stdout, "s=")?, stderr: number(stderr, "e=")? })
    }
}

/// How far a client got with several runs: `w=<µs>;<run>=<s>.<e>;…;<run>=told`.
///
/// What is to be told are the runs that are active, those that ended at `since` or later, and those of which a part was
/// told; without those that were told to their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) since: Timestamp,
    /// Runs of which a part was told. One of which nothing was told needs no place.
    pub(super) at: BTreeMap<RunId, At>,
    /// Runs that were told to their end, and ended at `since` or later.
    pub(super) told: BTreeSet<RunId>,
}

impl Places {
    /// Whatever ended before is not told.
    pub(super) fn new(since: Timestamp) -> Self {
        // As it can be written.
        let since = Timestamp::from_microsecond(since.as_microsecond()).unwrap_or(since);
        Self { since, at: BTreeMap::new(), told: BTreeSet::new() }
    }

    pub(super) fn parse(id: &str) -> Option<Self> {
        let mut words = id.split(';');
        let since = words.next()?.strip_prefix("w=")?.parse().ok()?;
        let mut places = Self::new(Timestamp::from_microsecond(since).ok()?);
        for word in words {
            let (run, place) = word.split_once('=')?;
            let run = RunId::parse(run).ok()?;
            if place == "told" {
                places.told.insert(run);
            } else {
                let (stdout, stderr) = place.split_once('.')?;
                places.at.insert(run, At { stdout: stdout.parse().ok()?, stderr: stderr.parse().ok()? });
            }
        }
        Some(places)
    }

    /// The id's beginning while one of the runs goes on. What it lacks is [`Places::rest`].
    pub(super) fn but(&self, run: &RunId) -> String {
        self.written(|other| other != run)
    }

    pub(super) fn rest(run: &RunId, at: At) -> String {
        if at == At::default() { String::new() } else { format!(";{run}={}.{}", at.stdout, at.stderr) }
    }

    fn written(&self, of: impl Fn(&RunId) -> bool) -> String {
        let mut id = format!("w={}", self.since.as_microsecond());
        for told in &self.told {
            id.push_str(&format!(";{told}=told"));
        }
        for (run, at) in self.at.iter().filter(|(run, _)| of(run)) {
            id.push_str(&Self::rest(run, *at));
        }
        id
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(|_| true))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run(n: u32) -> RunId {
        RunId::new(Timestamp::from_second(1_700_000_000).unwrap(), 7, n)
    }

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let at = At { stdout: 3, stderr: 14 };
        assert_eq!(At::parse(&at.to_string()), Some(at));
        let mut places = Places::new(Timestamp::from_microsecond(1_700_000_000_123_456).unwrap());
        assert_eq!(Places::parse(&places.to_string()).as_ref(), Some(&places));
        places.at.insert(run(1), at);
        places.at.insert(run(2), At { stdout: 0, stderr: 1 });
        places.told.insert(run(3));
        assert_eq!(Places::parse(&places.to_string()).as_ref(), Some(&places));
        let other = places.but(&run(1)) + &Places::rest(&run(1), at);
        assert_eq!(Places::parse(&other), Some(places));
    }

    #[test]
    fn what_is_no_place_is_none() {
        for id in ["", "s=1", "e=1;s=1", "s=1;e=", "s=-1;e=0", "s=1;e=1;", "1-2", "w=1"] {
            assert_eq!(At::parse(id), None, "{id}");
        }
        for id in ["", "w=", "w=x", "s=1;e=1", "w=1;run", "w=1;../x=1.1", "w=1;20261121-0930001234-1-1=1"] {
            assert_eq!(Places::parse(id), None, "{id}");
        }
    }
}
