//! What the messages of a task's stream make of it.

use jiff::Timestamp;

use super::shown::{Difference, Shown};
use super::{DoneMark, Task};
use crate::event::{Done, Event, RunIntent, RunOutcome, RunStart};
use crate::id::RunId;
use crate::message::Message;
use crate::policy::budget::Spent;
use crate::store::Cursor;
use crate::world::Ignored;
use crate::world::evidence::Told;
use crate::world::run::{Run, RunStatus};
use crate::world::touched::{OfRun, Touched};

impl Task {
    /// Folds in the meaning of one message of this task's stream.
    pub(in crate::world) fn apply(
        &mut self,
        at: Cursor,
        message: &Message,
        event: Event,
        touched: &mut Touched,
    ) -> Result<(), Ignored> {
        if let Event::Posted = event {
            self.note_late_post(message);
            return Ok(());
        }
        let before = Shown::of(self, &event);
        let run = message.content.run.as_ref();
        let run_before = run.and_then(|id| self.runs.get(id)).map(Run::status);
        let told = Told::of(&event);
        let outcome = self.apply_lifecycle(message, event);
        if outcome.is_ok() {
            self.note(at, told, run);
        }
        if let Some(id) = run {
            let run_now = self.runs.get(id).map(Run::status);
            self.count_run(id, run_before, run_now);
            touched.run = match (&outcome, run_before, run_now) {
                (Ok(()), _, Some(_)) => OfRun::Changed,
                (Ok(()), Some(_), None) => OfRun::Deleted,
                (Ok(()), None, None) | (Err(_), ..) => OfRun::Nothing,
            };
        }
        match before.compare(self) {
            Difference::None => {}
            Difference::Row => touched.task = true,
            Difference::Status => {
                touched.task = true;
                self.since = Some((message.id.clone(), message.ts));
            }
        }
        outcome
    }

    /// Keeps the place of what was told.
    fn note(&mut self, at: Cursor, told: Option<Told>, run: Option<&RunId>) {
        let Some(told) = told else { return };
        if !told.is_of_run() {
            self.evidence.note(at, told);
        } else if let Some(run) = run.and_then(|id| self.runs.get_mut(id)) {
            run.evidence.note(at, told);
        }
    }

    fn apply_lifecycle(&mut self, message: &Message, event: Event) -> Result<(), Ignored> {
        match event {
            Event::Posted => Ok(()),
            Event::ProjectCreated(_) => Err(Ignored::NotATask),
            Event::TaskCreated(text) | Event::TaskUpdated(text) => {
                let made = self.created.as_ref().map_or(message.ts, |(_, at)| *at);
                self.created = Some((text, made));
                Ok(())
            }
            Event::TaskDeleted(_) => {
                self.deleted = true;
                Ok(())
            }
            Event::RunDeleted(_) => self.run_deleted(run_of(message)?),
            Event::RunIntent(intent) => self.run_intended(message, intent),
            Event::RunStart(start) => {
                self.run_known(message, &start)?;
                self.run_event(message, Event::RunStart(start))
            }
            Event::RunEnd(end) => {
                self.run_event(message, Event::RunEnd(end))?;
                self.run_ended(run_of(message)?);
                Ok(())
            }
            Event::RunUsage(usage) => {
                let mut used = self.usage;
                used.add(&usage);
                self.run_event(message, Event::RunUsage(usage))?;
                self.usage = used;
                Ok(())
            }
            Event::RunStopping(_)
            | Event::RunParked(_)
            | Event::RunIdle(_)
            | Event::RunStuck(_)
            | Event::RunActive(_)
            | Event::RunRetrying(_) => self.run_event(message, event),
            Event::ChildLink(link) => {
                self.linked(message, link);
                Ok(())
            }
            Event::Done(done) => {
                self.done_found(message, &done);
                Ok(())
            }
            Event::DoneRejected(_) => {
                self.done = None;
                self.ralph.apply(message, event)
            }
            Event::DoneCleared(cleared) => {
                self.done = None;
                if cleared.resume {
                    self.ralph.reset();
                }
                Ok(())
            }
            Event::LoopStart(start) => {
                if start.fresh {
                    self.ralph.own_before = Spent::of(&self.usage);
                }
                self.ralph.apply(message, Event::LoopStart(start))
            }
            Event::LoopRestart(_)
            | Event::LoopBackoff(_)
            | Event::LoopBlocked(_)
            | Event::LoopWaiting(_)
            | Event::LoopBreaker(_)
            | Event::LoopBudget(_)
            | Event::LoopStopping(_)
            | Event::LoopEnd(_)
            | Event::AgentDegraded(_) => self.ralph.apply(message, event),
            Event::SupervisorRestart(_) if message.content.run.is_some() => self.run_event(message, event),
            // Told to people and to `why`; they move nothing by themselves.
            Event::VerifyStart(_) | Event::VerifyStop(_) | Event::SupervisorRestart(_) => Ok(()),
        }
    }

    fn run_deleted(&mut self, id: &RunId) -> Result<(), Ignored> {
        match self.runs.get(id) {
            Some(run) if run.is_active() => Err(Ignored::RunStarted),
            Some(_) => {
                self.runs.remove(id);
                Ok(())
            }
            None => Err(Ignored::UnknownRun(id.clone())),
        }
    }

    fn run_intended(&mut self, message: &Message, intent: RunIntent) -> Result<(), Ignored> {
        let id = run_of(message)?;
        if self.runs.contains_key(id) {
            return Err(Ignored::RunStarted);
        }
        self.runs.insert(id.clone(), Run::intended(message, intent));
        self.root_made(id, message.ts);
        Ok(())
    }

    /// A run may start whose intent this stream does not hold.
    fn run_known(&mut self, message: &Message, start: &RunStart) -> Result<(), Ignored> {
        let id = run_of(message)?;
        if !self.runs.contains_key(id) {
            self.runs.insert(id.clone(), Run::started_without_intent(message, start));
            self.root_made(id, message.ts);
        }
        Ok(())
    }

    fn run_event(&mut self, message: &Message, event: Event) -> Result<(), Ignored> {
        let id = run_of(message)?;
        match self.runs.get_mut(id) {
            Some(run) => run.apply(id, message, event),
            None => Err(Ignored::UnknownRun(id.clone())),
        }
    }

    fn root_made(&mut self, id: &RunId, at: Timestamp) {
        let Some(attempt) = self.runs.get(id).and_then(|run| run.attempt) else { return };
        self.ralph.root_made(id, attempt, at);
        if let Some(done) = &mut self.done {
            done.root_started = true;
        }
    }

    fn run_ended(&mut self, id: &RunId) {
        let Some((run, (end, _))) = self.runs.get(id).and_then(|run| Some((run, run.end()?))) else { return };
        if run.is_root() {
            // Whatever it died of: a root that was to be stopped is not started again.
            let outcome = if run.stopping.is_some() { RunOutcome::Stopped } else { end.status };
            self.ralph.root_ended(id, &run.agent, outcome, end);
        } else if let (None, Some(done)) = (&run.verify, &mut self.done) {
            done.late_results = true;
        }
    }

    /// The event may come long after the marker: what children did in between is late too.
    fn done_found(&mut self, message: &Message, done: &Done) {
        if self.done.is_some() {
            return;
        }
        let written = done.written.unwrap_or(message.ts);
        let is_late = |run: &Run| {
            let last = run.end().map(|(_, at)| at).max(run.last_post);
            !run.is_root() && run.verify.is_none() && last.is_some_and(|at| at > written)
        };
        let late_results = self.runs.values().any(is_late);
        self.done =
            Some(DoneMark { id: message.id.clone(), at: message.ts, late_results, root_started: false });
    }

    fn note_late_post(&mut self, message: &Message) {
        let Some(run) = message.content.run.as_ref().and_then(|id| self.runs.get_mut(id)) else { return };
        run.last_post = Some(message.ts);
        if let (false, Some(done)) = (run.is_root() || run.verify.is_some(), &mut self.done) {
            done.late_results = true;
        }
    }

    /// Keeps the counts true of one run, which had the one status before and has the other now.
    fn count_run(&mut self, id: &RunId, before: Option<RunStatus>, now: Option<RunStatus>) {
        if now == before {
            return;
        }
        self.counts.change(before, now);
        let is_known = self.active.iter().position(|active| active == id);
        match (is_known, now.is_some_and(RunStatus::is_active)) {
            (None, true) => {
                let place = self.active.partition_point(|active| active < id);
                self.active.insert(place, id.clone());
            }
            (Some(place), false) => {
                self.active.remove(place);
                if self.active.is_empty() {
                    // Most tasks idle.
                    self.active = Vec::new();
                }
            }
            (None, false) | (Some(_), true) => {}
        }
    }
}

fn run_of(message: &Message) -> Result<&RunId, Ignored> {
    message.content.run.as_ref().ok_or(Ignored::NoRun)
}
