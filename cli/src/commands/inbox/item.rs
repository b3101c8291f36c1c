//! What needs a person: gathered from the rosters, which read only streams that moved.

use std::cmp::Reverse;

use run_agent_core::inbox::{Asker, Need};
use run_agent_core::plan::reason;
use run_agent_core::{MsgId, ProjectId, RunId, TaskId, Timestamp};
use run_agent_runner::adopt::Driverless;
use run_agent_runner::roster::{self, Row};
use run_agent_runner::tree::TaskName;
use run_agent_runner::{TaskView, Tree, files};

use crate::config::Adopt;
use crate::context::Context;
use crate::error::Failure;
use crate::render;

/// The most tasks that are read for a shell which asks for names.
const ASKED_MAX: usize = 50;

/// One thing, and where it stands.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) project: ProjectId,
    /// None for what stands in the project's own stream.
    pub(super) task: Option<TaskId>,
    pub(super) title: String,
    pub(super) need: What,
    pub(super) since: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) enum What {
    Need(Need),
    /// The loop is open, and its driver died without saying so.
    NoDriver,
}

/// What was found, and whether all of it could be read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) items: Vec<Item>,
    pub(super) all_read: bool,
}

/// Everything that needs a person, most urgent first, then newest first.
pub(super) fn all(context: &Context) -> Result<Found, Failure> {
    let mut found = Found { items: Vec::new(), all_read: true };
    for project in projects(context)? {
        match roster::look_for_needs(&context.tree, &project) {
            Ok(looked) => found.add(context, &project, looked),
            // One folder that cannot be read does not hide the others.
            Err(error) => found.unread(&format!("project {project}"), &error),
        }
    }
    if found.items.iter().any(|item| matches!(item.need, What::NoDriver)) && never_adopts(context) {
        found.items.retain(|item| !matches!(item.need, What::NoDriver));
    }
    found.items.sort_by_key(|item| (item.rank(), Reverse(item.since)));
    Ok(found)
}

/// Open questions as the rosters' files have them, and those of the newest tasks that no file holds: quick, and not
/// the truth.
pub(super) fn kept(context: &Context) -> Vec<Item> {
    let mut items = Vec::new();
    for project in projects(context).unwrap_or_default() {
        let (rows, own) = roster::peek(&context.tree, &project);
        items.extend(own.into_iter().map(|need| Item::new(&project, None, "", need)));
        let tasks = context.tree.tasks(&project).unwrap_or_default();
        let moving = tasks.iter().rev().filter(|task| rows.iter().all(|row| row.id != **task));
        for task in moving.take(ASKED_MAX) {
            let name = TaskName { project: project.clone(), task: task.clone() };
            if let Ok(view) = TaskView::open(&context.tree, &name) {
                let needs = run_agent_core::inbox::of_task(view.task());
                items.extend(needs.into_iter().map(|need| Item::new(&project, Some(task), "", need)));
            }
        }
        for row in rows {
            items.extend(row.needs.into_iter().map(|need| Item::new(&project, Some(&row.id), "", need)));
        }
    }
    items
}

fn projects(context: &Context) -> Result<Vec<ProjectId>, Failure> {
    if let Some(project) = context.named_project()? {
        return Ok(vec![project]);
    }
    let root = context.tree.layout.root();
    context.tree.projects().map_err(|e| Failure::io(root.display(), &e))
}

/// A loop without a driver is nobody's business where the operator says so. A configuration with a mistake in it hides
/// nothing.
fn never_adopts(context: &Context) -> bool {
    context.config().is_ok_and(|config| config.adopt() == Adopt::Never)
}

impl Found {
    fn add(&mut self, context: &Context, project: &ProjectId, looked: roster::Looked) {
        match looked.needs {
            Ok(needs) => {
                self.items.extend(needs.into_iter().map(|need| Item::new(project, None, "", need)));
            }
            Err(error) => self.unread(&format!("the stream of project {project}"), &error),
        }
        for listed in looked.tasks {
            let name = TaskName { project: project.clone(), task: listed.task };
            match listed.row {
                Ok(row) => self.add_task(context, &name, *row),
                Err(error) => self.unread(&format!("task {name}"), &error),
            }
        }
    }

    fn add_task(&mut self, context: &Context, name: &TaskName, row: Row) {
        if is_left_alone(&context.tree, name, row.loop_open) {
            self.items.push(Item {
                project: name.project.clone(),
                task: Some(name.task.clone()),
                title: row.title.clone(),
                need: What::NoDriver,
                since: row.since,
            });
        }
        let item = |need| Item::new(&name.project, Some(&name.task), &row.title, need);
        self.items.extend(row.needs.into_iter().map(item));
    }

    fn unread(&mut self, what: &str, error: &dyn std::error::Error) {
        self.all_read = false;
        render::say(&format!("warning: {what} cannot be read: {error}"));
    }
}

/// Its loop has lost its driver on this machine, and may go on.
pub(crate) fn is_left_alone(tree: &Tree, name: &TaskName, loop_open: bool) -> bool {
    if !loop_open || files::is_locked(&tree.task(name).loop_lock()).unwrap_or(true) {
        return false;
    }
    // The row may be older than the driver's last words.
    let view = TaskView::open(tree, name).ok();
    view.and_then(|view| Driverless::of(tree, &view)).is_some_and(|lost| !lost.foreign)
}

impl Item {
    fn new(project: &ProjectId, task: Option<&TaskId>, title: &str, need: Need) -> Self {
        let (Need::Question { since, .. }
        | Need::GaveUp { since, .. }
        | Need::Agent { since, .. }
        | Need::Blocked { since, .. }
        | Need::Silent { since, .. }) = &need;
        let since = Some(*since);
        Self {
            project: project.clone(),
            task: task.cloned(),
            title: title.to_owned(),
            need: What::Need(need),
            since,
        }
    }

    /// A word for programs, the same for ever.
    pub(super) fn kind(&self) -> &'static str {
        match &self.need {
            What::NoDriver => "no_driver",
            What::Need(Need::Question { .. }) => "question",
            What::Need(Need::GaveUp { reason, .. }) if reason == reason::VERIFY => "done_rejected",
            What::Need(Need::GaveUp { reason, .. }) if reason == reason::BUDGET => "limit",
            What::Need(Need::GaveUp { .. }) => "gave_up",
            What::Need(Need::Agent { .. }) => "agent",
            What::Need(Need::Blocked { .. }) => "blocked",
            What::Need(Need::Silent { stuck: true, .. }) => "stuck",
            What::Need(Need::Silent { stuck: false, .. }) => "idle",
        }
    }

    /// What comes first: whatever somebody waits for.
    fn rank(&self) -> u8 {
        match &self.need {
            What::Need(Need::Question {
                blocking: true,
                asker: Asker::Active | Asker::Loop | Asker::Unknown,
                ..
            }) => 0,
            What::NoDriver => 1,
            What::Need(Need::GaveUp { .. } | Need::Agent { .. } | Need::Blocked { .. }) => 2,
            What::Need(Need::Silent { stuck: true, .. }) => 3,
            What::Need(Need::Silent { stuck: false, .. }) => 4,
            What::Need(Need::Question { asker: Asker::Active | Asker::Loop | Asker::Unknown, .. }) => 5,
            What::Need(Need::Question { asker: Asker::Ended, .. }) => 6,
        }
    }

    pub(super) fn question(&self) -> Option<&MsgId> {
        match &self.need {
            What::Need(Need::Question { msg_id, .. }) => Some(msg_id),
            What::Need(
                Need::GaveUp { .. } | Need::Agent { .. } | Need::Blocked { .. } | Need::Silent { .. },
            )
            | What::NoDriver => None,
        }
    }

    pub(super) fn message(&self) -> Option<&MsgId> {
        match &self.need {
            What::Need(
                Need::Question { msg_id, .. } | Need::GaveUp { msg_id, .. } | Need::Blocked { msg_id, .. },
            ) => Some(msg_id),
            What::Need(Need::Agent { .. } | Need::Silent { .. }) | What::NoDriver => None,
        }
    }

    pub(super) fn run(&self) -> Option<&RunId> {
        match &self.need {
            What::Need(Need::Question { run_id, .. }) => run_id.as_ref(),
            What::Need(Need::Agent { run_id, .. }) => run_id.as_ref(),
            What::Need(Need::Silent { run_id, .. }) => Some(run_id),
            What::Need(Need::GaveUp { .. } | Need::Blocked { .. }) | What::NoDriver => None,
        }
    }
}
