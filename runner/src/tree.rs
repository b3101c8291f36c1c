//! The root that everything works on: where files lie, and the store in which its streams live.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use run_agent_core::event::Scope;
use run_agent_core::layout::{Layout, RunPaths, TaskPaths};
use run_agent_core::{Durability, ProjectId, RunId, Store, StreamKey, TaskId};
use serde::{Deserialize, Serialize};

use crate::below::{self, IsLink};

/// One root with its store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tree {
    pub layout: Layout,
    pub store: Arc<dyn Store>,
    /// What an append survives where the call does not say otherwise (`storage.durability`).
    pub durability: Durability,
    /// With the durability `interval`: how long a message may stay unsynced (`storage.sync_every`).
    pub sync_every: Duration,
}

/// A task's full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskName {
    pub project: ProjectId,
    pub task: TaskId,
}

impl std::fmt::Display for TaskName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.project, self.task)
    }
}

impl TaskName {
    #[must_use]
    pub fn key(&self) -> StreamKey {
        StreamKey::task(self.project.clone(), self.task.clone())
    }

    /// What an event of this task, or of one of its runs, is about.
    #[must_use]
    pub fn scope(&self, run: Option<RunId>) -> Scope {
        Scope { project: self.project.clone(), task: Some(self.task.clone()), run }
    }
}

impl Tree {
    #[must_use]
    pub fn task(&self, name: &TaskName) -> TaskPaths {
        self.layout.task(&name.project, &name.task)
    }

    #[must_use]
    pub fn run(&self, name: &TaskName, run: &RunId) -> RunPaths {
        self.task(name).run(run)
    }

    /// Refuses a path below the root on which a link lies.
    ///
    /// # Errors
    /// With the first link.
    pub fn no_link(&self, path: &Path) -> Result<(), IsLink> {
        below::no_link(self.layout.root(), path)
    }

    /// Opens a regular file below the root to read it. No link is followed.
    ///
    /// # Errors
    /// When it cannot be opened, is no regular file, or a link lies on the way ([`IsLink::behind`]).
    pub fn open(&self, path: &Path) -> io::Result<File> {
        below::open(self.layout.root(), path)
    }

    /// The text of a regular file below the root.
    ///
    /// # Errors
    /// As [`Tree::open`], and when it is no UTF-8 text.
    pub fn read_text(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        self.open(path)?.read_to_string(&mut text)?;
        Ok(text)
    }

    /// The projects of this root, in order of name. What is no project is passed over; a root that is not there has
    /// none.
    ///
    /// # Errors
    /// When the root cannot be read.
    pub fn projects(&self) -> io::Result<Vec<ProjectId>> {
        match folders(self.layout.root().to_owned(), |name| ProjectId::parse(name).ok()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            projects => projects,
        }
    }

    /// The tasks of a project, in order of time.
    ///
    /// # Errors
    /// When the project's folder cannot be read.
    pub fn tasks(&self, project: &ProjectId) -> io::Result<Vec<TaskId>> {
        folders(self.layout.project(project), |name| TaskId::parse(name).ok())
    }
}

impl Tree {
    /// The runs of a task that have a folder, in order of time; whether the stream knows them is another question.
    ///
    /// # Errors
    /// When the folder cannot be read; one that is not there holds none.
    pub fn runs(&self, name: &TaskName) -> io::Result<Vec<RunId>> {
        match folders(self.task(name).runs(), |name| RunId::parse(name).ok()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            runs => runs,
        }
    }
}

fn folders<T: Ord>(folder: PathBuf, parse: impl Fn(&str) -> Option<T>) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A link is not followed: it may lead out of the root.
        if entry.file_type()?.is_dir()
            && let Some(id) = entry.file_name().to_str().and_then(&parse)
        {
            found.push(id);
        }
    }
    found.sort();
    Ok(found)
}
