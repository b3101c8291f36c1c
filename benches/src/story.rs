//! What an ordinary task leaves in its stream: it was made, and its loop ran one agent to the end.

use anyhow::Result;
use run_agent_core::event::{Done, Event, LoopEnd, LoopStart, RunEnd, RunIntent, RunStart, Scope, TaskText};
use run_agent_core::{Cause, Draft, Kind, Message, MsgId, ProjectId, RunId, StreamKey, TaskId, Timestamp};
use run_agent_store_fs::markdown;

/// Events of one task.
pub const EVENTS: usize = 8;
/// The project of all of them.
pub const PROJECT: &str = "story";

/// The stream of the `n`-th task.
///
/// # Errors
/// When the number makes no valid task id.
pub fn key(n: usize) -> Result<StreamKey> {
    let task = TaskId::parse(&format!("task-20260101-000000-{n}"))?;
    Ok(StreamKey::task(ProjectId::parse(PROJECT)?, task))
}

/// The events of the `n`-th task, one a second.
///
/// # Errors
/// When the number is beyond what a time stamp can be.
pub fn messages(key: &StreamKey, n: usize) -> Result<Vec<Message>> {
    let first = 1_767_225_600 + i64::try_from(n)?;
    let run = RunId::new(Timestamp::from_second(first)?, 4711, 1);
    let text = |words: &str| words.to_owned();
    let folder =
        format!("/home/somebody/run-agent/{PROJECT}/{}", key.task.as_ref().map_or("", TaskId::as_str));
    let events: [(Event, bool); EVENTS] = [
        (
            Event::TaskCreated(TaskText {
                title: text("Find out why the login fails"),
                source: text("cli"),
                depends_on: Vec::new(),
                thread_parent: None,
            }),
            false,
        ),
        (Event::LoopStart(LoopStart { driver_pid: 4710, fresh: true, ..LoopStart::default() }), false),
        (
            Event::RunIntent(RunIntent {
                agent: text("claude"),
                attempt: Some(1),
                starter_pid: 4710,
                ..RunIntent::default()
            }),
            true,
        ),
        (
            Event::RunStart(Box::new(RunStart {
                agent: text("claude"),
                agent_version: Some(text("2.0.1")),
                attempt: Some(1),
                process_ownership: text("managed"),
                pid: 4712,
                pgid: 4712,
                supervisor_pid: 4711,
                cwd: text("/home/somebody/work"),
                commandline: text("claude -p --output-format stream-json --verbose"),
                prompt_path: format!("{folder}/runs/{run}/prompt.md"),
                output_path: format!("{folder}/runs/{run}/output.md"),
                stdout_path: format!("{folder}/runs/{run}/agent-stdout.txt"),
                stderr_path: format!("{folder}/runs/{run}/agent-stderr.txt"),
                ..RunStart::default()
            })),
            true,
        ),
        (Event::Posted, true),
        (Event::Done(Done { by: text("file"), written: None }), false),
        (
            Event::RunEnd(RunEnd {
                exit_code: Some(0),
                duration_ms: Some(93_000),
                reason: text("exit"),
                output_path: Some(format!("{folder}/runs/{run}/output.md")),
                ..RunEnd::default()
            }),
            true,
        ),
        (Event::LoopEnd(LoopEnd { reason: text("done"), ..LoopEnd::default() }), false),
    ];
    let mut messages = Vec::with_capacity(EVENTS);
    for (at, (event, of_run)) in (1..).zip(events) {
        let run = of_run.then(|| run.clone());
        let scope = Scope { project: key.project.clone(), task: key.task.clone(), run };
        let content = match event {
            Event::Posted => posted(key, &scope),
            event => event.draft(&scope, &Cause::Process(text("exit")), "A line for people says the same."),
        };
        let ts = Timestamp::from_second(first + i64::from(at))?;
        messages.push(Message { id: MsgId::new(ts, 4711, u32::try_from(at)?), ts, content });
    }
    Ok(messages)
}

fn posted(key: &StreamKey, scope: &Scope) -> Draft {
    let mut draft = Draft::new(
        Kind::FACT,
        key.project.clone(),
        key.task.clone(),
        "The token stands in the URL, and the proxy cuts it off after 2,048 characters.",
    );
    draft.run = scope.run.clone();
    draft
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
