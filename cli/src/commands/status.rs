//! `status`: one task with its tree, or one run.

use std::io::ErrorKind;

use run_agent_core::plan::reason;
use run_agent_core::run_info::RunInfo;
use run_agent_core::store::Damage;
use run_agent_core::world::{BudgetRow, RalphState, Run, RunStatus, Task, TaskStatus};
use run_agent_core::{Message, RunId, Timestamp};
use run_agent_runner::supervise::close::{self, Life};
use run_agent_runner::tree::TaskName;
use run_agent_runner::{TaskView, Tree, ViewError, files, marker, seen};

use super::why;
use crate::args::{Global, StatusArgs};
use crate::client::Client;
use crate::client::view::View;
use crate::context::{Context, flags_for};
use crate::error::{Exit, Failure, Outcome};
use crate::find;
use crate::render::{self, Hue, Paint};

/// How many of the last messages are shown.
pub(super) const MESSAGES: usize = 5;

pub(crate) fn run(global: &Global, args: &StatusArgs) -> Outcome {
    if let Some(client) = Client::of(global, &args.server)? {
        return there(global, &client, args.what.as_deref());
    }
    let context = Context::open(global)?;
    let (name, run) = which(&context, args.what.as_deref())?;
    let view = look(&context.tree, &name)?;
    let notes = notes(&context.tree, &name, &view);
    match run {
        Some(id) => {
            let Some(run) = view.run(&id) else { return Err(unknown(&name, &id)) };
            let info = RunInfo::project(&name.project, &name.task, &id, run, view.start_of(&id));
            one_run(global, view.task(), &id, run, &info, &notes)
        }
        None => whole_task(&context, &name, &view, &notes),
    }
}

fn there(global: &Global, client: &Client, what: Option<&str>) -> Outcome {
    let (name, run) = match what {
        None => (client.required_task()?, None),
        Some(text) if find::names_a_run(text) => {
            let (name, run) = client.run_named(text)?;
            (name, Some(run))
        }
        Some(text) => (client.task_named(text)?, None),
    };
    let View { task, last_messages, damage, notes, why, folder, .. } = client.view(&name)?;
    if let Some(id) = run {
        let Some(run) = task.runs.get(&id) else { return Err(unknown(&name, &id)) };
        // One that is not there yet, or is damaged, is told by what the fold still knows.
        let folded = |_| RunInfo::project(&name.project, &name.task, &id, run, run.start().cloned());
        let info = client.run_info(&id).unwrap_or_else(folded);
        return one_run(global, &task, &id, run, &info, &notes);
    }
    let (name, task, now, why) = (&name, &*task, Timestamp::now(), Some(why));
    show(global.json, &Moment { name, task, now, last_messages, damage, notes: &notes, why, folder })
}

/// The task, and the run if it is one, that a word of the command line names, or the surroundings.
pub(super) fn which(context: &Context, what: Option<&str>) -> Result<(TaskName, Option<RunId>), Failure> {
    match what {
        None => Ok((context.required_task()?, None)),
        Some(text) if find::names_a_run(text) => {
            let (name, run) = find::run(&context.tree, context.task()?.as_ref(), text)?;
            Ok((name, Some(run)))
        }
        Some(text) => Ok((context.task_named(text)?, None)),
    }
}

/// The task as it is now: dead runs are closed, and marker and stream agree.
pub(super) fn look(tree: &Tree, name: &TaskName) -> Result<TaskView, ViewError> {
    let mut view = TaskView::open(tree, name)?;
    close::close_dead(tree, &mut view)?;
    if let Ok(found) = files::marker(&tree.task(name).done()) {
        // A stream that can be read but not written is shown as it is.
        let _ = marker::reconcile(tree, &mut view, found);
    }
    Ok(view)
}

/// A run whose folder is there, and that its stream does not know.
pub(super) fn unknown(name: &TaskName, id: &RunId) -> Failure {
    Failure::not_found(format!(
        "run {id} is not in the stream of {name}: its starter was killed before it could say so"
    ))
}

/// What stream and files disagree about, a line each: told, never a reason to fail.
pub(super) fn notes(tree: &Tree, name: &TaskName, view: &TaskView) -> Vec<String> {
    let mut notes = Vec::new();
    for (id, run) in view.task().runs.iter() {
        let path = tree.run(name, id).info();
        let place = path.display().to_string();
        match tree.read_text(&path) {
            Ok(text) => {
                if let Err(error) = RunInfo::from_yaml(&text, &place) {
                    notes.push(format!("run {id}: {error}"));
                }
            }
            // It is written when the run waits or has started.
            Err(error) if error.kind() == ErrorKind::NotFound && run.status() == RunStatus::Queued => {}
            Err(error) => notes.push(format!("run {id}: {}", Failure::unread(&path, &error))),
        }
        if run.is_active() {
            match close::life(tree, name, id, run) {
                Ok(Life::Supervised | Life::Dead(_)) => {}
                Ok(Life::AgentAlone(agent)) => {
                    notes.push(format!(
                        "run {id}: its supervisor was lost; the agent (pid {}) goes on",
                        agent.pid
                    ));
                }
                Ok(Life::Foreign) => {
                    notes.push(format!(
                        "run {id}: foreign: it was started on another machine or in another container, so that nothing here closes or signals it; look or stop it there"
                    ));
                }
                Err(error) => notes.push(format!("run {id}: cannot tell whether it lives: {error}")),
            }
        }
    }
    if view.is_driverless(tree) {
        notes
            .push(format!("the loop's driver is gone; go on with `run-agent task{}`", flags_for(tree, name)));
    }
    notes
}

/// A task at a moment, as its stream tells it.
pub(super) struct Moment<'a> {
    pub(super) name: &'a TaskName,
    pub(super) task: &'a Task,
    pub(super) now: Timestamp,
    pub(super) last_messages: Vec<Message>,
    pub(super) damage: Vec<String>,
    pub(super) notes: &'a [String],
    /// The nearest cause of the status, where it was looked for.
    pub(super) why: Option<String>,
    /// Where its files lie.
    pub(super) folder: String,
}

fn whole_task(context: &Context, name: &TaskName, view: &TaskView, notes: &[String]) -> Outcome {
    let page = context.tree.store.open(&name.key())?.last(MESSAGES)?;
    let (task, now) = (view.task(), Timestamp::now());
    let why = why::of_task(view, &seen::around(&context.tree, view)).summary().to_owned();
    let last_messages = page.entries.into_iter().map(|entry| entry.message).collect();
    let (damage, folder) = (in_words(&view.damage), folder(&context.tree, name));
    show(context.json, &Moment { name, task, now, last_messages, damage, notes, why: Some(why), folder })
}

pub(super) fn in_words(damage: &[Damage]) -> Vec<String> {
    damage.iter().map(|d| format!("{}: {}", d.place, d.what)).collect()
}

pub(super) fn folder(tree: &Tree, name: &TaskName) -> String {
    tree.task(name).folder().display().to_string()
}

fn show(json: bool, moment: &Moment<'_>) -> Outcome {
    if json {
        render::json(&as_json(moment))?;
    } else {
        render::out(&as_text(moment))?;
    }
    Ok(Exit::Done)
}

pub(super) fn as_json(moment: &Moment<'_>) -> serde_json::Value {
    let Moment { name, task, notes, damage, last_messages, .. } = moment;
    let runs: Vec<_> = task.runs.iter().map(|(id, run)| run.row(&name.task, id)).collect();
    serde_json::json!({
        "id": name.task, "task_id": name.task, "project_id": name.project, "status": task.status(), "reason": task.reason(),
        "why": moment.why, "title": task.title(), "done": task.done.is_some(), "restarts": task.ralph.restarts,
        "attempts": task.ralph.attempts, "since": task.since.as_ref().map(|(_, at)| at),
        "last_activity": task.thread.last_activity, "messages": task.thread.messages(),
        "open_questions": open_questions(task), "runs": runs, "last_messages": last_messages,
        "until": task.until(), "usage": task.usage.row(), "budget": task.ralph.budget.as_deref().map(BudgetRow::from),
        "notes": notes, "damage": damage,
    })
}

fn open_questions(task: &Task) -> serde_json::Value {
    let mut questions = serde_json::json!(task.thread.open_questions);
    let each = questions.as_object_mut().into_iter().flat_map(|map| map.values_mut());
    each.for_each(name_the_run);
    questions
}

/// The run of a question, under the name that runs have everywhere.
pub(super) fn name_the_run(question: &mut serde_json::Value) {
    if let Some(question) = question.as_object_mut()
        && let Some(run) = question.remove("run")
    {
        question.insert("run_id".to_owned(), run);
    }
}

pub(super) fn as_text(moment: &Moment<'_>) -> String {
    let Moment { name, task, now, .. } = *moment;
    let paint = Paint::stdout();
    let mut out = head(name, task, now);
    out.push_str(&spent(task));
    if let Some(why) = moment.why.as_ref().filter(|why| !why.is_empty() && needs_words(task)) {
        out.push_str(&format!("why: {}\n", render::safe_line(why)));
    }
    if !task.runs.is_empty() {
        out.push('\n');
        out.push_str(&render::tree_text(task, now));
    }
    if !task.thread.open_questions.is_empty() {
        out.push_str(&format!(
            "\n{} (answer with {}):\n",
            paint.hue(Hue::Mild, "open questions"),
            render::command("inbox answer ID TEXT")
        ));
        for (id, question) in &task.thread.open_questions {
            out.push_str(&format!(
                "  {id}  {}\n",
                render::safe(question.text.lines().next().unwrap_or_default())
            ));
        }
    }
    if !moment.last_messages.is_empty() {
        out.push_str("\nlast messages:\n");
    }
    for message in &moment.last_messages {
        out.push_str(&format!("  {}\n", render::event_line(message)));
    }
    for damage in &moment.damage {
        out.push_str(&format!("{} {damage}\n", paint.hue(Hue::Bad, "damaged:")));
    }
    for note in moment.notes {
        out.push_str(&format!("{} {note}\n", paint.hue(Hue::Mild, "note:")));
    }
    out.push_str(&format!("\nfiles: {}\n", moment.folder));
    out
}

/// What its runs used, and how far its budget is used up, where there is something to say.
fn spent(task: &Task) -> String {
    let mut out = String::new();
    if let Some(usage) = task.usage.row() {
        out.push_str(&format!("used: {}\n", render::usage(&usage)));
    }
    if let Some(told) = &task.ralph.budget {
        let hue = if told.percent < 100 { Hue::Mild } else { Hue::Bad };
        let words = render::budget(&BudgetRow::from(&**told));
        out.push_str(&format!("budget: {}\n", Paint::stdout().hue(hue, &words)));
    }
    out
}

/// A status that says little by itself.
fn needs_words(task: &Task) -> bool {
    match task.status() {
        TaskStatus::Running => task.reason() == reason::RETRYING,
        TaskStatus::Created | TaskStatus::Completed => false,
        TaskStatus::Blocked
        | TaskStatus::Queued
        | TaskStatus::Waiting
        | TaskStatus::BackingOff
        | TaskStatus::Failed
        | TaskStatus::Stopped => true,
    }
}

/// Which task it is, and how it stands.
fn head(name: &TaskName, task: &Task, now: Timestamp) -> String {
    // Nothing is attempted again, or asked to be done, where jobs alone have run.
    if task.ralph.state == RalphState::Never && task.done.is_none() {
        let runs = render::count(task.runs.len() as u64, "run");
        return format!("{}{runs}\n", title_and_state(name, task, now));
    }
    let done = if task.done.is_some() { "DONE" } else { "not DONE" };
    format!(
        "{}{}, {}, {done}\n",
        title_and_state(name, task, now),
        render::count(u64::from(task.ralph.attempts), "attempt"),
        render::count(u64::from(task.ralph.restarts), "restart"),
    )
}

/// Which task it is, its status, and since when: two lines.
pub(super) fn title_and_state(name: &TaskName, task: &Task, now: Timestamp) -> String {
    let paint = Paint::stdout();
    let room = render::width().unwrap_or(usize::MAX).saturating_sub(name.to_string().len() + 2).max(20);
    let title = render::cut(&render::safe_line(task.title()), room);
    let status = task.status();
    format!(
        "{}\n{}{}\n",
        format!("{}  {title}", paint.hue(Hue::Strong, &name.to_string())).trim_end(),
        paint.hue(Hue::of_task(status), status.as_str()),
        reason_and_since(
            status.as_str(),
            &render::reason_of(task, now),
            task.since.as_ref().map(|(_, at)| *at),
            now
        ),
    )
}

/// What stands behind a status.
pub(super) fn reason_and_since(
    status: &str,
    reason: &str,
    since: Option<Timestamp>,
    now: Timestamp,
) -> String {
    let reason = render::reason(status, reason);
    let since = since.map(|at| format!(", since {}", render::when(at, now))).unwrap_or_default();
    format!("{reason}{}", since.replace(" now", " just now"))
}

fn one_run(global: &Global, task: &Task, id: &RunId, run: &Run, info: &RunInfo, notes: &[String]) -> Outcome {
    let notes: Vec<&String> = notes.iter().filter(|note| note.contains(id.as_str())).collect();
    if global.json {
        let mut value = serde_json::json!(info);
        if let Some(since) = run.idle_since {
            value["idle_since"] = serde_json::json!(since);
        }
        value["retrying"] = serde_json::json!(run.retries());
        value["children"] = serde_json::json!(children(task, id));
        value["notes"] = serde_json::json!(notes);
        render::json(&value)?;
        return Ok(Exit::Done);
    }
    // The same text as the run's own file, made from the stream.
    let mut out = info.to_yaml();
    if let Some(idle) = render::idle_for(run, Timestamp::now()) {
        out.push_str(&format!("# note: {idle}\n"));
    }
    if let Some(retrying) = render::retrying(run) {
        out.push_str(&format!("# note: {retrying}\n"));
    }
    for note in notes {
        out.push_str(&format!("# note: {note}\n"));
    }
    render::out(&out)?;
    Ok(Exit::Done)
}

fn children<'a>(task: &'a Task, id: &RunId) -> Vec<&'a RunId> {
    let is_child = |run: &Run| run.parent.as_ref() == Some(id);
    task.runs.iter().filter(|(_, run)| is_child(run)).map(|(id, _)| id).collect()
}
