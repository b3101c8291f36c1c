//! `done`: marker, event and message.

use run_agent_core::event::{Done, Event, Scope};
use run_agent_core::world::Marker;
use run_agent_core::{Draft, Kind};
use run_agent_runner::{TaskView, files};

use crate::args::{DoneArgs, Global};
use crate::context::{Context, person};
use crate::error::{Exit, Failure, Outcome};
use crate::render;

pub(crate) fn run(global: &Global, args: &DoneArgs) -> Outcome {
    let context = Context::open(global)?;
    let caller = context.caller()?.cloned();
    let name = context.required_task()?;
    let path = context.tree.task(&name).done();
    let mut view = TaskView::open(&context.tree, &name)?;

    // The marker wins: it is made first, and whoever finds it without an event posts the event.
    match files::marker(&path).map_err(|e| Failure::io(path.display(), &e))? {
        Marker::Present { .. } => {}
        Marker::Absent => {
            files::replace(&path, b"", true)
                .map_err(|e| Failure::io(format!("cannot make {}", path.display()), &e))?;
        }
        Marker::NotAFile => {
            return Err(Failure::new(
                Exit::Failed,
                format!(
                    "{} is not a regular file; remove it and call `run-agent done` again",
                    path.display()
                ),
            ));
        }
    }
    let by = caller.as_ref().map_or_else(person, |caller| caller.run.to_string());
    let run = context.run_for(&name.key());
    let scope = Scope { project: name.project.clone(), task: Some(name.task.clone()), run: run.clone() };
    let event = Event::Done(Done { by: by.clone(), written: None }).draft(
        &scope,
        &context.cause(),
        format!("DONE, says {by}"),
    );
    let mut batch = vec![event];
    if let Some(text) = &args.message {
        let mut message = Draft::new(Kind::FACT, name.project.clone(), Some(name.task.clone()), text.clone());
        message.run = run;
        batch.push(message);
    }
    let mut posted = view.propose(batch, |task| match task.done {
        None => Ok(()),
        Some(_) => Err(run_agent_core::decide::Refusal::LoopNotOpen),
    })?;
    if let (run_agent_runner::Proposed::Refused(_), Some(text)) = (&posted, &args.message) {
        // DONE stands already; the message is news all the same.
        let mut message = Draft::new(Kind::FACT, name.project.clone(), Some(name.task.clone()), text.clone());
        message.run = context.run_for(&name.key());
        posted = run_agent_runner::Proposed::Appended(view.post(vec![message])?);
    }
    if context.json {
        let ids: Vec<String> = match &posted {
            run_agent_runner::Proposed::Appended(entries) => {
                entries.iter().map(|e| e.message.id.to_string()).collect()
            }
            run_agent_runner::Proposed::Refused(_) => Vec::new(),
        };
        render::json(&serde_json::json!({
            "project_id": name.project, "task_id": name.task, "done": true, "msg_ids": ids,
        }))?;
    }
    Ok(Exit::Done)
}
