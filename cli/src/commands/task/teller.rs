//! What a driver's terminal shows: the story as it comes, and a line that says what is waited for.

use std::collections::{BTreeMap, BTreeSet};

use run_agent_core::event::Event;
use run_agent_core::{Entry, Kind, Message, RunId, Timestamp};
use run_agent_runner::drive::Talk;
use run_agent_runner::supervise::start::StartOutcome;
use run_agent_runner::tree::TaskName;

use super::{detach, follow};
use crate::render::{self, Progress};

/// Tells people what the driver tells, and shows what it waits for.
pub(super) struct Teller<'a> {
    progress: Progress,
    /// The runs that are at work, as far as was told.
    active: BTreeSet<RunId>,
    /// Those that give no sign of life, and since when.
    idle: BTreeMap<RunId, Timestamp>,
    pub(super) follower: Option<follow::Follower>,
    report: Option<&'a detach::Report>,
    /// The line of the message that was told last.
    last: String,
}

impl<'a> Teller<'a> {
    pub(super) fn new(progress: String, report: Option<&'a detach::Report>) -> Self {
        let (active, idle) = (BTreeSet::new(), BTreeMap::new());
        let progress = render::progress(progress);
        Self { progress, active, idle, follower: None, report, last: String::new() }
    }

    pub(super) fn tell(&mut self, name: &TaskName, talk: &Talk<'_>) {
        match talk {
            Talk::Driving => {
                if let Some(report) = self.report {
                    report.driving();
                }
            }
            Talk::New(entries) => self.story(entries),
            Talk::Joined(run) => {
                self.joined(run);
                render::say(&format!("joined root run {run} of {name}, which is still alive"));
            }
            Talk::Started(started) => match &started.outcome {
                // The story tells both.
                StartOutcome::Running { .. } | StartOutcome::Parked { .. } => {}
                StartOutcome::Refused { why } | StartOutcome::Failed { why } => {
                    render::say(&format!("run {} did not start: {why}", started.run));
                }
            },
            // The story tells who started, and the progress line who is left.
            Talk::WaitingFor(runs) => {
                self.active = runs.iter().cloned().collect();
                self.show();
            }
            Talk::Shortage { error, pause } => {
                let seconds = pause.as_secs();
                render::say(&format!("{}; trying again in {seconds} s", crate::error::chain(*error)));
            }
        }
    }

    pub(super) fn story(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.see(&entry.message);
            if !self.repeats(&entry.message)
                && let Some(line) = render::story_line(&entry.message)
            {
                render::say(&line);
            }
        }
    }

    /// A loop says some of its events to people as well, in the same words: whoever is told the story reads them once.
    fn repeats(&mut self, message: &Message) -> bool {
        let line = message.content.body.lines().next().unwrap_or_default();
        if message.content.kind == Kind::WARNING {
            return self.last == line;
        }
        line.clone_into(&mut self.last);
        false
    }

    /// A root run that was at work before.
    pub(super) fn joined(&mut self, run: &RunId) {
        self.active.insert(run.clone());
        self.follow(run);
        self.show();
    }

    fn follow(&self, run: &RunId) {
        if let Some(follower) = &self.follower {
            follower.root(run);
        }
    }

    /// Nothing more is told. `wait`: what the agents printed is printed to its end.
    pub(super) fn end(self, wait: bool) {
        drop(self.progress);
        if let Some(follower) = self.follower {
            follower.end(wait);
        }
    }

    fn see(&mut self, message: &Message) {
        if let Ok(Event::RunStart(start)) = Event::read(message)
            && let (Some(_), Some(run)) = (start.attempt, &message.content.run)
        {
            self.follow(run);
        }
        match (message.content.kind.as_str(), &message.content.run) {
            ("RUN_START", Some(run)) => drop(self.active.insert(run.clone())),
            ("RUN_STOP" | "RUN_CRASH", Some(run)) => {
                self.active.remove(run);
                self.idle.remove(run);
            }
            ("RUN_IDLE", Some(run)) => {
                if let Ok(Event::RunIdle(silence)) = Event::read(message) {
                    self.idle.insert(run.clone(), silence.since(message.ts));
                }
            }
            ("RUN_ACTIVE", Some(run)) => drop(self.idle.remove(run)),
            ("RUN_PARKED" | "LOOP_BACKOFF" | "LOOP_BLOCKED" | "LOOP_WAITING", _)
                if self.active.is_empty() =>
            {
                let line = message.content.body.lines().next().unwrap_or_default();
                return self.progress.set(render::safe_line(line));
            }
            _ => return,
        }
        self.show();
    }

    fn show(&self) {
        let idle: Option<Vec<Timestamp>> =
            self.active.iter().map(|run| self.idle.get(run).copied()).collect();
        self.progress.idle(idle.and_then(|since| since.into_iter().max()));
        let short: Vec<&str> = self.active.iter().map(|run| render::short(run.as_str())).collect();
        match short.as_slice() {
            [] => {}
            [one] => self.progress.set(format!("waiting for run {one}")),
            several => {
                self.progress.set(format!("waiting for {} runs: {}", several.len(), several.join(" ")));
            }
        }
    }
}
