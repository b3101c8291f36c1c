//! `done`: marker, event and message.

use run_agent_core::decide::Refusal;
use run_agent_core::event::{Done, Event};
use run_agent_core::world::{Marker, Task};
use run_agent_core::{Draft, Kind};
use run_agent_runner::marker::{self, Sayer};
use run_agent_runner::{Proposed, TaskView, attach, files};

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

    let sayer = caller.map_or_else(|| Sayer::User(person()), |caller| Sayer::Run(caller.run));
    // The marker wins: it is made first, and whoever finds it without an event posts the event.
    match files::marker(&path).map_err(|e| Failure::io(path.display(), &e))? {
        Marker::Present { .. } => {}
        Marker::Absent => {
            files::replace(&path, sayer.line().as_bytes(), true)
                .map_err(|e| Failure::io(format!("cannot make {}", path.display()), &e))?;
        }
        Marker::NotAFile => {
            return Err(Failure::new(
                Exit::Failed,
                format!(
                    "{} is not a regular file; remove it and call {} again",
                    path.display(),
                    render::command("done")
                ),
            ));
        }
    }
    let event = Event::Done(Done { by: sayer.by().to_owned(), written: None });
    let draft = marker::draft(&view, &sayer, &event);
    let is_news = |task: &Task| if task.done.is_some() { Err(Refusal::Moot) } else { Ok(()) };
    let mut ids = Vec::new();
    if let Proposed::Appended(entries) = view.propose(vec![draft], is_news)? {
        ids.extend(entries.into_iter().map(|entry| entry.message.id));
    }
    // News all the same when DONE stands already.
    if let Some(text) = &args.message {
        let mut message = Draft::new(Kind::FACT, name.project.clone(), Some(name.task.clone()), text.clone());
        message.run = context.run_for(&name.key());
        attach::fit(&context.tree, &name.key(), &mut message, context.tree.durability)?;
        ids.extend(view.post(vec![message])?.into_iter().map(|entry| entry.message.id));
    }
    if context.json {
        render::json(&serde_json::json!({
            "project_id": name.project, "task_id": name.task, "done": true, "msg_ids": ids,
        }))?;
    }
    Ok(Exit::Done)
}
