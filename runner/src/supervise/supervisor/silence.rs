//! Looking for signs of life of a run (`run_agent_core::policy::watch`), telling what became of it, and its time limit.
//! Looks are rare, and the processes of the system are only listed when nothing else shows that the run lives.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use run_agent_core::cause::Cause;
use run_agent_core::decide;
use run_agent_core::event::{self, Event, RunOutcome, Stopping};
use run_agent_core::plan::reason::TIME_LIMIT;
use run_agent_core::policy::watch::{Cpu, Due, STUCK, Signs, Watch, WatchPolicy};
use run_agent_core::world::Task;
use run_agent_core::{Draft, Kind, MsgId, Parent, RunId, text};

use super::super::os::{self, ProcessId};
use super::super::{Launch, Streams, set};
use super::{Ending, Supervisor};
use crate::own_time::OwnTime;
use crate::view::Proposed;

/// The settings' names, as causes tell them.
const IDLE_AFTER: &str = "idle_after";
const STUCK_AFTER: &str = "stuck_after";
const TIMEOUT: &str = "timeout";

/// What a supervisor remembers between looks.
pub(super) struct Silence {
    time: OwnTime,
    watch: Watch,
    cpu: CpuTally,
}

impl Silence {
    pub(super) fn new(launch: &Launch) -> Self {
        let watch = Watch::new(policy(launch), launch.timeout_ms);
        Self { time: OwnTime::begin(), watch, cpu: CpuTally::default() }
    }

    /// The agent was let go at this time: from then on its own time counts, and from now on its silence.
    pub(super) fn begin(&mut self, let_go: Instant) {
        self.time = OwnTime::since(let_go);
        self.watch.begin(self.time.passed_ms());
    }

    pub(super) fn before_sleep(&mut self, nap: Duration) {
        self.time.before_sleep(nap);
    }

    pub(super) fn after_sleep(&mut self) {
        self.time.passed_ms();
    }

    /// How long nothing is due, if nothing happens.
    pub(super) fn nap(&mut self) -> Duration {
        Duration::from_millis(self.watch.nap_ms(self.time.passed_ms()))
    }

    /// Output has grown: a run that was idle lives again, and that is told at once.
    pub(super) fn output_grew(&mut self) {
        if self.watch.is_idle() {
            self.watch.look_now();
        }
    }
}

/// What of the settings holds for a run. A person who sits before a command by hand sees by themselves that it hangs: it
/// is never stopped for that; and what it prints on a terminal is not seen from here at all.
fn policy(launch: &Launch) -> WatchPolicy {
    match launch.streams {
        Streams::Prompt | Streams::Nothing => launch.watch,
        Streams::CallerInput => WatchPolicy { stuck_after_ms: 0, ..launch.watch },
        Streams::Terminal => WatchPolicy::NEVER,
    }
}

impl Supervisor<'_> {
    /// How the run is to be stopped, if its time is up or it hangs.
    pub(super) fn overdue(&mut self) -> Option<(Stopping, Ending)> {
        let now_ms = self.silence.time.passed_ms();
        if self.silence.watch.is_over(now_ms) {
            let limit = Duration::from_millis(self.launch.timeout_ms.unwrap_or_default());
            let reason = format!("{TIME_LIMIT} of {limit:?} reached");
            return Some(self.ended_by(TIMEOUT, reason, Cause::Limit(TIMEOUT.to_owned())));
        }
        if self.silence.watch.look_is_due(now_ms) { self.look_for_life(now_ms) } else { None }
    }

    fn ended_by(&self, setting: &str, reason: String, cause: Cause) -> (Stopping, Ending) {
        let how = Stopping { by: setting.to_owned(), grace_ms: self.launch.grace_ms, keep_children: true };
        (how, Ending { outcome: RunOutcome::Failed, reason, cause })
    }

    fn look_for_life(&mut self, now_ms: u64) -> Option<(Stopping, Ending)> {
        // What cannot be read now is read at the next look.
        let _ = self.view.refresh();
        // A stop that was asked for wins, and is seen to next.
        if self.stop_asked_for().is_some() {
            return None;
        }
        let signs = self.signs();
        match self.silence.watch.look(now_ms, &signs) {
            Due::Nothing => None,
            Due::Idle { silent_s } => {
                let line = format!("idle: no sign of life for {}", text::span(silent_s));
                let event = Event::RunIdle(event::Silence { silent_s });
                self.tell(&event, &Cause::Timer(IDLE_AFTER.to_owned()), line, None);
                None
            }
            Due::Active { silent_s, life } => {
                let line = format!("active again after {}: {}", text::span(silent_s), life.as_str());
                let event = Event::RunActive(event::Silence { silent_s });
                self.tell(&event, &Cause::Process(life.as_str().to_owned()), line, None);
                None
            }
            Due::Stuck { silent_s } => self.stuck(silent_s),
        }
    }

    fn stuck(&mut self, silent_s: u64) -> Option<(Stopping, Ending)> {
        let line = format!("stuck: no sign of life for {}; it is stopped", text::span(silent_s));
        let warning = format!(
            "run {} of {} gave no sign of life for {} (watch.stuck_after) and is stopped",
            self.launch.run,
            self.launch.agent,
            text::span(silent_s)
        );
        let timer = Cause::Timer(STUCK_AFTER.to_owned());
        let event = Event::RunStuck(event::Silence { silent_s });
        let cause = match self.tell(&event, &timer, line, Some(warning)) {
            Told::Posted(id) => Cause::Message(id),
            Told::Not => timer,
            // It is being stopped already.
            Told::Refused => return None,
        };
        let reason = format!("{STUCK}: no sign of life for {silent_s} s");
        Some(self.ended_by(STUCK_AFTER, reason, cause))
    }

    fn signs(&mut self) -> Signs {
        self.marker.look(&self.run);
        // What was just printed counts as what it says.
        self.hear();
        let (stdout_bytes, stderr_bytes) = match (&self.calling, &self.hearing) {
            // The lines in which this process tells of its request are no sign of the other side's.
            (Some(calling), _) => (self.marker.sizes().0, calling.refusals()),
            (None, Some(hearing)) => (hearing.life_bytes(), 0),
            (None, None) => self.marker.sizes(),
        };
        let (task, own) = (self.view.task(), &self.launch.run);
        let asks = |question: &&run_agent_core::world::Question| {
            question.blocking && question.run.as_ref() == Some(own)
        };
        let mut signs = Signs {
            stdout_bytes,
            stderr_bytes,
            // One that waits for the run's slot keeps the agent waiting as well.
            blocked_commands: self.commands.blocked() + self.commands.returning(),
            active_children: active_below(task, own),
            open_questions: task.thread.open_questions.values().filter(asks).count(),
            cpu: None,
        };
        if !self.silence.watch.is_plain(&signs) {
            signs.cpu = self.cpu();
        }
        signs
    }

    fn cpu(&mut self) -> Option<Cpu> {
        if self.calling.is_some() {
            // Who waits for an answer uses none.
            return Some(Cpu { used_ms: 0, load_percent: 0 });
        }
        let snapshot = os::processes().ok()?;
        let owner = Self::owner(self.launch.run.as_str(), self.agent);
        let of: Vec<ProcessId> = set::of_run(&snapshot, owner).iter().map(|process| process.id).collect();
        self.silence.cpu.take_in(&os::cpu::used_ms(&of), os::cpu::reaped_ms());
        Some(Cpu { used_ms: self.silence.cpu.total_ms, load_percent: os::cpu::load_percent() })
    }

    /// Posts an event of this run, and what a person should see beside it.
    fn tell(&mut self, event: &Event, cause: &Cause, line: String, warning: Option<String>) -> Told {
        let id = self.launch.run.clone();
        let draft = event.draft(&self.view.name.scope(Some(id.clone())), cause, line);
        let posted = match self.view.propose(vec![draft], |task| decide::may_call_silent(task, &id)) {
            Ok(Proposed::Appended(entries)) => entries.first().map(|entry| entry.message.id.clone()),
            Ok(Proposed::Refused(_)) => return Told::Refused,
            Err(error) => {
                tracing::warn!(run = %id, %error, "cannot tell of the run's silence");
                None
            }
        };
        let Some(posted) = posted else { return Told::Not };
        if let Some(text) = warning {
            let name = &self.view.name;
            let mut draft = Draft::new(Kind::WARNING, name.project.clone(), Some(name.task.clone()), text);
            draft.parents = vec![Parent::new(posted.clone(), Some("about"))];
            // The event itself stands: that counts.
            let _ = self.view.post(vec![draft]);
        }
        Told::Posted(posted)
    }
}

enum Told {
    Posted(MsgId),
    /// The stream could not be written.
    Not,
    /// A stop came first.
    Refused,
}

/// What this run started that has not ended, at whatever depth: runs of its task, and what they started in other tasks.
fn active_below(task: &Task, own: &RunId) -> usize {
    let is_below = |parent: Option<&RunId>| {
        let mut parent = parent;
        // Bounded: parents that a hand wrote may name each other in a circle.
        for _ in 0..=task.runs.len() {
            match parent {
                Some(id) if id == own => return true,
                Some(id) => parent = task.runs.get(id).and_then(|run| run.parent.as_ref()),
                None => return false,
            }
        }
        false
    };
    let runs = task.active().filter(|(_, run)| is_below(run.parent.as_ref())).count();
    runs + task.open_links().filter(|(_, link)| is_below(link.parent.as_ref())).count()
}

/// What the processes of a run used so far, also those that are gone: the sum of what was seen to be added. One that ends
/// counts once more, as what its parent waited for: that it ended is a sign of life too.
#[derive(Default)]
struct CpuTally {
    seen: BTreeMap<(u32, u64), u64>,
    reaped_ms: u64,
    total_ms: u64,
}

impl CpuTally {
    fn take_in(&mut self, used: &[(ProcessId, u64)], reaped_ms: u64) {
        let mut seen = BTreeMap::new();
        for (id, used_ms) in used {
            let key = (id.pid, id.start_ticks);
            let before_ms = self.seen.get(&key).copied().unwrap_or(0);
            self.total_ms = self.total_ms.saturating_add(used_ms.saturating_sub(before_ms));
            seen.insert(key, *used_ms);
        }
        self.seen = seen;
        self.total_ms = self.total_ms.saturating_add(reaped_ms.saturating_sub(self.reaped_ms));
        self.reaped_ms = reaped_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_used_counts_once_and_stays_counted_when_it_is_gone() {
        let id = |pid| ProcessId { pid, start_ticks: 1 };
        let mut tally = CpuTally::default();
        tally.take_in(&[(id(1), 100), (id(2), 50)], 0);
        tally.take_in(&[(id(1), 130)], 0);
        assert_eq!(tally.total_ms, 180);
        // Its parent waited for it, or this process did.
        tally.take_in(&[(id(1), 190)], 20);
        assert_eq!(tally.total_ms, 260);
        // The pid is another process now.
        tally.take_in(&[(ProcessId { pid: 1, start_ticks: 2 }, 10)], 20);
        assert_eq!(tally.total_ms, 270);
    }
}
