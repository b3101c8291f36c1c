//! How a run ends: its agent exits, or its processes are ended a rung of the ladder a turn.

use super::{At, Supervisor};
use crate::event::{RunEnd, RunOutcome};
use crate::policy::ladder::{self, Action, Patience, Rung};
use crate::testkit::simulation::close;
use crate::testkit::simulation::sim::{Sim, Turn};

impl Supervisor {
    pub(super) fn after_exit(&mut self, sim: &mut Sim, code: i32, class: Option<&'static str>) -> Turn {
        close::end_set(sim, &self.run);
        let asked = self.stop_asked_for(sim);
        let mut end = self.end_with(sim, code, class);
        if let Some(stop) = asked {
            end.status = RunOutcome::Stopped;
            end.reason = format!("stopped on request of {}", stop.by);
            end.error_class = None;
        }
        self.at = At::Note(end);
        Turn::Goes
    }

    fn end_with(&self, sim: &Sim, code: i32, class: Option<&str>) -> RunEnd {
        RunEnd {
            status: if code == 0 { RunOutcome::Completed } else { RunOutcome::Failed },
            exit_code: Some(code),
            duration_ms: Some(sim.clock.mono_ms - self.began_ms),
            reason: format!("exit code {code}"),
            error_class: class.map(str::to_owned),
            ..RunEnd::default()
        }
    }

    pub(super) fn stop(&mut self, sim: &Sim, grace_ms: u64, reason: String, outcome: RunOutcome) -> Turn {
        self.at =
            At::Stopping { began_ms: sim.clock.mono_ms, rung: Rung::default(), grace_ms, reason, outcome };
        Turn::Goes
    }

    /// One look and one rung of the ladder.
    pub(super) fn climb(&mut self, sim: &mut Sim) -> Turn {
        let At::Stopping { began_ms, rung, grace_ms, reason, outcome } = &mut self.at else {
            return Turn::Goes;
        };
        let set = sim.set_of(&self.run);
        let now_ms = sim.clock.mono_ms - *began_ms;
        let patience = Patience { alone_ms: 0, grace_ms: *grace_ms };
        match ladder::next(ladder::Look { now_ms, patience, found: set.len(), rung: *rung }) {
            Action::Wait { ms } => return Turn::Sleeps(ms),
            Action::Ask => {
                *rung = Rung::asked(now_ms);
                for pid in set {
                    sim.terminate(pid);
                }
            }
            Action::Kill => {
                *rung = rung.killed(now_ms);
                for pid in set {
                    sim.kill(pid);
                }
            }
            Action::Done | Action::GiveUp => {
                let (reason, outcome) = (reason.clone(), *outcome);
                let (code, class) =
                    sim.runs.get(&self.run).and_then(|files| files.status).unwrap_or((-1, None));
                let mut end = self.end_with(sim, code, class);
                end.error_class = (outcome == RunOutcome::Failed).then(|| "killed".to_owned());
                (end.status, end.reason) = (outcome, reason);
                self.at = At::Note(end);
            }
        }
        Turn::Goes
    }
}
