//! `resume`: take a task up again that is done, gave up or was stopped.

use run_agent_core::decide;
use run_agent_core::event::{DoneCleared, Event};
use run_agent_core::world::Marker;
use run_agent_runner::{Proposed, TaskView, files};

use super::target::{self, Target};
use super::task::{Driving, Prepared, Settings, dependencies, detach, run_loop};
use crate::args::{self, Global, ResumeArgs};
use crate::context::{Context, person};
use crate::error::{Exit, Failure, Outcome};
use crate::render;

pub(crate) fn run(global: &Global, args: &ResumeArgs) -> Outcome {
    let context = Context::open_to_steer(global)?;
    context.caller()?;
    let name = context.required_task()?;
    let paths = context.tree.task(&name);
    if files::is_locked(&paths.loop_lock()).map_err(|e| Failure::io(paths.loop_lock().display(), &e))? {
        let holder = context.tree.read_text(&paths.loop_lock()).unwrap_or_default();
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
        timeout: args::given_limit(args.timeout)?,
        verify: args.verify.clone(),
        fresh: true,
    };
    // What would keep the loop from starting is found before anything is changed.
    if !args.no_start {
        Prepared::new(&context, &name, &settings)?;
    }
    let depends_on = match (args.depends_on.as_slice(), args.no_depends_on.as_slice()) {
        ([], []) => None,
        ([], gone) => Some(dependencies::without(&context, &name, gone)?),
        (on, _) => Some(dependencies::named(&context, &Target::Existing(name.clone()), on)?),
    };
    let done = paths.done();
    let marker = files::marker(&done).map_err(|e| Failure::io(done.display(), &e))?;
    if marker == Marker::NotAFile {
        return Err(Failure::new(
            Exit::Failed,
            format!(
                "{} is not a regular file; remove it, and call `run-agent resume{}` again",
                done.display(),
                context.flags_for(&name)
            ),
        ));
    }
    let starting = target::starting(&context, &name)?;
    let mut view = TaskView::open(&context.tree, &name)?;
    let cleared = Event::DoneCleared(DoneCleared { by: person(), resume: true });
    let line = "taken up again: DONE is removed, the counters are set back";
    let draft = cleared.draft(&name.scope(None), &context.cause(), line);
    if let Proposed::Refused(refusal) = view.propose(vec![draft], decide::may_start_loop)? {
        return Err(refusal.into());
    }
    if let Some(depends_on) = depends_on {
        dependencies::update(&context, &name, depends_on)?;
    }
    if marker != Marker::Absent {
        match std::fs::remove_file(&done) {
            // Another one who takes it up was first.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::io(format!("cannot remove {}", done.display()), &error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    if args.no_start {
        if context.json {
            render::json(
                &serde_json::json!({ "project_id": name.project, "task_id": name.task, "started": false }),
            )?;
        } else {
            render::out(&format!("{name} can be started: run-agent task{}\n", context.flags_for(&name)))?;
        }
        return Ok(Exit::Done);
    }
    if args.detach {
        return detach::start(&context, &name, &settings, starting);
    }
    let _blocked = context.blocks();
    run_loop(&context, &name, &settings, Driving { starting: Some(starting), ..Driving::default() })
}
