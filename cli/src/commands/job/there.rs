//! A run on another machine: started there, followed here. An interrupt ends the following alone.

use run_agent_core::RunId;
use run_agent_core::world::Run;
use run_agent_runner::tree::TaskName;
use run_agent_runner::wait::Waited;
use run_agent_runner::wake::LOOK_AGAIN;

use super::super::output::{Shown, there as output};
use super::super::prompt;
use super::{LAST_BYTES, LAST_LINES, Left, detached, finish, interrupted, state_of, warning};
use crate::args::{self, Global, JobArgs};
use crate::client::answer::Started;
use crate::client::tasks::Tasks;
use crate::client::{Client, Place};
use crate::error::{Failure, Outcome};
use crate::render;

pub(super) fn run(global: &Global, client: &Client, args: &JobArgs) -> Outcome {
    let text = prompt::read(&args.prompt, true)?.unwrap_or_default();
    if text.trim().is_empty() {
        return Err(run_agent_runner::make::MakeError::EmptyPrompt.into());
    }
    let name = client.task()?.ok_or_else(|| {
        Failure::usage(
            "which task? with --server a job is a run of a task that is there; name it with --task",
        )
        .hint("make a new one with `task --server`")
    })?;
    let config = serde_json::json!({
        "cwd": args.cwd, "timeout": args::given_limit(args.timeout)?.map(|limit| format!("{}ms", limit.as_millis())),
    });
    let started: Started = client.post(
        &Place::new(["v1", "jobs"]),
        &serde_json::json!({
            "project_id": name.project, "task_id": name.task, "agent_type": args.agent, "prompt": text,
            "config": config, "key": args.key,
        }),
    )?;
    let Some(run) = started.run_id else {
        return Err(Failure::new(crate::error::Exit::Failed, format!("no run of {name} was started")));
    };
    if args.detach {
        return detached(global.json, &name, &run);
    }
    client.on_interrupt()?;
    let _blocked = client.blocks();
    let mut tasks = Tasks::open(client, vec![name.clone()])?;
    let place = client.flags();
    if args.follow {
        let mut lines = output::Lines::new(client, &name, &run, Shown::of(args.raw));
        if lines.follow()? == Waited::Interrupted {
            return Ok(interrupted(&run, &place));
        }
    }
    let progress = render::progress(format!("waiting for run {run}"));
    loop {
        for news in tasks.look(0)? {
            if let Some(entry) = news.entry {
                warning(&run, &entry.message);
            }
        }
        let known = tasks.task(0).task().runs.get(&run);
        if known.is_some_and(|run| !run.is_active()) || tasks.task(0).gone {
            break;
        }
        progress.stands(state_of(known));
        progress.idle(known.and_then(|run: &Run| run.idle_since));
        if tasks.interrupted() {
            drop(progress);
            return Ok(interrupted(&run, &place));
        }
        tasks.sleep(LOOK_AGAIN)?;
    }
    drop(progress);
    let left = There { client, name: &name, run: &run, place: &place };
    finish(global.json, tasks.task(0).task(), &run, args.follow, &left)
}

struct There<'a> {
    client: &'a Client,
    name: &'a TaskName,
    run: &'a RunId,
    place: &'a str,
}

impl Left for There<'_> {
    fn name(&self) -> &TaskName {
        self.name
    }

    fn place(&self) -> &str {
        self.place
    }

    fn end_of_stderr(&self) -> String {
        output::end_of(self.client, self.name, self.run, LAST_LINES, LAST_BYTES).unwrap_or_default()
    }

    fn print_answer(&self) -> Result<(), Failure> {
        output::answer(self.client, self.name, self.run)
    }
}
