//! Starting and taking up again. The same commands as at a terminal do it, as processes of their own.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use run_agent_core::message::{BODY_MAX, Kind, Parent};
use run_agent_core::world::{Task, TaskStatus};
use run_agent_core::{Draft, MsgId, ProjectId, RunId, StreamKey, TaskId};

use super::{Body, MaybeBody, act, aside, project_id, projects, task_id, tasks};
use crate::App;
use crate::error::{Code, ErrorBody, Refused};
use crate::shape::{AttachMode, LoopConfig, NewJob, NewTask, Resume, Started, ThreadParent, queue_position};

/// So long an answer waits for the first run of a loop that has started.
const FIRST_RUN: Duration = Duration::from_secs(2);

/// Makes a task and starts its loop; or goes on with one that is there.
#[utoipa::path(post, path = "/api/v1/tasks", tag = "tasks", request_body = NewTask,
    responses((status = CREATED, body = Started), (status = BAD_REQUEST, body = ErrorBody),
        (status = NOT_FOUND, body = ErrorBody), (status = CONFLICT, body = ErrorBody)))]
pub(crate) async fn task(
    State(app): State<Arc<App>>,
    Body(new): Body<NewTask>,
) -> Result<(StatusCode, Json<Started>), Refused> {
    let project = project_id(&new.project_id)?;
    let named = given(new.task_id.as_deref()).map(task_id).transpose()?;
    app.live.ready().await;
    let mut words = vec![format!("--project={project}")];
    let mode = new.attach_mode.unwrap_or_default();
    let there = match &named {
        Some(id) => app.live.state().task(&project, id).map(Task::status),
        None => None,
    };
    let prompt = given(new.prompt.as_deref());
    match (mode, there, &named) {
        (AttachMode::Create, Some(status), Some(id)) => Err(is_there(id, status)),
        (AttachMode::Create, ..) => {
            let prompt = prompt.ok_or_else(|| Refused::bad("`prompt` is empty: what is the agent to do?"))?;
            if prompt.contains('\0') {
                return Err(Refused::bad("`prompt` has a NUL in it, which no program can be given"));
            }
            // What is wrong with the thread is told before anything is made.
            let thread = match &new.thread_parent {
                Some(parent) => Some(thread(parent, new.thread_message_type.as_deref(), prompt)?),
                None => None,
            };
            let home = make_project(&app, &project, given(new.project_root.as_deref())).await?;
            words.extend(named.iter().map(|id| format!("--task={id}")));
            words.extend(["task", "--detach", "--prompt-file=-"].map(str::to_owned));
            words.extend(home.map(|home| format!("--cwd={home}")));
            words.extend(thread.as_ref().map(|(_, parent)| format!("--thread-parent={}", parent.msg_id)));
            add_agent(&mut words, new.agent_type.as_deref())?;
            add_config(&mut words, new.config)?;
            for id in &new.depends_on {
                words.push(format!("--depends-on={}", task_id(id)?));
            }
            let made = act::command(&app, words, prompt.to_owned()).await?;
            let id = made["task_id"].as_str().map(task_id).transpose()?;
            let id = id.ok_or_else(|| Refused::new(Code::Internal, "the task that was made has no id"))?;
            if let Some((kind, parent)) = thread {
                open_thread(&app, &project, &id, kind, parent, prompt).await?;
            }
            Ok((StatusCode::CREATED, Json(started(&app, &project, &id).await?)))
        }
        (_, None, Some(id)) => Err(Refused::not_found(format!("there is no task {id} in project {project}"))),
        (_, _, None) => Err(Refused::bad("which task? `task_id` names the one to go on with")),
        (AttachMode::Attach, Some(_), Some(id)) => {
            words.extend([format!("--task={id}"), "task".to_owned(), "--detach".to_owned()]);
            words.extend(prompt.map(|_| "--prompt-file=-".to_owned()));
            add_agent(&mut words, new.agent_type.as_deref())?;
            add_config(&mut words, new.config)?;
            match act::command(&app, words, prompt.unwrap_or_default().to_owned()).await {
                Ok(_) => {}
                // It runs already: that is what was asked for.
                Err(refused) if refused.code == Code::Conflict => {}
                Err(refused) => return Err(refused),
            }
            Ok((StatusCode::CREATED, Json(started(&app, &project, id).await?)))
        }
        (AttachMode::Resume, Some(_), Some(id)) => {
            must_have(&app, &project, id, prompt)?;
            let resume = Resume {
                agent_type: new.agent_type,
                config: new.config,
                depends_on: Some(new.depends_on).filter(|all| !all.is_empty()),
            };
            Ok((StatusCode::CREATED, Json(take_up(&app, &project, id, resume).await?)))
        }
    }
}

/// Starts one run of one agent in a task that is there.
#[utoipa::path(post, path = "/api/v1/jobs", tag = "runs", request_body = NewJob,
    responses((status = CREATED, body = Started), (status = BAD_REQUEST, body = ErrorBody),
        (status = NOT_FOUND, body = ErrorBody), (status = CONFLICT, body = ErrorBody)))]
pub(crate) async fn job(
    State(app): State<Arc<App>>,
    Body(new): Body<NewJob>,
) -> Result<(StatusCode, Json<Started>), Refused> {
    let (project, id) = (project_id(&new.project_id)?, task_id(&new.task_id)?);
    app.live.ready().await;
    tasks::known(&app.live.state(), &project, &id)?;
    let mut words = vec![format!("--project={project}"), format!("--task={id}")];
    words.extend(["job", "--detach", "--prompt-file=-"].map(str::to_owned));
    add_agent(&mut words, new.agent_type.as_deref())?;
    if let Some(key) = given(new.key.as_deref()) {
        words.push(format!("--key={}", word(key, "key")?));
    }
    let config = new.config.unwrap_or_default();
    if config.max_restarts.is_some() || !config.verify.is_empty() {
        return Err(Refused::bad("`config`: a job is one run, without `max_restarts` and `verify`"));
    }
    add_config(&mut words, Some(config))?;
    let made = act::command(&app, words, new.prompt).await?;
    let run = made["run_id"].as_str().map(RunId::parse).transpose()?;
    let known = |task: &Task| run.as_ref().is_some_and(|run| task.runs.contains_key(run));
    app.live.wait_until(FIRST_RUN, |state| state.task(&project, &id).is_some_and(known)).await;
    let state = app.live.state();
    let task = tasks::known(&state, &project, &id)?;
    let status = run.as_ref().and_then(|run| task.runs.get(run)).map(|run| run.status().to_string());
    let mut started = shape(&project, &id, task);
    started.run_id = run.map(|run| run.to_string());
    started.status = status.unwrap_or(started.status);
    Ok((StatusCode::CREATED, Json(started)))
}

/// Takes a task up again that is done, gave up or was stopped.
#[utoipa::path(post, path = "/api/projects/{project}/tasks/{task}/resume", tag = "tasks",
    params(("project" = String, Path), ("task" = String, Path)), request_body = Resume,
    responses((status = OK, body = Started), (status = BAD_REQUEST, body = ErrorBody),
        (status = NOT_FOUND, body = ErrorBody), (status = CONFLICT, body = ErrorBody)))]
pub(crate) async fn resume(
    State(app): State<Arc<App>>,
    Path((project, task)): Path<(String, String)>,
    MaybeBody(resume): MaybeBody<Resume>,
) -> Result<Json<Started>, Refused> {
    let (project, id) = (project_id(&project)?, task_id(&task)?);
    app.live.ready().await;
    tasks::known(&app.live.state(), &project, &id)?;
    take_up(&app, &project, &id, resume).await.map(Json)
}

async fn take_up(
    app: &Arc<App>,
    project: &ProjectId,
    id: &TaskId,
    given: Resume,
) -> Result<Started, Refused> {
    let mut words = vec![format!("--project={project}"), format!("--task={id}")];
    words.extend(["resume", "--detach"].map(str::to_owned));
    add_agent(&mut words, given.agent_type.as_deref())?;
    add_config(&mut words, given.config)?;
    for id in given.depends_on.unwrap_or_default() {
        words.push(format!("--depends-on={}", task_id(&id)?));
    }
    act::command(app, words, String::new()).await?;
    started(app, project, id).await
}

/// A field that is there and says something.
fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

/// A value that becomes a word of a command.
fn word<'a>(value: &'a str, field: &str) -> Result<&'a str, Refused> {
    const MAX: usize = 4096;
    if value.len() > MAX || value.chars().any(char::is_control) {
        return Err(Refused::bad(format!(
            "`{field}` must be one line of at most {MAX} bytes, without control characters"
        )));
    }
    Ok(value)
}

fn add_agent(words: &mut Vec<String>, agent: Option<&str>) -> Result<(), Refused> {
    if let Some(agent) = given(agent) {
        words.push(format!("--agent={}", word(agent, "agent_type")?));
    }
    Ok(())
}

fn add_config(words: &mut Vec<String>, config: Option<LoopConfig>) -> Result<(), Refused> {
    let Some(LoopConfig { cwd, timeout, max_restarts, verify }) = config else { return Ok(()) };
    if let Some(cwd) = given(cwd.as_deref()) {
        words.push(format!("--cwd={}", folder(cwd, "config.cwd")?));
    }
    if let Some(timeout) = given(timeout.as_deref()) {
        words.push(format!("--timeout={}", word(timeout, "config.timeout")?));
    }
    words.extend(max_restarts.map(|count| format!("--max-restarts={count}")));
    for command in &verify {
        words.push(format!("--verify={}", word(command, "config.verify")?));
    }
    Ok(())
}

/// A folder of this machine, by its whole path.
pub(super) fn folder<'a>(path: &'a str, field: &str) -> Result<&'a str, Refused> {
    let text = word(path, field)?;
    let path = FilePath::new(text);
    if path.is_absolute() && path.is_dir() {
        return Ok(text);
    }
    if path.is_absolute() {
        return Err(Refused::not_found(format!("`{field}`: there is no folder {text} on this machine")));
    }
    Err(Refused::bad(format!("`{field}` must be the absolute path of a folder")))
}

fn is_there(id: &TaskId, status: TaskStatus) -> Refused {
    let message = format!(
        "task {id} is there already, and {status}: `attach_mode` `attach` goes on with it, `resume` takes it up again"
    );
    let details = serde_json::json!({ "reason": "exists", "status": status.as_str() });
    Refused { details: Some(details), ..Refused::new(Code::Conflict, message) }
}

/// Makes a project that is not there. The folder that another one's task is to work in, where it is not the project's own.
async fn make_project(
    app: &Arc<App>,
    project: &ProjectId,
    root: Option<&str>,
) -> Result<Option<String>, Refused> {
    let root = root.map(|root| folder(root, "project_root")).transpose()?;
    if app.live.state().project(project).is_some() {
        return Ok(root.map(str::to_owned));
    }
    let Some(root) = root else {
        return Err(Refused::bad(format!(
            "there is no project {project} yet: `project_root` says where its agents work"
        )));
    };
    projects::make(app, project, root).await?;
    Ok(None)
}

/// Taken up again, a task has the prompt that it has.
fn must_have(app: &App, project: &ProjectId, id: &TaskId, prompt: Option<&str>) -> Result<(), Refused> {
    let Some(prompt) = prompt else { return Ok(()) };
    let path = app.live.layout.task(project, id).prompt();
    let text = crate::files::read(&app.live, "TASK.md", &path, crate::files::Part::default())?;
    if text.content.trim() == prompt.trim() {
        return Ok(());
    }
    Err(Refused::bad(format!("task {id} has another prompt: leave `prompt` out, or make a new task with it")))
}

/// Type and parent of the message that opens a new task's stream.
fn thread(parent: &ThreadParent, kind: Option<&str>, prompt: &str) -> Result<(Kind, Parent), Refused> {
    let kind = match given(kind) {
        Some(kind) => Kind::parse(kind).map_err(|error| Refused::bad(error.to_string()))?,
        None => Kind::USER,
    };
    super::messages::must_be_free(&kind)?;
    if prompt.len() > BODY_MAX {
        let message = format!("`prompt` is longer than {BODY_MAX} bytes, the most that opens a thread");
        return Err(Refused::bad(message));
    }
    let mut meta = std::collections::BTreeMap::new();
    if let Some(project) = given(parent.project_id.as_deref()) {
        meta.insert("project_id".to_owned(), project_id(project)?.to_string());
    }
    if let Some(task) = given(parent.task_id.as_deref()) {
        meta.insert("task_id".to_owned(), task_id(task)?.to_string());
    }
    let msg_id = MsgId::parse(&parent.message_id)?;
    Ok((kind, Parent { msg_id, kind: Some("thread".to_owned()), meta }))
}

/// The new task's stream begins with what it was started from.
async fn open_thread(
    app: &Arc<App>,
    project: &ProjectId,
    task: &TaskId,
    kind: Kind,
    parent: Parent,
    prompt: &str,
) -> Result<(), Refused> {
    let mut draft = Draft::new(kind, project.clone(), Some(task.clone()), prompt.to_owned());
    draft.parents.push(parent);
    let (app, key) = (app.clone(), StreamKey::task(project.clone(), task.clone()));
    let durability = app.settings.durability;
    aside(move || Ok(app.live.stream(&key)?.append(vec![draft], durability).map(drop)?)).await
}

/// What became of a task whose loop was started: waits a moment for its first run, where one is to come.
async fn started(app: &Arc<App>, project: &ProjectId, id: &TaskId) -> Result<Started, Refused> {
    let settled = |task: &Task| match task.status() {
        TaskStatus::Created => false,
        TaskStatus::Queued | TaskStatus::Running | TaskStatus::Waiting => !task.runs.is_empty(),
        TaskStatus::Blocked
        | TaskStatus::BackingOff
        | TaskStatus::Completed
        | TaskStatus::Failed
        | TaskStatus::Stopped => true,
    };
    app.live.wait_until(FIRST_RUN, |state| state.task(project, id).is_some_and(settled)).await;
    let state = app.live.state();
    Ok(shape(project, id, tasks::known(&state, project, id)?))
}

fn shape(project: &ProjectId, id: &TaskId, task: &Task) -> Started {
    let run = task.active_root().or_else(|| task.runs.keys().next_back());
    let depends_on = task.created.as_ref().map(|(text, _)| text.depends_on.as_slice()).unwrap_or_default();
    Started {
        project_id: project.to_string(),
        task_id: id.to_string(),
        run_id: run.map(ToString::to_string),
        status: task.status().to_string(),
        queue_position: queue_position(task),
        depends_on: depends_on.iter().map(ToString::to_string).collect(),
    }
}
