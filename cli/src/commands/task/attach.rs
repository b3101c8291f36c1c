//! `--attach`: tells what the driver of a loop does, wherever that is, until the loop ends. Nothing is started, and
//! nothing is written but what every look closes.

use run_agent_core::event::LoopEnd;
use run_agent_core::world::{RalphState, Task};
use run_agent_runner::TaskView;
use run_agent_runner::adopt::DriverLife;
use run_agent_runner::supervise::close;
use run_agent_runner::tree::TaskName;
use run_agent_runner::wake::{LOOK_AGAIN, Wake};

use super::super::output::Shown;
use super::{Teller, finish, follow};
use crate::args::Global;
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render;

pub(super) fn run(global: &Global, follow: Option<Shown>) -> Outcome {
    follow::check(global, follow.is_some())?;
    let context = Context::open(global)?;
    let name = context.required_task()?;
    let wake = Wake::new();
    wake.on_interrupt().map_err(|e| Failure::io("cannot listen for signals", &e))?;
    // Watched before it is looked at, so that nothing falls in between.
    wake.watch_stream(&context.tree, &name);
    let mut view = TaskView::open(&context.tree, &name)?;
    close::close_dead(&context.tree, &mut view)?;
    if let Some(end) = ended(view.task()) {
        render::say(&format!("the loop of {name} has ended; there is nothing to attach to"));
        return finish(context.json, &context.flags_for(&name), &name, view.task(), Some(&end));
    }
    match view.driver(&context.tree) {
        DriverLife::Alive => {}
        DriverLife::NotOpen => {
            return Err(Failure::not_found(format!("nothing drives {name}: it has no loop"))
                .hint(format!("drive it with `run-agent task{}`", context.flags_for(&name))));
        }
        DriverLife::Lost | DriverLife::Foreign => return Err(not_driven(&context, &name, &view)),
    }
    let driver = view
        .task()
        .ralph
        .driver
        .as_ref()
        .map(|driver| format!(", which process {} drives", driver.driver_pid));
    render::say(&format!("attached to {name}{}; Ctrl-C leaves it as it is", driver.unwrap_or_default()));
    let mut teller = Teller::new(format!("attached to {name}"), None);
    if let Some(shown) = follow {
        teller.follower = Some(follow::Follower::begin(&context.tree, &name, shown)?);
    }
    if let Some(root) = view.task().active_root().cloned() {
        teller.joined(&root);
    }
    let _blocked = context.blocks();
    let outcome = watch(&context, &name, &mut view, &wake, &mut teller);
    teller.end(matches!(outcome, Ok(Some(_))));
    match outcome? {
        Some(end) => finish(context.json, &context.flags_for(&name), &name, view.task(), Some(&end)),
        None => {
            say_how_to_come_back(&context.flags_for(&name));
            Ok(Exit::Interrupted)
        }
    }
}

pub(super) fn say_how_to_come_back(flags: &str) {
    render::say(&format!(
        "no longer attached; the loop goes on\n  attach again: run-agent task --attach{flags}\n  stop it:      run-agent stop{flags}"
    ));
}

/// Tells the story until the loop ends; `None` when the caller interrupted it.
fn watch(
    context: &Context,
    name: &TaskName,
    view: &mut TaskView,
    wake: &Wake,
    teller: &mut Teller<'_>,
) -> Result<Option<LoopEnd>, Failure> {
    loop {
        close::close_dead(&context.tree, view)?;
        teller.story(&view.refresh()?);
        if let Some(end) = ended(view.task()) {
            return Ok(Some(end));
        }
        if wake.interrupted() {
            return Ok(None);
        }
        match view.driver(&context.tree) {
            DriverLife::NotOpen | DriverLife::Alive => {}
            DriverLife::Lost | DriverLife::Foreign => return Err(not_driven(context, name, view)),
        }
        wake.sleep(LOOK_AGAIN);
    }
}

/// How the loop ended, once it has.
pub(super) fn ended(task: &Task) -> Option<LoopEnd> {
    let ralph = &task.ralph;
    match &ralph.state {
        RalphState::Ended { outcome, reason, .. } => Some(LoopEnd {
            outcome: *outcome,
            reason: reason.clone(),
            restarts: ralph.restarts,
            active_ms: ralph.active_ms,
        }),
        RalphState::Never
        | RalphState::Driven { .. }
        | RalphState::BackingOff { .. }
        | RalphState::Waiting { .. }
        | RalphState::Blocked { .. }
        | RalphState::Cooling { .. } => None,
    }
}

/// An open loop that nobody drives: the story stops here.
fn not_driven(context: &Context, name: &TaskName, view: &TaskView) -> Failure {
    let flags = context.flags_for(name);
    let driver = view.task().ralph.driver.as_ref();
    if view.driver(&context.tree) == DriverLife::Foreign {
        let machine = driver.map(|driver| driver.machine_id.clone()).unwrap_or_default();
        return Failure::new(
            Exit::Failed,
            format!(
                "the loop of {name} is driven from another machine or container ({}), which cannot be seen from here",
                render::value(&machine)
            ),
        )
        .hint(format!("attach to it there, or take it over with `run-agent task{flags}` if that one is gone"));
    }
    let pid = driver.map(|driver| format!(" (process {})", driver.driver_pid)).unwrap_or_default();
    Failure::new(Exit::Failed, format!("the driver of {name}{pid} died without a word; what runs goes on"))
        .hint(format!("take the loop up with `run-agent adopt{flags}`"))
}
