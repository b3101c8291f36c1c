//! Tasks of this machine that are watched: their streams, and the processes that may have died.

use std::time::Duration;

use run_agent_runner::blocked::Blocked;
use run_agent_runner::supervise::close;
use run_agent_runner::tree::TaskName;
use run_agent_runner::wake::Wake;
use run_agent_runner::{TaskView, ViewError};

use super::Watched;
use crate::context::Context;
use crate::error::Failure;
use crate::folded::{Folded, News};
use crate::render;

pub(super) struct Here<'a> {
    context: &'a Context,
    wake: Wake,
    tasks: Vec<One>,
    blocked: Option<Blocked>,
}

struct One {
    view: TaskView,
    /// Folds the same entries once more, since only folding tells what each of them changed.
    folded: Folded,
}

impl One {
    fn open(context: &Context, name: TaskName) -> Result<Self, Failure> {
        let mut view = TaskView::open(&context.tree, &name)?;
        close::close_dead(&context.tree, &mut view)?;
        view.refresh()?;
        let folded = Folded::new(name, view.task().clone());
        Ok(Self { view, folded })
    }

    fn look(&mut self, context: &Context) -> Result<Vec<News>, Failure> {
        let looked = self.view.refresh().and_then(|mut entries| {
            close::close_dead(&context.tree, &mut self.view)?;
            entries.extend(self.view.refresh()?);
            Ok(entries)
        });
        let entries = match looked {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => {
                self.folded.gone = true;
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        let mut news: Vec<News> = entries.into_iter().map(|entry| self.folded.apply(entry)).collect();
        if self.folded.task() != self.view.task() {
            news.push(self.folded.replace(self.view.task().clone()));
        }
        Ok(news)
    }
}

impl<'a> Here<'a> {
    /// The tasks that are named, or all of the project, or of the root, that are not done.
    pub(super) fn open(context: &'a Context, texts: &[String]) -> Result<Self, Failure> {
        let tasks = match named(context, texts)? {
            Some(names) => {
                names.into_iter().map(|name| One::open(context, name)).collect::<Result<_, _>>()?
            }
            None => active(context)?,
        };
        Ok(Self { context, wake: Wake::new(), tasks, blocked: None })
    }
}

impl Watched for Here<'_> {
    fn begin(&mut self) -> Result<(), Failure> {
        self.wake.on_interrupt().map_err(|e| Failure::io("cannot listen for signals", &e))?;
        for one in &self.tasks {
            self.wake.watch_stream(&self.context.tree, &one.folded.name);
        }
        self.blocked = Some(self.context.blocks());
        Ok(())
    }

    fn count(&self) -> usize {
        self.tasks.len()
    }

    fn task(&self, n: usize) -> &Folded {
        &self.tasks[n].folded
    }

    fn look(&mut self, n: usize) -> Result<Vec<News>, Failure> {
        self.tasks[n].look(self.context)
    }

    fn is_orphaned(&self, n: usize) -> bool {
        let One { view, folded } = &self.tasks[n];
        folded.task().active().next().is_none() && view.is_driverless(&self.context.tree)
    }

    fn flags_for(&self, name: &TaskName) -> String {
        self.context.flags_for(name)
    }

    fn interrupted(&self) -> bool {
        self.wake.interrupted()
    }

    fn sleep(&mut self, limit: Duration) -> Result<(), Failure> {
        self.wake.sleep(limit);
        Ok(())
    }
}

/// The tasks that the caller names, or stands in.
fn named(context: &Context, texts: &[String]) -> Result<Option<Vec<TaskName>>, Failure> {
    if texts.is_empty() {
        return Ok(context.task()?.map(|name| vec![name]));
    }
    let mut names = Vec::new();
    for text in texts {
        let name = context.task_named(text)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(Some(names))
}

fn active(context: &Context) -> Result<Vec<One>, Failure> {
    let projects = match context.existing_project()? {
        Some(project) => vec![project],
        None => {
            let root = context.tree.layout.root();
            context.tree.projects().map_err(|e| Failure::io(root.display(), &e))?
        }
    };
    let mut found = Vec::new();
    for project in projects {
        let tasks = context.tree.tasks(&project).map_err(|e| {
            let folder = context.tree.layout.project(&project);
            Failure::io(format!("cannot read the project folder {}", folder.display()), &e)
        })?;
        for task in tasks {
            let name = TaskName { project: project.clone(), task };
            match One::open(context, name.clone()) {
                Ok(one) if one.folded.is_active() => found.push(one),
                Ok(_) => {}
                // One that cannot be read does not hide the others.
                Err(failure) => render::say(&format!("warning: {name}: {}", failure.text())),
            }
        }
    }
    Ok(found)
}

fn is_gone(error: &ViewError) -> bool {
    use run_agent_core::follow::FollowError;
    use run_agent_core::store::{OpenError, ReadError};
    matches!(
        error,
        ViewError::Follow(
            FollowError::Read(ReadError::Gone { .. }) | FollowError::Open(OpenError::NotFound { .. })
        )
    )
}
