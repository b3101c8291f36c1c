//! What an ordinary task leaves in its stream: it was made, and its loop ran one agent or some to the end.

use anyhow::Result;
use run_agent_core::event::{
    Done, Event, LoopEnd, LoopRestart, LoopStart, RunEnd, RunIntent, RunStart, Scope, TaskText, Usage, Usd,
};
use run_agent_core::{Cause, Draft, Kind, Message, MsgId, ProjectId, RunId, StreamKey, TaskId, Timestamp};
use run_agent_store_fs::markdown;

/// Events of one task that ran one agent.
pub const EVENTS: usize = 8;
/// The project of all of them.
pub const PROJECT: &str = "story";
/// When the first task was made: 2026-01-01.
const FIRST_S: i64 = 1_767_225_600;
/// How long after each other runs of one task begin.
const RUN_S: i64 = 100;

/// The stream of the `n`-th task.
///
/// # Errors
/// When the number makes no valid task id.
pub fn key(n: usize) -> Result<StreamKey> {
    let task = TaskId::parse(&format!("task-20260101-000000-{n}"))?;
    Ok(StreamKey::task(ProjectId::parse(PROJECT)?, task))
}

/// The events of the `n`-th task, which ran one agent, one a second.
///
/// # Errors
/// When the number is beyond what a time stamp can be.
pub fn messages(key: &StreamKey, n: usize) -> Result<Vec<Message>> {
    let first = FIRST_S + i64::try_from(n)?;
    let story = Story { key, run: run(n, 1)? };
    let [intent, start, posted] = story.begins(None, 1);
    let events = [
        story.created(),
        story.loop_start(),
        intent,
        start,
        posted,
        story.done(),
        story.run_end(),
        story.loop_end(),
    ];
    let mut messages = Vec::with_capacity(EVENTS);
    for (at, content) in (1..).zip(events) {
        let ts = Timestamp::from_second(first + i64::from(at))?;
        messages.push(Message { id: MsgId::new(ts, 4711, u32::try_from(at)?), ts, content });
    }
    Ok(messages)
}

/// What a loop posts that ran so many agents, each of which reported what it used. No two tasks have a run of one id.
///
/// # Errors
/// As [`messages`].
pub fn drafts(key: &StreamKey, n: usize, runs: u32) -> Result<Vec<Draft>> {
    let mut story = Story { key, run: run(n, 1)? };
    let mut drafts = vec![story.created(), story.loop_start()];
    for attempt in 1..=runs {
        let mut previous = None;
        if attempt > 1 {
            previous = Some(std::mem::replace(&mut story.run, run(n, attempt)?));
            drafts.push(story.loop_restart(previous.clone(), attempt));
        }
        drafts.extend(story.begins(previous, attempt));
        drafts.push(story.usage());
        if attempt == runs {
            drafts.push(story.done());
        }
        drafts.push(story.run_end());
    }
    drafts.push(story.loop_end());
    Ok(drafts)
}

/// The id of a run of the `n`-th task.
///
/// # Errors
/// As [`messages`].
pub fn run(n: usize, attempt: u32) -> Result<RunId> {
    let began = FIRST_S + i64::try_from(n)? + RUN_S * i64::from(attempt - 1);
    Ok(RunId::new(Timestamp::from_second(began)?, 4711, attempt))
}

/// One run of one task.
struct Story<'a> {
    key: &'a StreamKey,
    run: RunId,
}

impl Story<'_> {
    fn draft(&self, of_run: bool, event: &Event) -> Draft {
        let run = of_run.then(|| self.run.clone());
        let scope = Scope { project: self.key.project.clone(), task: self.key.task.clone(), run };
        event.draft(&scope, &Cause::Process("exit".to_owned()), "A line for people says the same.")
    }

    fn file(&self, name: &str) -> String {
        let task = self.key.task.as_ref().map_or("", TaskId::as_str);
        format!("/home/somebody/run-agent/{PROJECT}/{task}/runs/{}/{name}", self.run)
    }

    fn created(&self) -> Draft {
        let text = TaskText {
            title: "Find out why the login fails".to_owned(),
            source: "cli".to_owned(),
            depends_on: Vec::new(),
            thread_parent: None,
        };
        self.draft(false, &Event::TaskCreated(text))
    }

    fn loop_start(&self) -> Draft {
        let start = LoopStart { driver_pid: 4710, fresh: true, ..LoopStart::default() };
        self.draft(false, &Event::LoopStart(start))
    }

    /// It is intended, it starts, and it posts something.
    fn begins(&self, previous: Option<RunId>, attempt: u32) -> [Draft; 3] {
        let intent = RunIntent {
            agent: "claude".to_owned(),
            attempt: Some(attempt),
            previous_run_id: previous.clone(),
            starter_pid: 4710,
            ..RunIntent::default()
        };
        let start = RunStart {
            agent: "claude".to_owned(),
            agent_version: Some("2.0.1".to_owned()),
            attempt: Some(attempt),
            previous_run_id: previous,
            process_ownership: "managed".to_owned(),
            pid: 4712,
            pgid: 4712,
            supervisor_pid: 4711,
            cwd: "/home/somebody/work".to_owned(),
            commandline: "claude -p --output-format stream-json --verbose".to_owned(),
            prompt_path: self.file("prompt.md"),
            output_path: self.file("output.md"),
            stdout_path: self.file("agent-stdout.txt"),
            stderr_path: self.file("agent-stderr.txt"),
            ..RunStart::default()
        };
        let mut posted = Draft::new(
            Kind::FACT,
            self.key.project.clone(),
            self.key.task.clone(),
            "The token stands in the URL, and the proxy cuts it off after 2,048 characters.",
        );
        posted.run = Some(self.run.clone());
        let start = self.draft(true, &Event::RunStart(Box::new(start)));
        [self.draft(true, &Event::RunIntent(intent)), start, posted]
    }

    fn usage(&self) -> Draft {
        let usage = Usage {
            model: Some("claude-opus-4".to_owned()),
            input_tokens: 81_200,
            output_tokens: 4_300,
            cached_tokens: 61_000,
            cost_usd: Some(Usd { micros: 412_000 }),
            session_id: Some("0b8f2a64-7d0f-4c52-9f3a-5f1d7c1e2a90".to_owned()),
            incomplete: false,
        };
        self.draft(true, &Event::RunUsage(usage))
    }

    fn done(&self) -> Draft {
        self.draft(false, &Event::Done(Done { by: "file".to_owned(), written: None }))
    }

    fn run_end(&self) -> Draft {
        let end = RunEnd {
            exit_code: Some(0),
            duration_ms: Some(93_000),
            reason: "exit".to_owned(),
            output_path: Some(self.file("output.md")),
            ..RunEnd::default()
        };
        self.draft(true, &Event::RunEnd(end))
    }

    fn loop_restart(&self, previous: Option<RunId>, attempt: u32) -> Draft {
        let reason = "exit".to_owned();
        let restart = LoopRestart {
            attempt,
            reason,
            previous_run_id: previous,
            active_ms: 93_000 * u64::from(attempt),
        };
        self.draft(false, &Event::LoopRestart(restart))
    }

    fn loop_end(&self) -> Draft {
        self.draft(false, &Event::LoopEnd(LoopEnd { reason: "done".to_owned(), ..LoopEnd::default() }))
    }
}

/// The bus file of the `n`-th task.
///
/// # Errors
/// As [`messages`].
pub fn bus(key: &StreamKey, n: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for message in messages(key, n)? {
        markdown::encode(&mut bytes, &message);
    }
    Ok(bytes)
}
