//! What the server has done by the runner, and by the program's own commands.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use run_agent_core::world::Run;
use run_agent_core::{Cause, Draft, ProjectId, RunId, StreamKey, TaskId};
use run_agent_runner::agent::redact;
use run_agent_runner::attach;
use run_agent_runner::delete::{self, Deleted, Why};
use run_agent_runner::supervise::close::{self, Life};
use run_agent_runner::supervise::start::program;
use run_agent_runner::tree::TaskName;
use run_agent_runner::{TaskView, Tree, files, make, marker, seen};
use run_agent_server::work::{Failed, Opens, Processes, Seen, Work};
use run_agent_store_shared::doorbell::{Listener, Ringer};
use serde_json::Value;

use super::super::inbox::is_left_alone;
use super::super::{status, why};
use super::webhook::Webhook;
use crate::context::{Context, person};
use crate::error::{Exit, Failure, chain};
use crate::ringing;

/// How long a thread that waits for appends looks away where there is no doorbell.
const WITHOUT_DOORBELL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Own {
    tree: Tree,
    agents: Vec<String>,
    /// The configuration that was named to this process is named to the commands that it runs.
    config: Option<PathBuf>,
    webhook: Option<Webhook>,
    listener: Mutex<Option<Listener>>,
    /// To wake who listens, while it does.
    waker: Ringer,
}

impl Own {
    pub(super) fn new(context: &Context, agents: Vec<String>, webhook: Option<Webhook>) -> Self {
        let tree = context.tree.clone();
        let waker = Ringer::new(tree.layout.doorbell());
        let config = context.config_named().map(Path::to_owned);
        Self { tree, agents, config, webhook, listener: Mutex::default(), waker }
    }

    /// A command on this root, called by nobody's run: what a person asks for over HTTP is no run's child, whoever started
    /// the server.
    fn program(&self, words: &[String]) -> Command {
        let mut command = Command::new(program());
        command.arg("--json").arg("--root").arg(self.tree.layout.root());
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("JRUN_")) {
                command.env_remove(name);
            }
        }
        command.args(words).current_dir(self.tree.layout.root());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn name(project: &ProjectId, task: &TaskId) -> TaskName {
        TaskName { project: project.clone(), task: task.clone() }
    }

    fn why(&self) -> Why {
        let person = person();
        let cause = Cause::Person(person.clone());
        Why { by: format!("user {person}"), reason: "asked for over HTTP".to_owned(), cause }
    }
}

impl Opens for Own {
    fn open(&self, path: &Path) -> io::Result<File> {
        self.tree.open(path)
    }
}

impl Work for Own {
    fn settle(&self, project: &ProjectId, task: &TaskId) {
        let name = Self::name(project, task);
        let settled = TaskView::open(&self.tree, &name).and_then(|mut view| {
            close::close_dead(&self.tree, &mut view)?;
            match files::marker(&self.tree.task(&name).done()) {
                Ok(found) => marker::reconcile(&self.tree, &mut view, found),
                // What cannot be looked at says nothing.
                Err(_) => Ok(()),
            }
        });
        if let Err(error) = settled {
            tracing::debug!(task = %name, %error, "a task cannot be settled");
        }
    }

    fn processes(&self, project: &ProjectId, task: &TaskId) -> Processes {
        let name = Self::name(project, task);
        let no_driver = is_left_alone(&self.tree, &name, true);
        let Ok(view) = TaskView::open(&self.tree, &name) else {
            return Processes { foreign_runs: 0, no_driver };
        };
        let is_foreign =
            |(id, run): &(&RunId, &Run)| matches!(close::life(&self.tree, &name, id, run), Ok(Life::Foreign));
        Processes { foreign_runs: view.task().active().filter(is_foreign).count(), no_driver }
    }

    fn look(&self, project: &ProjectId, task: &TaskId) -> Result<Seen, String> {
        let name = Self::name(project, task);
        let view = status::look(&self.tree, &name).map_err(|error| chain(&error))?;
        let why = why::of_task(&view, &seen::around(&self.tree, &view)).summary().to_owned();
        Ok(Seen { notes: status::notes(&self.tree, &name, &view), why })
    }

    fn agents(&self) -> Vec<String> {
        self.agents.clone()
    }

    fn wait_for_appends(&self, timeout: Duration) -> Vec<usize> {
        match &mut *self.listener.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(listener) => listener.wait(timeout),
            None => {
                std::thread::sleep(timeout.min(WITHOUT_DOORBELL));
                Vec::new()
            }
        }
    }

    fn wake(&self) {
        // No stream's counter: a wake-up that names nothing.
        self.waker.ring(0);
    }

    fn renew(&self) -> bool {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = match &mut *listener {
            Some(listener) => listener.renew(),
            None => Listener::open(&self.tree.layout.doorbell()).map(|new| {
                *listener = Some(new);
                true
            }),
        };
        renewed.unwrap_or_else(|error| {
            tracing::warn!(%error, "no doorbell can be made: appends are seen late");
            *listener = None;
            true
        })
    }

    fn counter(&self, key: &StreamKey) -> usize {
        ringing::counter(key)
    }

    fn command(&self, words: &[String], stdin: &str) -> Result<Value, Failed> {
        let cannot = |error: io::Error| Failed::from(Failure::io("cannot run the command", &error));
        let mut child = self.program(words).spawn().map_err(cannot)?;
        let given = child.stdin.take();
        let said = std::thread::scope(|scope| {
            // A command that has heard enough closes its end.
            scope.spawn(move || given.map(|mut to| to.write_all(stdin.as_bytes())));
            child.wait_with_output()
        });
        let said = said.map_err(cannot)?;
        let text = String::from_utf8_lossy(&said.stderr);
        if said.status.success() {
            return Ok(serde_json::from_slice(&said.stdout).unwrap_or_default());
        }
        let told = text.lines().rev().find_map(|line| serde_json::from_str::<Told>(line).ok());
        Err(told.map_or_else(|| unsaid(&said, &text), |told| told.error))
    }

    fn fit(&self, key: &StreamKey, draft: &mut Draft) -> Result<(), String> {
        attach::fit(&self.tree, key, draft, self.tree.durability).map_err(|error| chain(&error))
    }

    fn make_project(&self, project: &ProjectId, home: &Path) -> Result<bool, Failed> {
        let cause = Cause::Person(person());
        let made = make::project(&self.tree, project, Some(home), &cause, "api");
        made.map_err(|error| Failure::from(error).into())
    }

    fn delete_run(&self, project: &ProjectId, task: &TaskId, run: &RunId) -> Result<u64, Failed> {
        let deleted = TaskView::open(&self.tree, &Self::name(project, task)).map_err(Failure::from).and_then(
            |mut view| {
                close::close_dead(&self.tree, &mut view)?;
                Ok(delete::run(&self.tree, &mut view, run, &self.why())?)
            },
        );
        freed(deleted, &format!("run {run}"))
    }

    fn delete_project(&self, project: &ProjectId) -> Result<u64, Failed> {
        let mut bytes = 0;
        for task in self.tree.tasks(project).map_err(|error| Failure::io("cannot list the tasks", &error))? {
            let words = [
                format!("--project={project}"),
                "task".into(),
                "delete".into(),
                "--yes".into(),
                task.to_string(),
            ];
            bytes += self.command(&words, "")?["freed_bytes"].as_u64().unwrap_or_default();
        }
        let deleted = delete::project(&self.tree, project).map_err(Failure::from);
        freed(deleted, &format!("project {project}")).map(|own| bytes + own)
    }

    fn deliver(&self, event: &str) -> Result<(), String> {
        self.webhook.as_ref().map_or(Ok(()), |webhook| webhook.deliver(event))
    }

    fn redact(&self, value: &mut Value) {
        redact(value);
    }
}

/// An error as `--json` tells it.
#[derive(serde::Deserialize)]
struct Told {
    error: Failed,
}

/// A command that failed and told nothing for programs: what it came to, or what it said last.
fn unsaid(said: &Output, text: &str) -> Failed {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let told = String::from_utf8_lossy(&said.stdout);
    let left = serde_json::from_str::<Value>(&told).ok().and_then(|told| told.get("left_runs").cloned());
    match left {
        Some(left) => Failed::from(Failure::new(Exit::Locked, format!("these were not stopped: {left}"))),
        None => Failed::from(Failure::new(
            Exit::Failed,
            format!("the command ended with {}: {line}", said.status),
        )),
    }
}

fn freed(deleted: Result<Deleted, Failure>, what: &str) -> Result<u64, Failed> {
    match deleted? {
        Deleted::Gone { bytes } => Ok(bytes),
        Deleted::Refused(refusal) => Err(Failure::new(Exit::Locked, format!("{what}: {refusal}")).into()),
        Deleted::Busy { holder } => {
            Err(Failure::new(Exit::Locked, format!("{what} is held by {holder}")).into())
        }
    }
}
