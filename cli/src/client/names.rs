//! From what a person types to what is there, at the server: the same rules as for what lies here.

use run_agent_core::{ProjectId, RunId, StreamKey, TaskId};
use run_agent_runner::tree::TaskName;

use super::answer::{Projects, Run, Runs, Task, Tasks};
use super::{Client, Place};
use crate::error::Failure;
use crate::find;

/// As many as the server gives at once.
const PAGE: usize = 1000;

impl Client {
    pub(crate) fn projects(&self) -> Result<Vec<ProjectId>, Failure> {
        let all: Projects = self.get(&Place::new(["projects"]))?;
        Ok(all.projects.into_iter().map(|project| project.id).collect())
    }

    /// The project that the flags name, which is there, or all.
    pub(crate) fn named_projects(&self) -> Result<Vec<ProjectId>, Failure> {
        let Some(project) = self.project_flag() else { return self.projects() };
        let _: serde_json::Value = self.get(&Place::new(["projects", project.as_str()]))?;
        Ok(vec![project.clone()])
    }

    /// All tasks of a project, or those whose id or title has a word in it.
    pub(crate) fn tasks(
        &self,
        project: &ProjectId,
        word: Option<&str>,
        whole: bool,
    ) -> Result<Vec<Task>, Failure> {
        let mut all: Vec<Task> = Vec::new();
        loop {
            let place = Place::new(["projects", project.as_str(), "tasks"]);
            let place = place.with("limit", PAGE).with("offset", all.len()).with_some("q", word);
            let page: Tasks = self.get(&if whole { place.with("processes", true) } else { place })?;
            let is_last = !page.has_more || page.items.is_empty();
            all.extend(page.items);
            if is_last {
                // What became active between two pages stands in both.
                all.sort_by(|a, b| a.id.cmp(&b.id));
                all.dedup_by(|a, b| a.id == b.id);
                return Ok(all);
            }
        }
    }

    /// The task that a word names.
    pub(crate) fn task_named(&self, text: &str) -> Result<TaskName, Failure> {
        let (own, text) = match find::own_project(self.project_flag(), text)? {
            Some((own, text)) => (Some(own), text),
            None => (None, text),
        };
        let project = own.as_ref().or(self.project_flag());
        let projects = match project {
            Some(project) => vec![project.clone()],
            None => self.projects()?,
        };
        let place = || project.map_or_else(|| self.url().to_owned(), |project| format!("project {project}"));
        let found = self.names(&projects, Some(text))?;
        match find::among(&found, text, place) {
            Ok(name) => Ok(name),
            Err(_) if found.is_empty() => {
                // For what may have been meant.
                find::among(&self.names(&projects, None)?, text, place)
            }
            Err(failure) => Err(failure),
        }
    }

    fn names(&self, projects: &[ProjectId], word: Option<&str>) -> Result<Vec<TaskName>, Failure> {
        let mut all = Vec::new();
        for project in projects {
            let tasks = self.tasks(project, word, false)?;
            all.extend(tasks.into_iter().map(|task| TaskName { project: project.clone(), task: task.id }));
        }
        Ok(all)
    }

    /// The task that the flags name, if they name one.
    pub(crate) fn task(&self) -> Result<Option<TaskName>, Failure> {
        let Some(text) = self.task_flag() else { return Ok(None) };
        if let (Some(project), Ok(task)) = (self.project_flag(), TaskId::parse(text)) {
            // A full id says all; whether it is there, the next answer tells.
            return Ok(Some(TaskName { project: project.clone(), task }));
        }
        self.task_named(text).map(Some)
    }

    pub(crate) fn required_task(&self) -> Result<TaskName, Failure> {
        self.task()?.ok_or_else(|| Failure::usage("which task? name it with --task"))
    }

    /// The stream of the task or project that the flags name.
    pub(crate) fn stream(&self) -> Result<StreamKey, Failure> {
        match (self.task()?, self.project_flag()) {
            (Some(name), _) => Ok(name.key()),
            (None, Some(project)) => Ok(StreamKey::project(project.clone())),
            (None, None) => Err(Failure::usage("which message bus? name it with --project and --task")),
        }
    }

    /// The run that a word names, with its task.
    pub(crate) fn run_named(&self, text: &str) -> Result<(TaskName, RunId), Failure> {
        if let Ok(run) = RunId::parse(text) {
            let run: Run = self.get(&Place::new(["v1", "runs", run.as_str()]))?;
            return Ok(run.named());
        }
        if !find::names_a_run(text) {
            return Err(RunId::parse(text).map_or_else(Into::into, |_| Failure::usage("no run")));
        }
        let first = self.task()?;
        let found: Runs = self.get(&Place::new(["v1", "runs"]).with("q", text))?;
        let found = found.runs.into_iter().map(Run::named).collect();
        find::run_among(found, first.as_ref(), text, || self.url().to_owned())
    }
}
