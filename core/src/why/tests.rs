//! Situations, one a test: events are folded, and the answer must name the true cause, the message that says so, and
//! what would change it.

mod agents;
mod loops;
mod runs;

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;
use crate::cause::Cause;
use crate::event::{
    Done, Event, LoopEnd, LoopOutcome, LoopStart, RunEnd, RunIntent, RunOutcome, RunStart, Scope, Stopping,
};
use crate::id::ProjectId;
use crate::message::Draft;
use crate::store::StreamKey;
use crate::world::World;

/// A stream that grows event by event, each under a label.
struct Tale {
    world: World,
    key: StreamKey,
    messages: BTreeMap<Cursor, Message>,
    labels: BTreeMap<&'static str, MsgId>,
    seen: Seen,
}

fn run_id(n: u32) -> RunId {
    RunId::new(Timestamp::UNIX_EPOCH, 1, n)
}

fn task_id(slug: &str) -> TaskId {
    TaskId::new(Timestamp::UNIX_EPOCH, slug, None).unwrap()
}

fn person() -> Cause {
    Cause::Person("ann".to_owned())
}

impl Tale {
    fn empty() -> Self {
        Self {
            world: World::new(),
            key: StreamKey::task(ProjectId::parse("p").unwrap(), task_id("own")),
            messages: BTreeMap::new(),
            labels: BTreeMap::new(),
            seen: Seen { driver: Driver::Alive, ..Seen::default() },
        }
    }

    /// A loop that a person started.
    fn driven() -> Self {
        let start = LoopStart { driver_pid: 77, ..LoopStart::default() };
        Self::empty().event("loop", None, person(), Event::LoopStart(start))
    }

    fn message(mut self, label: &'static str, draft: Draft) -> Self {
        let n = self.messages.len() as u64 + 1;
        let ts = Timestamp::from_second(i64::try_from(n).unwrap()).unwrap();
        let message = Message { id: MsgId::new(ts, 1, 1), ts, content: draft };
        // Cursors that no index is mistaken for.
        let at = Cursor::new(n * 100);
        let applied = self.world.apply(&self.key, at, &message);
        assert_eq!(applied.ignored, None, "{label}");
        self.labels.insert(label, message.id.clone());
        self.messages.insert(at, message);
        self
    }

    fn event(self, label: &'static str, run: Option<u32>, cause: Cause, event: Event) -> Self {
        let scope =
            Scope { project: self.key.project.clone(), task: self.key.task.clone(), run: run.map(run_id) };
        let draft = event.draft(&scope, &cause, "line");
        self.message(label, draft)
    }

    fn post(self, label: &'static str, kind: Kind, run: Option<u32>, body: &str) -> Self {
        let mut draft = Draft::new(kind, self.key.project.clone(), self.key.task.clone(), body);
        draft.run = run.map(run_id);
        draft.meta.insert("blocking".to_owned(), "true".to_owned());
        self.message(label, draft)
    }

    fn root(self, n: u32, attempt: u32) -> Self {
        let previous_run_id = (attempt > 1).then(|| run_id(n - 1));
        let intent = RunIntent {
            agent: "shell".to_owned(),
            attempt: Some(attempt),
            previous_run_id,
            ..RunIntent::default()
        };
        self.event("intent", Some(n), person(), Event::RunIntent(intent)).starts("start", n)
    }

    fn child(self, n: u32, parent: u32) -> Self {
        let agent = "shell".to_owned();
        let intent = RunIntent { agent, parent_run_id: Some(run_id(parent)), ..RunIntent::default() };
        self.event("child intent", Some(n), Cause::Run(run_id(parent)), Event::RunIntent(intent))
            .starts("child start", n)
    }

    fn starts(self, label: &'static str, n: u32) -> Self {
        let start = Event::RunStart(Box::new(RunStart { agent: "shell".to_owned(), ..RunStart::default() }));
        self.event(label, Some(n), Cause::Process("started".to_owned()), start)
    }

    fn ends(self, label: &'static str, n: u32, end: RunEnd) -> Self {
        self.event(label, Some(n), Cause::Process("exit".to_owned()), Event::RunEnd(end))
    }

    fn fails(self, label: &'static str, n: u32) -> Self {
        self.ends(label, n, failed("exit code 3", Some("crash")))
    }

    fn completes(self, label: &'static str, n: u32) -> Self {
        let end = RunEnd { exit_code: Some(0), reason: "exit code 0".to_owned(), ..RunEnd::default() };
        self.ends(label, n, end)
    }

    fn done(self, label: &'static str, by: &str, run: Option<u32>) -> Self {
        let event = Event::Done(Done { by: by.to_owned(), written: None });
        self.event(label, run, Cause::File("DONE".to_owned()), event)
    }

    fn stop_asked(self, label: &'static str, run: Option<u32>) -> Self {
        let stopping = Stopping { by: "user ann".to_owned(), grace_ms: 30_000, keep_children: false };
        let event = if run.is_some() { Event::RunStopping(stopping) } else { Event::LoopStopping(stopping) };
        self.event(label, run, person(), event)
    }

    fn loop_ends(self, label: &'static str, outcome: LoopOutcome, reason: &str, cause: Cause) -> Self {
        let end = LoopEnd { outcome, reason: reason.to_owned(), restarts: 2, active_ms: 0 };
        self.event(label, None, cause, Event::LoopEnd(end))
    }

    fn look(&self) -> Look<'_> {
        let task = self.world.task(&self.key.project, self.key.task.as_ref().unwrap()).unwrap();
        Look { task, seen: &self.seen }
    }

    fn why(&self) -> Why {
        task(self.look(), &|at| self.messages.get(&at).cloned())
    }

    fn why_run(&self, n: u32) -> Why {
        run(self.look(), &run_id(n), &|at| self.messages.get(&at).cloned()).unwrap()
    }

    /// The answer's causes are these, in this order: words of each, and the label of its message.
    fn says(&self, why: &Why, status: &str, causes: &[(&str, &str)], changes: &[Option<Act>]) {
        assert_eq!(why.status, status, "{why:#?}");
        let told: Vec<_> = why.causes.iter().map(|cause| (cause.text.as_str(), &cause.msg_id)).collect();
        assert_eq!(told.len(), causes.len(), "{told:#?}");
        for ((text, id), (words, label)) in told.iter().zip(causes) {
            assert!(text.contains(words), "`{words}` is not in `{text}`");
            assert_eq!(id.as_ref(), self.labels.get(label), "{text}");
        }
        let acts: Vec<_> = why.changes.iter().map(|change| change.act.clone()).collect();
        assert_eq!(acts, changes, "{:#?}", why.changes);
    }
}

fn failed(reason: &str, class: Option<&str>) -> RunEnd {
    RunEnd {
        status: RunOutcome::Failed,
        reason: reason.to_owned(),
        error_class: class.map(str::to_owned),
        exit_code: Some(3),
        ..RunEnd::default()
    }
}

fn stopped() -> RunEnd {
    RunEnd { status: RunOutcome::Stopped, reason: "stopped".to_owned(), ..RunEnd::default() }
}
