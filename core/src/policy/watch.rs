//! When is a run idle, stuck, or over its time limit? (spec, section 5, "Idle and stuck".)
//!
//! [`Watch`] is fed with what a look at the run finds and tells what is due. Its times are those of a clock that counts
//! only while the supervisor runs ([`super::counted`]), in milliseconds from the agent's start.
//!
//! Silence counts from the last look that found a sign of life. CPU time is one only when it is *to speak of*: an agent
//! that waits for its API turns a spinner and fires timers, and must not look alive for ever; a compiler that prints
//! nothing must. The line between them is [`CPU_PER_MILLE`], of one CPU.

use serde::{Deserialize, Serialize};

/// The reason of a task whose runs are all idle.
pub const IDLE: &str = "idle";
/// How the reason of a run begins that was stopped since it hung.
pub const STUCK: &str = "stuck";

/// From here on CPU time is a sign of life, in thousandths of one CPU: spinners, timers and loops around `sleep 0.1` were
/// measured at 1 to 12, a compiler that has a CPU to itself uses 1000.
pub const CPU_PER_MILLE: u64 = 30;
/// The same where so many processes want each CPU that a compiler gets no more.
const CPU_PER_MILLE_LEAST: u64 = 5;
/// What is used in less time than this says nothing: the system counts CPU time in steps of 10 ms.
const CPU_WINDOW_MS: u64 = 1000;

const LOOK_AT_LEAST_MS: u64 = CPU_WINDOW_MS;
const LOOK_AT_MOST_MS: u64 = 30_000;

/// The `watch` block of the configuration; the defaults are those of the spec, section 8. 0 is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchPolicy {
    /// Silence after which a run is idle.
    pub idle_after_ms: u64,
    /// Silence after which it is stopped.
    pub stuck_after_ms: u64,
}

impl Default for WatchPolicy {
    fn default() -> Self {
        Self { idle_after_ms: 5 * 60_000, stuck_after_ms: 15 * 60_000 }
    }
}

impl WatchPolicy {
    /// Of a run that nobody can call silent.
    pub const NEVER: Self = Self { idle_after_ms: 0, stuck_after_ms: 0 };
}

/// What a look at a run finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signs {
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    /// `run-agent` commands of the run that wait for something.
    pub blocked_commands: usize,
    /// Runs below it that have not ended.
    pub active_children: usize,
    /// Blocking questions of its own that nobody has answered.
    pub open_questions: usize,
    /// What its processes used so far. `None`: nobody looked, since something else is a sign of life.
    pub cpu: Option<Cpu>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Only ever grows.
    pub used_ms: u64,
    /// How many processes want each CPU of the machine, times 100.
    pub load_percent: u64,
}

/// What showed that a run lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Output,
    BlockedCommand,
    Child,
    Question,
    Cpu,
}

impl Life {
    /// In words, for the event's cause.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Output => "output grew",
            Self::BlockedCommand => "a command of its own waits",
            Self::Child => "a child run is active",
            Self::Question => "a question is open",
            Self::Cpu => "it uses CPU time",
        }
    }
}

/// What is due after a look. Silence is in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Nothing,
    /// `RUN_IDLE`.
    Idle {
        silent_s: u64,
    },
    /// `RUN_ACTIVE`: it was idle for so long.
    Active {
        silent_s: u64,
        life: Life,
    },
    /// `RUN_STUCK`, and the run is stopped.
    Stuck {
        silent_s: u64,
    },
}

/// What is remembered of a run between looks.
#[derive(Debug, Clone)]
pub struct Watch {
    policy: WatchPolicy,
    time_limit_ms: Option<u64>,
    /// The last look that found a sign of life.
    alive_ms: u64,
    idle: bool,
    stuck: bool,
    stdout_bytes: u64,
    stderr_bytes: u64,
    /// When CPU time was read last, and what had been used. None after a look that did not read it.
    cpu_since: Option<(u64, u64)>,
    next_look_ms: u64,
}

impl Watch {
    /// Of a run whose agent starts at 0.
    #[must_use]
    pub fn new(policy: WatchPolicy, time_limit_ms: Option<u64>) -> Self {
        let mut watch = Self {
            policy,
            time_limit_ms,
            alive_ms: 0,
            idle: false,
            stuck: false,
            stdout_bytes: 0,
            stderr_bytes: 0,
            cpu_since: None,
            next_look_ms: 0,
        };
        watch.plan_look(0);
        watch
    }

    /// Whoever looks begins only now: silence counts from here.
    pub fn begin(&mut self, now_ms: u64) {
        self.alive_ms = now_ms;
        self.plan_look(now_ms);
    }

    /// It has run for as long as it may, whatever it does.
    #[must_use]
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.time_limit_ms.is_some_and(|limit| now_ms >= limit)
    }

    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// A look for signs of life is due.
    #[must_use]
    pub fn look_is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.next_look_ms
    }

    /// How long nothing is due, if nothing happens.
    #[must_use]
    pub fn nap_ms(&self, now_ms: u64) -> u64 {
        self.next_look_ms.min(self.time_limit_ms.unwrap_or(u64::MAX)).saturating_sub(now_ms)
    }

    /// The next look is due at once: something happened that may be a sign of life.
    pub fn look_now(&mut self) {
        self.next_look_ms = 0;
    }

    /// True when these signs show that the run lives without a look at its CPU time.
    #[must_use]
    pub fn is_plain(&self, signs: &Signs) -> bool {
        self.plain(signs).is_some()
    }

    fn plain(&self, signs: &Signs) -> Option<Life> {
        if (signs.stdout_bytes, signs.stderr_bytes) != (self.stdout_bytes, self.stderr_bytes) {
            Some(Life::Output)
        } else if signs.blocked_commands > 0 {
            Some(Life::BlockedCommand)
        } else if signs.active_children > 0 {
            Some(Life::Child)
        } else if signs.open_questions > 0 {
            Some(Life::Question)
        } else {
            None
        }
    }

    /// Takes in what a look found, and tells what is due.
    pub fn look(&mut self, now_ms: u64, signs: &Signs) -> Due {
        let (life, judged) = self.life(now_ms, signs);
        (self.stdout_bytes, self.stderr_bytes) = (signs.stdout_bytes, signs.stderr_bytes);
        let silent_ms = now_ms.saturating_sub(self.alive_ms);
        let silent_s = silent_ms / 1000;
        let reached = |after_ms: u64| after_ms > 0 && silent_ms >= after_ms;
        let due = if let Some(life) = life {
            self.alive_ms = now_ms;
            if std::mem::take(&mut self.idle) { Due::Active { silent_s, life } } else { Due::Nothing }
        } else if !judged || self.stuck {
            Due::Nothing
        } else if reached(self.policy.stuck_after_ms) {
            self.stuck = true;
            Due::Stuck { silent_s }
        } else if !self.idle && reached(self.policy.idle_after_ms) {
            self.idle = true;
            Due::Idle { silent_s }
        } else {
            Due::Nothing
        };
        self.plan_look(now_ms);
        due
    }

    /// The sign of life that a look found, and whether its lack is known: CPU time has to be read twice for that.
    fn life(&mut self, now_ms: u64, signs: &Signs) -> (Option<Life>, bool) {
        let seen = self.plain(signs);
        if seen.is_some() {
            // What is used meanwhile is nobody's sign of life later.
            self.cpu_since = None;
            return (seen, true);
        }
        match (signs.cpu, self.cpu_since) {
            (Some(cpu), Some((since_ms, used_ms))) => {
                let over_ms = now_ms.saturating_sub(since_ms);
                if over_ms < CPU_WINDOW_MS {
                    return (None, false);
                }
                self.cpu_since = Some((now_ms, cpu.used_ms));
                let used_ms = cpu.used_ms.saturating_sub(used_ms);
                (is_to_speak_of(used_ms, over_ms, cpu.load_percent).then_some(Life::Cpu), true)
            }
            (Some(cpu), None) => {
                self.cpu_since = Some((now_ms, cpu.used_ms));
                (None, false)
            }
            (None, _) => {
                self.cpu_since = None;
                (None, false)
            }
        }
    }

    /// Rare, but not much later than what may be due.
    fn plan_look(&mut self, now_ms: u64) {
        let WatchPolicy { idle_after_ms, stuck_after_ms } = self.policy;
        let next = |after_ms: u64, told: bool| {
            (after_ms > 0 && !told).then(|| self.alive_ms.saturating_add(after_ms).saturating_sub(now_ms))
        };
        let due_ms = next(idle_after_ms, self.idle).into_iter().chain(next(stuck_after_ms, self.stuck)).min();
        // Of a run that is idle a sign of life is waited for, also where it is never stuck.
        let shortest = [idle_after_ms, stuck_after_ms].into_iter().filter(|ms| *ms > 0).min();
        self.next_look_ms = shortest.map_or(u64::MAX, |shortest| {
            let every_ms = (shortest / 5).clamp(LOOK_AT_LEAST_MS, LOOK_AT_MOST_MS);
            now_ms.saturating_add(every_ms.min(due_ms.unwrap_or(every_ms)).max(LOOK_AT_LEAST_MS))
        });
    }
}

/// Is this much CPU time in that much time more than a spinner's?
fn is_to_speak_of(used_ms: u64, over_ms: u64, load_percent: u64) -> bool {
    let per_mille = (CPU_PER_MILLE * 100 / load_percent.max(100)).max(CPU_PER_MILLE_LEAST);
    used_ms.saturating_mul(1000) >= over_ms.saturating_mul(per_mille)
}

#[cfg(test)]
mod tests;
