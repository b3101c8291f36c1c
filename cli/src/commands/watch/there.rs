//! Tasks of another machine that are watched.

use std::time::Duration;

use run_agent_runner::blocked::Blocked;
use run_agent_runner::tree::TaskName;

use super::{LOOK_AGAIN, Watched};
use crate::client::Client;
use crate::client::tasks::Tasks;
use crate::error::Failure;
use crate::folded::{Folded, News};

pub(super) struct There<'a> {
    client: &'a Client,
    tasks: Tasks<'a>,
    blocked: Option<Blocked>,
}

/// The tasks that are named, or all of the project, or of the server, that are not done.
pub(super) fn open<'a>(client: &'a Client, texts: &[String]) -> Result<There<'a>, Failure> {
    let mut names: Vec<TaskName> = Vec::new();
    for text in texts {
        let name = client.task_named(text)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if texts.is_empty() {
        match client.task()? {
            Some(name) => names.push(name),
            None => names = active(client)?,
        }
    }
    Ok(There { client, tasks: Tasks::open(client, names)?, blocked: None })
}

fn active(client: &Client) -> Result<Vec<TaskName>, Failure> {
    let mut names = Vec::new();
    for project in client.named_projects()? {
        let tasks = client.tasks(&project, None, false)?;
        let active = tasks.into_iter().filter(|task| task.active);
        names.extend(active.map(|task| TaskName { project: project.clone(), task: task.id }));
    }
    Ok(names)
}

impl Watched for There<'_> {
    fn begin(&mut self) -> Result<(), Failure> {
        self.client.on_interrupt()?;
        self.blocked = Some(self.client.blocks());
        Ok(())
    }

    fn count(&self) -> usize {
        self.tasks.count()
    }

    fn task(&self, n: usize) -> &Folded {
        self.tasks.task(n)
    }

    fn look(&mut self, n: usize) -> Result<Vec<News>, Failure> {
        self.tasks.look(n)
    }

    fn is_orphaned(&self, n: usize) -> bool {
        self.tasks.is_orphaned(n)
    }

    fn flags_for(&self, name: &TaskName) -> String {
        self.client.flags_for(name)
    }

    fn interrupted(&self) -> bool {
        self.tasks.interrupted()
    }

    fn sleep(&mut self, limit: Duration) -> Result<(), Failure> {
        self.tasks.sleep(limit.min(LOOK_AGAIN))
    }
}
