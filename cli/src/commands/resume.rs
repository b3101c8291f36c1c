//! `resume`: take a task up again that is done, gave up or was stopped.

use run_agent_core::decide::Refusal;
use run_agent_core::event::{DoneCleared, Event};
use run_agent_core::world::Marker;
use run_agent_runner::{TaskView, files};

use super::task::{Prepared, Settings, run_loop};
use crate::args::{Global, ResumeArgs};
use crate::context::{Context, person};
use crate::error::{Exit, Failure, Outcome};
use crate::render;

pub(crate) fn run(global: &Global, args: &ResumeArgs) -> Outcome {
    let context = Context::open(global)?;
    context.caller()?;
    let name = context.required_task()?;
    let paths = context.tree.task(&name);
    if files::is_locked(&paths.loop_lock()).map_err(|e| Failure::io(paths.loop_lock().display(), &e))? {
        let holder = std::fs::read_to_string(paths.loop_lock()).unwrap_or_default();
        return Err(Failure::new(
            Exit::Locked,
            format!(
                "the loop of {name} is running already, driven by {}; there is nothing to resume",
                holder.trim()
            ),
        ));
    }
    let settings = Settings {
        agent: args.agent.clone(),
        cwd: args.cwd.clone(),
        max_restarts: args.max_restarts,
        timeout: args.timeout,
        fresh: true,
    };
    // What would keep the loop from starting is found before anything is changed.
    if !args.no_start {
        Prepared::new(&context, &name, &settings)?;
    }
    let done = paths.done();
    match files::marker(&done).map_err(|e| Failure::io(done.display(), &e))? {
        Marker::Absent => {}
        Marker::Present { .. } => {
            std::fs::remove_file(&done)
                .map_err(|e| Failure::io(format!("cannot remove {}", done.display()), &e))?;
        }
        Marker::NotAFile => {
            return Err(Failure::new(
                Exit::Failed,
                format!(
                    "{} is not a regular file; remove it, and call `run-agent resume` again",
                    done.display()
                ),
            ));
        }
    }
    let mut view = TaskView::open(&context.tree, &name)?;
    let scope = name.scope(None);
    let cleared = Event::DoneCleared(DoneCleared { by: person(), resume: true });
    let draft =
        cleared.draft(&scope, &context.cause(), "taken up again: DONE is removed, the counters are set back");
    view.propose(vec![draft], |task| if task.deleted { Err(Refusal::Deleted) } else { Ok(()) })?;
    if args.no_start {
        if context.json {
            render::json(
                &serde_json::json!({ "project_id": name.project, "task_id": name.task, "started": false }),
            )?;
        } else {
            render::out(&format!("{name} can be started: run-agent task --task {}\n", name.task))?;
        }
        return Ok(Exit::Done);
    }
    run_loop(&context, &name, &settings)
}
