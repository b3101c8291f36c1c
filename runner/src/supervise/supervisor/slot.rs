//! The run's slot: waited for before the agent is started, given back while its commands block and when it has ended
//! (`docs/slots.md`).

use std::time::{Duration, Instant};

use run_agent_core::cause::Cause;
use run_agent_core::decide::{self, Refusal};
use run_agent_core::event::{Event, Parked, Scope};
use run_agent_core::follow::FollowError;
use run_agent_core::policy::slots::{Class, Due, due};
use run_agent_core::store::ReadError;
use run_agent_core::{Draft, Durability};

use super::super::close;
use super::super::launch::Report;
use super::begin::StartFailure;
use super::{Starter, Supervisor};
use crate::failpoint;
use crate::slots::{Look, Slots};
use crate::sync_clock;
use crate::view::{Proposed, ViewError};

/// When others were looking for as long as one waits for them.
const BUSY_AGAIN: Duration = Duration::from_millis(50);

/// How the wait for a slot ended.
pub(super) enum Taken {
    Slot {
        /// It had to wait, and said so.
        parked: bool,
    },
    Refused(Refusal),
}

/// Goes into the same append as the start that it makes possible.
pub(super) fn unparked(scope: &Scope) -> Draft {
    let cause = Cause::Process("a slot is free".to_owned());
    Event::RunParked(Parked { ahead: None }).draft(scope, &cause, "got a slot")
}

impl Supervisor<'_> {
    /// Steps 6a to 6e. A stop wins at any time.
    pub(super) fn take_slot(&mut self, starter: &mut Starter) -> Result<Taken, StartFailure> {
        let mut parked = false;
        // While it waits it appends nothing, so that its sync clock strikes once.
        let mut sync_at = None;
        loop {
            let look = match &mut self.slots {
                None => Ok(Look::Entered),
                Some(slots) => slots.look(Class::New),
            };
            let failed = |why: String| StartFailure { why, class: "crash" };
            let nap = match look.map_err(|error| failed(format!("cannot take a slot: {error}")))? {
                Look::Entered => {
                    failpoint::here("supervisor.slot");
                    return Ok(Taken::Slot { parked });
                }
                Look::Waits { ahead, again } => {
                    let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
                    if !parked {
                        failpoint::here("supervisor.ticket");
                        match self.post_parked(ahead).map_err(|error| failed(error.to_string()))? {
                            None => parked = true,
                            Some(refusal) => return Ok(Taken::Refused(refusal)),
                        }
                        failpoint::here("supervisor.parked");
                        close::project_info(self.tree, &self.view, &self.launch.run);
                        starter.tell(&Report::Parked { ahead });
                        let by_clock = self.tree.durability == Durability::Interval;
                        sync_at = by_clock.then(|| Instant::now() + self.tree.sync_every);
                    }
                    again
                }
                Look::Busy => BUSY_AGAIN,
            };
            let sync_in = sync_at.map(|at: Instant| at.saturating_duration_since(Instant::now()));
            self.sleep(sync_in.map_or(nap, |sync_in| nap.min(sync_in)));
            if sync_at.take_if(|at| *at <= Instant::now()).is_some() {
                sync_clock::sync_once(self.tree, &self.view.name.key());
            }
            if let Some(refusal) = self.refused_meanwhile() {
                return Ok(Taken::Refused(refusal));
            }
        }
    }

    /// Looked at after each sleep: the bell that told of a stop may have been lost.
    fn refused_meanwhile(&mut self) -> Option<Refusal> {
        // What else cannot be read now is read at the next look.
        if let Err(ViewError::Follow(FollowError::Read(ReadError::Gone { .. }))) = self.view.fold() {
            return Some(Refusal::Deleted);
        }
        decide::may_start_run(self.view.task(), &self.launch.run).err()
    }

    fn post_parked(&mut self, ahead: u32) -> Result<Option<Refusal>, ViewError> {
        let id = self.launch.run.clone();
        let scope = self.view.name.scope(Some(id.clone()));
        let line = format!("waiting for other agents to complete ({ahead} ahead)");
        let cause = Cause::Limit("max_agents".to_owned());
        let draft = Event::RunParked(Parked { ahead: Some(ahead) }).draft(&scope, &cause, line);
        match self.view.propose(vec![draft], |task| decide::may_start_run(task, &id))? {
            Proposed::Appended(_) => Ok(None),
            Proposed::Refused(refusal) => Ok(Some(refusal)),
        }
    }

    /// While the agent runs: gives the slot back when a command blocks, and has it again before the last one returns.
    pub(super) fn see_to_slot(&mut self) {
        let Self { slots, commands, look_at, .. } = self;
        let Some(slots) = slots else { return commands.let_go() };
        loop {
            match due(commands.blocked(), commands.returning(), slots.place()) {
                Due::Nothing => break,
                Due::LetGo => commands.let_go(),
                Due::GiveBack => {
                    slots.leave();
                    failpoint::here("supervisor.gave_back");
                }
                Due::LeaveQueue => slots.leave(),
                Due::Take if look_at.is_some_and(|at| at > Instant::now()) => return,
                Due::Take => {
                    let again = match slots.look(Class::Returning) {
                        Ok(Look::Entered) => {
                            failpoint::here("supervisor.took_back");
                            continue;
                        }
                        Ok(Look::Waits { again, .. }) => again,
                        Ok(Look::Busy) => BUSY_AGAIN,
                        Err(error) => {
                            // An agent must not hang because a folder cannot be used.
                            tracing::warn!(%error, "cannot take the slot back");
                            commands.let_go();
                            super::LOOK_AGAIN
                        }
                    };
                    *look_at = Some(Instant::now() + again);
                    return;
                }
            }
        }
        *look_at = None;
    }

    pub(super) fn leave_slot(&mut self) {
        self.slots.as_mut().map(Slots::leave);
    }
}
