//! The loop's driver: gather, fold, ask the plan, do its one step, look again. It holds no state that matters; a
//! driver that was killed is followed by one that goes on in the same place.

mod begin;
mod budget;
mod clock;
pub mod detach;
mod ends;
mod facts;
mod outside;
mod place;
mod roots;
mod shortage;

use std::io;
use std::path::Path;
use std::time::Duration;

use run_agent_core::cause::Cause;
use run_agent_core::decide::{self, Refusal};
use run_agent_core::event::{Event, LoopEnd, Scope};
use run_agent_core::layout::{DONE, LOOP_LOCK};
use run_agent_core::plan::{self, Look, Step};
use run_agent_core::policy::LoopPolicy;
use run_agent_core::policy::agents::Pool;
use run_agent_core::policy::budget::Spent;
use run_agent_core::policy::watch::WatchPolicy;
use run_agent_core::world::{Marker, RunState, Task};
use run_agent_core::{Draft, Entry, Kind, Message, Parent, RunId, Timestamp};

use self::budget::Ledger;
use self::clock::LoopClock;
use self::outside::Outside;
use self::place::Place;
use self::shortage::Shortage;
use crate::agent::Backend;
use crate::link::{self, Children, Origin};
use crate::starting::{self, Starting};
use crate::stop::{self, elsewhere};
use crate::supervise::start::{RootStart, StartError, Started};
use crate::supervise::take_over::LookAfter;
use crate::supervise::{close, os, ring};
use crate::sync_clock::SyncClock;
use crate::tree::{TaskName, Tree};
use crate::view::{Proposed, TaskView, ViewError};
use crate::wake::Wake;
use crate::{above, failpoint, files, marker};

/// The agents that a loop may start.
pub trait Agents: std::fmt::Debug {
    /// # Errors
    /// When the agent cannot be started on this machine: why, in words.
    fn backend(&self, name: &str) -> Result<Box<dyn Backend>, String>;
    /// The time limit of one run of this agent.
    fn timeout(&self, name: &str) -> Option<Duration>;
}

/// What a loop is driven with.
#[derive(Debug)]
pub struct Loop<'a> {
    pub agents: &'a dyn Agents,
    pub pool: &'a Pool,
    pub prompt: &'a str,
    pub cwd: &'a Path,
    pub policy: &'a LoopPolicy,
    pub max_depth: u32,
    /// How many loops that no agent started may be driven at once on this root; 0: any number.
    pub max_tasks: u32,
    pub grace: Duration,
    pub watch: WatchPolicy,
    /// How many agents of the root may be at work; 0: any number.
    pub max_agents: u32,
    /// Set the counters back, as `resume` does.
    pub fresh: bool,
    /// Take only a loop that is open, as `adopt` does.
    pub adopt: bool,
    /// Known by the loop from its start on.
    pub starting: Option<&'a Starting>,
    /// What the loop was asked for, as JSON: `LOOP_START` keeps it for whoever adopts it.
    pub settings: &'a str,
    pub cause: &'a Cause,
    /// The run of another task that started this loop, when one did.
    pub origin: Option<&'a Origin>,
    pub depth: u32,
    /// The flags with which a command that is printed for a person finds this task from anywhere.
    pub flags: &'a str,
}

/// What the driver tells while it works; the caller shows it.
#[derive(Debug)]
pub enum Talk<'a> {
    /// The loop is taken: this process drives it.
    Driving,
    /// New entries of the stream, in order.
    New(&'a [Entry]),
    /// A live root run was found and joined.
    Joined(&'a RunId),
    Started(&'a Started),
    WaitingFor(&'a [RunId]),
    /// The machine is short of something: the same step is tried again after a pause.
    Shortage {
        error: &'a DriveError,
        pause: Duration,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error(
        "task {task} is driven already by {holder}; follow it with `run-agent task --attach{flags}`, or stop it with `run-agent stop{flags}`"
    )]
    Locked { task: TaskName, holder: String, flags: String },
    #[error("cannot lock {path}")]
    Lock { path: String, source: io::Error },
    #[error("cannot look at {path}")]
    Marker { path: String, source: io::Error },
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Start(StartError),
    #[error("another driver took the loop of {0}")]
    Taken(TaskName),
}

/// Drives the loop of a task to its end. `wake` tells of signals; an interrupted driver ends and leaves the agent.
///
/// # Errors
/// When somebody else drives it, or the stream or the task's folder cannot be used.
pub fn drive(
    tree: &Tree,
    view: &mut TaskView,
    what: &Loop<'_>,
    wake: &Wake,
    talk: &mut dyn FnMut(Talk<'_>),
) -> Result<LoopEnd, DriveError> {
    let _lock = begin::take_lock(tree, view, what.flags)?;
    failpoint::here("driver.lock");
    // A loop that a run started is not that run's process.
    os::cgroup::leave();
    wake.watch_stream(tree, &view.name);
    wake.watch_files(tree.task(&view.name).folder(), &[DONE, LOOP_LOCK]);
    let mut driver = Driver::begin(tree, view, what)?;
    failpoint::here("driver.began");
    talk(Talk::Driving);
    if let Some(root) = driver.view.task().active_root() {
        talk(Talk::Joined(root));
    }
    let ended = driver.run(wake, talk);
    failpoint::here("driver.ended");
    // Where it was interrupted, what runs goes on, and with it the link.
    let over = ended.as_ref().is_ok_and(|end| end.reason != plan::reason::INTERRUPTED);
    if let (true, Some(origin)) = (over, what.origin) {
        // What cannot be told there now, that task's loop finds by itself.
        let _ = link::close(tree, &origin.name, &driver.view.name, None);
    }
    ended
}

struct Driver<'a> {
    tree: &'a Tree,
    view: &'a mut TaskView,
    what: &'a Loop<'a>,
    outside: Outside,
    children: Children,
    look_after: LookAfter,
    ledger: Ledger,
    sync_clock: SyncClock,
    place: Place,
    clock: LoopClock,
}

impl<'a> Driver<'a> {
    fn begin(tree: &'a Tree, view: &'a mut TaskView, what: &'a Loop<'a>) -> Result<Self, DriveError> {
        close::close_dead(tree, view)?;
        view.fold()?;
        if what.adopt {
            // Asked before the link is opened again; it counts when the loop is taken.
            let refused = |refusal| DriveError::Start(StartError::Refused(refusal));
            decide::may_adopt_loop(view.task()).map_err(refused)?;
        }
        if let Some(origin) = what.origin {
            let linked = link::open(tree, origin, &view.name, None, Some(what.policy.budget), what.cause)?;
            linked.map_err(|refusal| DriveError::Start(StartError::Refused(refusal)))?;
        }
        link::break_circles(tree, view)?;
        // Also without a limit: one may be set while the loop lives.
        let base = what.fresh.then(|| Ledger::default().spent(tree, view));
        let active_ms = loop {
            // Whether a driver was lost is decided under the append lock too: a stop may end the loop in between.
            let open = view.task().ralph.is_open();
            let active_ms = if what.fresh { 0 } else { view.task().ralph.active_ms };
            let may = |task: &Task| match (task.ralph.is_open() == open, what.adopt) {
                (false, _) => Err(Refusal::Moot),
                (true, true) => decide::may_adopt_loop(task),
                (true, false) => decide::may_start_loop(task),
            };
            match view.propose(begin::opening(view, what, active_ms, base), may)? {
                Proposed::Appended(_) => {
                    what.starting.inspect(|starting| starting.is_known());
                    break active_ms;
                }
                Proposed::Refused(Refusal::Moot) => {}
                Proposed::Refused(refusal) => return Err(DriveError::Start(StartError::Refused(refusal))),
            }
        };
        let clock = LoopClock::begin(view, active_ms);
        let (outside, children) = (Outside::default(), Children::default());
        let place = Place::new(tree, &view.name, what.max_tasks, what.depth);
        let (look_after, ledger) = (LookAfter::default(), Ledger::default());
        let sync_clock = SyncClock::begin(tree, &view.name.key());
        Ok(Self { tree, view, what, outside, children, look_after, ledger, sync_clock, place, clock })
    }

    fn run(&mut self, wake: &Wake, talk: &mut dyn FnMut(Talk<'_>)) -> Result<LoopEnd, DriveError> {
        let mut shortage = Shortage::default();
        loop {
            match self.look(wake, talk) {
                Ok(Some(end)) => return Ok(end),
                Ok(None) => shortage = Shortage::default(),
                Err(error) => {
                    let pause = shortage.pause(&error).filter(|_| !wake.interrupted());
                    let Some(pause) = pause else { return Err(error) };
                    talk(Talk::Shortage { error: &error, pause });
                    self.clock.sleep_long(wake, pause);
                }
            }
        }
    }

    fn look(&mut self, wake: &Wake, talk: &mut dyn FnMut(Talk<'_>)) -> Result<Option<LoopEnd>, DriveError> {
        let new = self.view.refresh()?;
        if !new.is_empty() {
            self.sync_clock.grown();
            talk(Talk::New(&new));
        }
        if wake.interrupted() {
            return self.interrupted(talk).map(Some);
        }
        self.turn(wake, talk)
    }

    /// One look and one step. `Some`: the loop is over.
    fn turn(&mut self, wake: &Wake, talk: &mut dyn FnMut(Talk<'_>)) -> Result<Option<LoopEnd>, DriveError> {
        self.look_after.look(self.tree, self.view, |_| true)?;
        self.children.reconcile(self.tree, self.view)?;
        let marker = self.reconcile_marker()?;
        let clock = self.clock.look(self.view.task().active_root().is_some());
        let unmet = self.outside.unmet(self.tree, self.view, wake);
        let limited = self.what.policy.budget.is_limited();
        let spent = if limited { self.ledger.spent(self.tree, self.view) } else { Spent::default() };
        let look = Look {
            task: self.view.task(),
            marker,
            policy: self.what.policy,
            pool: self.what.pool,
            unmet: &unmet,
            spent,
            clock,
            now: Timestamp::now(),
        };
        let step = match plan::next(look) {
            Step::StartRoot { .. } if !self.may_spend() => plan::end_without_budget(look),
            start @ Step::StartRoot { .. } => match self.place.take() {
                Some(again) => {
                    plan::wait_for_loops(look, u64::try_from(again.as_millis()).unwrap_or(u64::MAX))
                }
                None => start,
            },
            step => step,
        };
        let limit = plan::limit_reached(look);
        self.wait_begins(&step);
        match step {
            Step::StartRoot { attempt, agent, why, event, previous, session } => {
                let root = RootStart { attempt, why: &why, previous, event, session };
                self.start_root(&agent, root, talk)?;
            }
            Step::StopRuns { runs, elsewhere: links } => {
                self.see_to_stop(&runs, &links);
                self.clock.sleep(wake, Duration::from_millis(200));
            }
            Step::WaitRuns { runs, event, look_again_ms, elsewhere: links, .. } => match event {
                Some(event) => {
                    talk(Talk::WaitingFor(&runs));
                    let line =
                        format!("waiting for {}", count((runs.len() + links.len()) as u64, "active run"));
                    self.post_while_open(event, &Cause::Process("runs are active".to_owned()), &line)?;
                }
                None => self.clock.sleep(wake, look_again_ms.map_or(Duration::MAX, Duration::from_millis)),
            },
            Step::Pause { ms, event } => match event {
                Some(event) => self.tell_pause(event, ms)?,
                None => self.clock.sleep(wake, Duration::from_millis(ms)),
            },
            Step::Hold { reason, ms, event } => match event {
                Some(event) => self.tell_hold(reason, event, &unmet)?,
                None => self.clock.sleep(wake, ms.map_or(Duration::MAX, Duration::from_millis)),
            },
            Step::Degrade { run, event } => self.degrade(&run, event)?,
            Step::TellBudget(budget) => self.tell_budget(budget)?,
            Step::StopForBudget { limit } => self.stop_for_budget(limit)?,
            Step::Verify { command, key, previous } => self.verify(&command, &key, previous, talk)?,
            Step::Reject { run, command, exit_code } => self.reject(&run, command, exit_code)?,
            // Who is about to start something here has to find the stop standing.
            Step::End(end) if end.reason == plan::reason::STOPPED && self.is_on_its_way() => {
                self.clock.sleep(wake, Duration::from_millis(200));
            }
            Step::End(end) => {
                let ended = self.end(end, limit, &unmet, talk)?;
                if ended.is_none() {
                    // Something came first. The stream tells what; should it tell nothing new, this is no busy loop.
                    self.clock.sleep(wake, Duration::from_millis(200));
                }
                return Ok(ended);
            }
        }
        Ok(None)
    }

    /// Is anything left of what the tasks may use for which this loop works?
    fn may_spend(&self) -> bool {
        let above = |origin| above::may_spend(self.tree, origin, Some(self.what.policy.budget)).is_ok();
        self.what.origin.is_none_or(above)
    }

    /// Notes what the driver is about to wait for, and whether that is the loop's own time.
    fn wait_begins(&mut self, step: &Step) {
        let reason = match step {
            Step::WaitRuns { reason, .. } => *reason,
            Step::Hold { reason, .. } => Some(*reason),
            Step::StartRoot { .. }
            | Step::StopRuns { .. }
            | Step::Pause { .. }
            | Step::Degrade { .. }
            | Step::TellBudget(_)
            | Step::StopForBudget { .. }
            | Step::Verify { .. }
            | Step::Reject { .. }
            | Step::End(_) => None,
        };
        let root = self.view.task().active_root().and_then(|id| self.view.run(id)).map(|run| &run.state);
        let parked = matches!(root, Some(RunState::Queued { ahead: Some(_), .. }));
        self.clock.waits_for(reason, reason.is_none() && !parked);
    }

    /// Rings the supervisors of what is to stop; in other tasks it is asked for first.
    fn see_to_stop(&self, runs: &[RunId], links: &[run_agent_core::world::Link]) {
        for run in runs {
            ring(&self.tree.run(&self.view.name, run));
        }
        if let Some(request) = &self.view.task().ralph.stopping {
            let how = stop::How {
                by: request.how.by.clone(),
                cause: Cause::Process(format!("stop of {}", self.view.name)),
                grace: Duration::from_millis(request.how.grace_ms),
                keep_children: false,
            };
            elsewhere::ask(self.tree, links, &how, &mut std::collections::BTreeSet::new());
        }
    }

    /// Posts what marker and stream disagree about; the marker wins.
    fn reconcile_marker(&mut self) -> Result<Marker, DriveError> {
        let path = self.tree.task(&self.view.name).done();
        let marker = files::marker(&path)
            .map_err(|source| DriveError::Marker { path: path.display().to_string(), source })?;
        marker::reconcile(self.tree, self.view, marker)?;
        Ok(marker)
    }

    /// Is anybody about to start something in this task?
    fn is_on_its_way(&self) -> bool {
        starting::is_on_its_way(self.tree, &self.view.name)
    }

    fn scope(&self) -> Scope {
        self.view.name.scope(None)
    }

    /// Posts what the loop says while it is open. What was posted comes back; a stop that came first lets nothing be.
    fn post_while_open(
        &mut self,
        event: Event,
        cause: &Cause,
        line: &str,
    ) -> Result<Option<Entry>, DriveError> {
        let draft = event.draft(&self.scope(), cause, line);
        self.append_while_open(draft)
    }

    fn append_while_open(&mut self, draft: Draft) -> Result<Option<Entry>, DriveError> {
        let posted = self.view.propose(vec![draft], |task| match &task.ralph.stopping {
            Some(_) => Err(Refusal::Moot),
            None if task.ralph.is_open() => Ok(()),
            None => Err(Refusal::LoopNotOpen),
        })?;
        match posted {
            // Ended by somebody else, while this driver lives.
            Proposed::Refused(Refusal::LoopNotOpen) => Err(DriveError::Taken(self.view.name.clone())),
            // A stop that came in between wins: the next look sees it.
            Proposed::Refused(_) => Ok(None),
            Proposed::Appended(mut entries) => Ok(entries.pop()),
        }
    }

    /// What a person should see, with the event that it is about.
    fn tell(&mut self, kind: Kind, about: &Message, text: String) -> Result<(), DriveError> {
        let name = &self.view.name;
        let mut draft = Draft::new(kind, name.project.clone(), Some(name.task.clone()), text);
        draft.parents = vec![Parent::new(about.id.clone(), Some("about"))];
        self.view.post(vec![draft])?;
        Ok(())
    }
}

/// `1 restart`, `2 restarts`.
fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
