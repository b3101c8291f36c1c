//! Full text over messages and outputs. The text is looked for as it is, upper and lower case alike.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use run_agent_core::{Cursor, ProjectId, RunId, StreamKey, TaskId, text};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Query, aside, project_id, projects, task_id, tasks};
use crate::App;
use crate::error::{ErrorBody, Refused};
use crate::shape::{Found, SearchResult};

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// A search that takes longer tells what it has found by then.
const TIME_MAX: Duration = Duration::from_secs(10);
/// So much of one output is looked at.
const OUTPUT_MAX: u64 = 16 << 20;
const LINE_MAX: u64 = 1 << 20;
/// So much of a line is told.
const TEXT_MAX: usize = 240;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct What {
    q: String,
    /// Only in this project; else in all.
    project: Option<String>,
    /// Only in this task.
    task: Option<String>,
    /// At most so many places [100, at most 1000].
    limit: Option<usize>,
}

/// Where was that said?
#[utoipa::path(get, path = "/api/v1/search", tag = "events", params(What),
    responses((status = OK, body = SearchResult), (status = BAD_REQUEST, body = ErrorBody), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn search(
    State(app): State<Arc<App>>,
    Query(what): Query<What>,
) -> Result<Json<SearchResult>, Refused> {
    let project = what.project.as_deref().map(project_id).transpose()?;
    let task = what.task.as_deref().map(task_id).transpose()?;
    let words = what.q.trim().to_lowercase();
    if words.is_empty() {
        return Err(Refused::bad("`q` is empty: what is to be looked for?"));
    }
    app.live.ready().await;
    let project = match (&task, project) {
        (Some(task), None) => Some(tasks::project_of(&app.live.state(), task, None)?),
        (_, project) => project,
    };
    let (streams, runs) = scope(&app, project.as_ref(), task.as_ref())?;
    let turn = app.turn().await?;
    aside(move || {
        // Its own, and not the client's, who may hang up.
        let _turn = turn;
        let limit = what.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
        let mut search =
            Search { app: &app, words, limit, until: Instant::now() + TIME_MAX, found: Vec::new() };
        let complete =
            streams.iter().all(|key| search.stream(key)) && runs.iter().all(|run| search.outputs(run));
        Ok(Json(SearchResult { found: search.found, complete }))
    })
    .await
}

type Run = (ProjectId, TaskId, RunId);

/// Newest activity first.
fn scope(
    app: &App,
    project: Option<&ProjectId>,
    task: Option<&TaskId>,
) -> Result<(Vec<StreamKey>, Vec<Run>), Refused> {
    let state = app.live.state();
    let (mut keys, mut runs) = (Vec::new(), Vec::new());
    let projects: Vec<&ProjectId> = match project {
        Some(project) => {
            projects::must_be_there(&state, project)?;
            vec![project]
        }
        None => state.world.projects.keys().collect(),
    };
    for project in projects {
        if let Some(task) = task {
            let found = tasks::known(&state, project, task)?;
            keys.push(StreamKey::task(project.clone(), task.clone()));
            runs.extend(found.runs.keys().rev().map(|run| (project.clone(), task.clone(), run.clone())));
            continue;
        }
        keys.push(StreamKey::project(project.clone()));
        keys.extend(state.tasks(project).map(|(id, _)| StreamKey::task(project.clone(), id.clone())));
        runs.extend(state.runs(project).map(|(run, task)| (project.clone(), task.clone(), run.clone())));
    }
    Ok((keys, runs))
}

struct Search<'a> {
    app: &'a App,
    words: String,
    limit: usize,
    until: Instant,
    found: Vec<Found>,
}

impl Search<'_> {
    fn goes_on(&self) -> bool {
        self.found.len() < self.limit && Instant::now() < self.until
    }

    fn line<'t>(&self, text: &'t str) -> Option<(usize, &'t str)> {
        if !text.to_lowercase().contains(&self.words) {
            return None;
        }
        let mut lines = text.lines().enumerate();
        let found = lines.find(|(_, line)| line.to_lowercase().contains(&self.words));
        // A text that goes over the end of a line stands where it begins, which is not looked for.
        Some(found.map_or((1, text), |(at, line)| (at + 1, line)))
    }

    /// False where it is not to go on.
    fn stream(&mut self, key: &StreamKey) -> bool {
        let Ok(stream) = self.app.live.stream(key) else { return true };
        let (mut from, mut found) = (Cursor::START, Vec::new());
        while let Ok(page) = stream.read(from, 512) {
            for entry in &page.entries {
                let message = &entry.message;
                let Some((line, told)) = self.line(&message.content.body) else { continue };
                found.push(Found {
                    project_id: key.project.to_string(),
                    task_id: key.task.as_ref().map(ToString::to_string),
                    msg_id: Some(message.id.to_string()),
                    kind: Some(message.content.kind.to_string()),
                    run_id: message.content.run.as_ref().map(ToString::to_string),
                    file: None,
                    timestamp: Some(message.ts.to_string()),
                    line,
                    text: text::head(told, TEXT_MAX).to_owned(),
                });
                // The newest are told.
                if found.len() > self.limit * 2 {
                    found.drain(..self.limit);
                }
            }
            if page.next == from || Instant::now() >= self.until {
                break;
            }
            from = page.next;
        }
        let room = self.limit - self.found.len();
        self.found.extend(found.into_iter().rev().take(room));
        self.goes_on()
    }

    fn outputs(&mut self, (project, task, run): &Run) -> bool {
        let paths = self.app.live.layout.task(project, task).run(run);
        for (file, path) in [("output.md", paths.output()), ("stdout", paths.stdout())] {
            let Ok(opened) = self.app.live.work.open(&path) else { continue };
            let mut reader = BufReader::new(opened.take(OUTPUT_MAX));
            let (mut bytes, mut line) = (Vec::new(), 0);
            loop {
                bytes.clear();
                match (&mut reader).take(LINE_MAX).read_until(b'\n', &mut bytes) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => line += 1,
                }
                let told = String::from_utf8_lossy(&bytes);
                if told.to_lowercase().contains(&self.words) {
                    self.found.push(Found {
                        project_id: project.to_string(),
                        task_id: Some(task.to_string()),
                        msg_id: None,
                        kind: None,
                        run_id: Some(run.to_string()),
                        file: Some(file),
                        timestamp: None,
                        line,
                        text: text::head(told.trim_end(), TEXT_MAX).to_owned(),
                    });
                    // The first place of each output.
                    break;
                }
            }
            if !self.goes_on() {
                return false;
            }
        }
        true
    }
}
