//! The simulated machine's streams: what is posted is decided of a world that has seen everything, and becomes an entry
//! as a store would make it.

use jiff::Timestamp;

use super::{Pid, Sim, TaskNo};
use crate::cause::Cause;
use crate::decide::Refusal;
use crate::event::{Event, Scope};
use crate::id::{MsgId, RunId};
use crate::message::{Draft, Message};
use crate::store::{Cursor, Entry, StreamKey};
use crate::testkit::simulation::invariants;
use crate::world::{Ignored, Task};

impl Sim {
    /// Appends what `decide` agrees to of the task as everything that stands in its stream tells it.
    pub(in crate::testkit::simulation) fn propose(
        &mut self,
        by: Pid,
        no: TaskNo,
        batch: Vec<(Option<RunId>, Event)>,
        decide: impl Fn(&Task) -> Result<(), Refusal>,
    ) -> Result<Vec<MsgId>, Refusal> {
        decide(self.task(no))?;
        let key = self.tasks[no].key.clone();
        let ids = batch.into_iter().map(|(run, event)| {
            let scope = Scope { project: key.project.clone(), task: key.task.clone(), run };
            let draft = event.draft(&scope, &Cause::Process("simulated".to_owned()), "");
            let (id, ignored) = self.push(by, &key, draft);
            invariants::after_event(self, by, no, &scope.run, &event);
            if let Some(why) = ignored {
                self.violate(invariants::NOTHING_IGNORED, format!("{event:?} of process {by}: {why}"));
            }
            id
        });
        Ok(ids.collect())
    }

    /// As [`Sim::propose`], of what is true whatever else is.
    pub(in crate::testkit::simulation) fn tell(
        &mut self,
        by: Pid,
        no: TaskNo,
        run: Option<RunId>,
        event: Event,
    ) {
        let told = self.propose(by, no, vec![(run, event)], |_| Ok(()));
        debug_assert!(told.is_ok());
    }

    /// What people and agents say.
    pub(in crate::testkit::simulation) fn append(
        &mut self,
        by: Pid,
        key: &StreamKey,
        content: Draft,
    ) -> MsgId {
        self.push(by, key, content).0
    }

    fn push(&mut self, by: Pid, key: &StreamKey, content: Draft) -> (MsgId, Option<Ignored>) {
        let entries = self.streams.entry(key.clone()).or_default();
        let now = self.clock.now();
        let after = |last: &Entry| {
            Timestamp::from_nanosecond(last.message.ts.as_nanosecond() + 1).unwrap_or(last.message.ts)
        };
        // As the stores do it: times and ids increase, also where the clock stands or steps back.
        let ts = entries.last().map_or(now, |last| now.max(after(last)));
        let n = entries.len() as u64;
        let message = Message { id: MsgId::new(ts, by, 1), ts, content };
        let id = message.id.clone();
        let entry = Entry { at: Cursor::new(n * 3 + 1), next: Cursor::new(n * 3 + 4), message };
        let applied = self.world.apply(key, entry.at, &entry.message);
        entries.push(entry);
        let woken = self.task_no(key).filter(|_| self.hints);
        for process in
            self.processes.values_mut().filter(|process| woken.is_some() && process.watches == woken)
        {
            process.asleep_until_ms = 0;
        }
        (id, applied.ignored)
    }
}
