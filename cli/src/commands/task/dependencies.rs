//! What a task depends on, as flags say it: tasks of the same project, and there.

use run_agent_core::TaskId;
use run_agent_core::event::TaskText;
use run_agent_runner::TaskView;
use run_agent_runner::make;
use run_agent_runner::tree::TaskName;

use super::super::target::{self, Target};
use crate::context::Context;
use crate::error::Failure;
use crate::find;

/// The tasks that `--depends-on` names.
pub(crate) fn named(context: &Context, target: &Target, given: &[String]) -> Result<Vec<TaskId>, Failure> {
    let (project, _) = target::project_and_home(context, target);
    let mut all = Vec::new();
    for text in given {
        let name = find::task(&context.tree, Some(project), text)?;
        if matches!(target, Target::Existing(own) if *own == name) {
            return Err(Failure::usage(format!("task {name} cannot depend on itself")));
        }
        if name.project != *project {
            return Err(Failure::usage(format!(
                "{name} is in another project; a task depends on tasks of its own"
            )));
        }
        if !all.contains(&name.task) {
            all.push(name.task);
        }
    }
    Ok(all)
}

/// What is left of what the task depends on, without these. One that was deleted is known by its whole id.
pub(crate) fn without(context: &Context, name: &TaskName, given: &[String]) -> Result<Vec<TaskId>, Failure> {
    let mut left = said(context, name)?.depends_on;
    for text in given {
        let found = find::task(&context.tree, Some(&name.project), text).map(|name| name.task);
        let at = left.iter().position(|on| on.as_str() == text || found.as_ref().is_ok_and(|id| id == on));
        match (at, found) {
            (Some(at), _) => drop(left.remove(at)),
            (None, Err(failure)) => return Err(failure),
            (None, Ok(id)) => {
                return Err(Failure::usage(format!("{name} does not depend on {id}")));
            }
        }
    }
    Ok(left)
}

/// Other dependencies than the task has replace them.
pub(crate) fn update(context: &Context, name: &TaskName, depends_on: Vec<TaskId>) -> Result<(), Failure> {
    let before = said(context, name)?;
    if depends_on != before.depends_on {
        make::update_dependencies(&context.tree, name, TaskText { depends_on, ..before }, &context.cause())?;
    }
    Ok(())
}

fn said(context: &Context, name: &TaskName) -> Result<TaskText, Failure> {
    let view = TaskView::open(&context.tree, name)?;
    let said = view.task().created.as_ref().map(|(text, _)| text.clone());
    Ok(said.unwrap_or_else(|| TaskText {
        title: String::new(),
        source: "cli".to_owned(),
        depends_on: Vec::new(),
        thread_parent: None,
    }))
}
