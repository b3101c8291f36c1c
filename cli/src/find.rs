//! From what a person types to what is there: unique slugs and prefixes, and "did you mean".

use run_agent_core::{Kind, ProjectId, RunId, TaskId};
use run_agent_runner::Tree;
use run_agent_runner::tree::TaskName;

use crate::error::{Code, Failure};
use crate::render;

/// How every task's id begins: alone it tells none from another.
const TASK_PREFIX: &str = "task-";

/// `project/task`, as lists and errors name a task.
pub(crate) fn split(text: &str) -> Option<(ProjectId, &str)> {
    let (project, task) = text.split_once('/')?;
    if task.is_empty() || task.contains('/') {
        return None;
    }
    Some((ProjectId::parse(project).ok()?, task))
}

/// That this project is there, and is no link.
pub(crate) fn project(tree: &Tree, project: &ProjectId) -> Result<(), Failure> {
    let folder = tree.layout.project(project);
    tree.no_link(&folder)?;
    if folder.is_dir() {
        return Ok(());
    }
    let known = tree.projects().unwrap_or_default();
    let near = near(project.as_str(), known.iter().map(ProjectId::as_str));
    let text = format!("no project `{project}` in {}", tree.layout.root().display());
    let list = format!("see {}", render::command("list"));
    Err(Failure::not_found(text).code(Code::UnknownProject).suggest_or(near, &list))
}

/// The project that a task's name itself says, and the rest of it.
pub(crate) fn own_project<'a>(
    project: Option<&ProjectId>,
    text: &'a str,
) -> Result<Option<(ProjectId, &'a str)>, Failure> {
    // Each name begins with nothing: a variable that is not set would mean the only task.
    if text.trim().is_empty() {
        return Err(Failure::usage("the task's name is empty"));
    }
    let Some((own, task)) = split(text) else { return Ok(None) };
    match project.filter(|project| **project != own) {
        Some(other) => Err(Failure::usage(format!(
            "`{}` is no task of the project `{other}`; leave one of the projects out",
            render::value(text)
        ))),
        None => Ok(Some((own, task))),
    }
}

/// The task with this id, unique slug or unique prefix, in one project or in all; or in the one that the text names.
pub(crate) fn task(tree: &Tree, project: Option<&ProjectId>, text: &str) -> Result<TaskName, Failure> {
    if let Some((own, task)) = own_project(project, text)? {
        self::project(tree, &own)?;
        return self::task(tree, Some(&own), task);
    }
    let projects = match project {
        Some(project) => vec![project.clone()],
        None => tree
            .projects()
            .map_err(|e| Failure::io(format!("cannot read {}", tree.layout.root().display()), &e))?,
    };
    let mut all = Vec::new();
    for project in projects {
        tree.no_link(&tree.layout.project(&project))?;
        // A project that is not there (yet) has no tasks.
        let tasks = match tree.tasks(&project) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            tasks => tasks.map_err(|e| {
                let folder = tree.layout.project(&project);
                Failure::io(format!("cannot read the project folder {}", folder.display()), &e)
            })?,
        };
        for task in tasks {
            all.push(TaskName { project: project.clone(), task });
        }
    }
    among(&all, text, || {
        project.map_or_else(|| tree.layout.root().display().to_string(), |p| format!("project {p}"))
    })
}

/// The one task of these that has this id, unique slug or unique prefix. `place`: where they lie, in words.
pub(crate) fn among(
    all: &[TaskName],
    text: &str,
    place: impl FnOnce() -> String,
) -> Result<TaskName, Failure> {
    let exact: Vec<&TaskName> =
        all.iter().filter(|n| text == n.task.as_str() || text == n.task.slug()).collect();
    let matches: Vec<&TaskName> = if exact.is_empty() {
        let says_something = text.len() > TASK_PREFIX.len();
        all.iter().filter(|n| says_something && n.task.as_str().starts_with(text)).collect()
    } else {
        exact
    };
    match matches.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            // A name that could never be a task's is wrong usage, not a task that is missing.
            if text.contains(['/', '\\', '*', '?', '['])
                || text.contains("..")
                || text.chars().any(char::is_control)
            {
                TaskId::parse(text)?;
            }
            // The beginning of a slug names nothing, since a new task may have it for its own; but it may be meant.
            let begun = all.iter().map(|n| n.task.slug()).find(|slug| slug.starts_with(text));
            let known = all.iter().flat_map(|n| [n.task.as_str(), n.task.slug()]);
            let near = begun.or_else(|| near(text, known));
            let failure = Failure::not_found(format!("no task `{}` in {}", render::value(text), place()));
            Err(failure.code(Code::UnknownTask).suggest_or(near, &format!("see {}", render::command("list"))))
        }
        several => Err(ambiguous(text, "tasks", several.iter().map(ToString::to_string).collect())),
    }
}

/// The task that a run belongs to. Looks in `first` before it looks everywhere. What the screen shows of a run, its pid
/// and sequence, and the beginning of its id are enough where only one run fits.
pub(crate) fn run(tree: &Tree, first: Option<&TaskName>, text: &str) -> Result<(TaskName, RunId), Failure> {
    let (name, run) = run_that_may_be_a_link(tree, first, text)?;
    tree.no_link(tree.run(&name, &run).folder())?;
    Ok((name, run))
}

/// Where a run is wanted and a task was named.
fn no_run(tree: &Tree, text: &str) -> Result<Option<Failure>, Failure> {
    let tasks = every_task(tree)?;
    let task = tasks.iter().find(|n| text == n.task.as_str() || text == n.task.slug());
    Ok(task.map(|name| {
        Failure::usage(format!("`{}` is a task, and a run is wanted", render::value(text)))
            .hint(format!("{} shows its runs", render::command(&format!("status {name}"))))
    }))
}

fn run_that_may_be_a_link(
    tree: &Tree,
    first: Option<&TaskName>,
    text: &str,
) -> Result<(TaskName, RunId), Failure> {
    let run = match RunId::parse(text) {
        Ok(run) => run,
        Err(_) if is_part_of_run(text) => return run_by_part(tree, first, text),
        Err(error) => return Err(no_run(tree, text)?.unwrap_or_else(|| error.into())),
    };
    let has = |name: &TaskName| tree.run(name, &run).folder().is_dir();
    if let Some(name) = first.filter(|name| has(name)) {
        return Ok((name.clone(), run));
    }
    if let Some(name) = every_task(tree)?.into_iter().find(has) {
        return Ok((name, run));
    }
    let known: Vec<String> = every_run(tree)?.into_iter().map(|(_, run)| run.to_string()).collect();
    let failure = Failure::not_found(format!("no run `{run}` in {}", tree.layout.root().display()));
    Err(failure.code(Code::UnknownRun).suggest_or(
        near(text, known.iter().map(String::as_str)),
        &format!("{} shows the runs of a task", render::command("status")),
    ))
}

/// True for what can only mean a run: an id or a part of one.
pub(crate) fn names_a_run(text: &str) -> bool {
    RunId::parse(text).is_ok() || is_part_of_run(text)
}

fn is_part_of_run(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || c == '-')
}

fn run_by_part(tree: &Tree, first: Option<&TaskName>, text: &str) -> Result<(TaskName, RunId), Failure> {
    run_among(every_run(tree)?, first, text, || tree.layout.root().display().to_string())
}

/// The one run of these that a part of an id means. `place`: where they lie, in words.
pub(crate) fn run_among(
    mut all: Vec<(TaskName, RunId)>,
    first: Option<&TaskName>,
    text: &str,
    place: impl FnOnce() -> String,
) -> Result<(TaskName, RunId), Failure> {
    all.retain(|(_, run)| run.as_str().starts_with(text) || render::short(run.as_str()) == text);
    all.sort_by(|a, b| a.1.cmp(&b.1));
    let own: Vec<_> = all.iter().filter(|(name, _)| Some(name) == first).cloned().collect();
    let mut matches = if own.len() == 1 { own } else { all };
    match matches.len() {
        1 => Ok(matches.remove(0)),
        0 => {
            // The rule of the id says what a whole one looks like.
            RunId::parse(text)?;
            let text = format!("no run `{}` in {}", render::value(text), place());
            Err(Failure::not_found(text).code(Code::UnknownRun))
        }
        _ => Err(ambiguous(text, "runs", matches.iter().map(|(_, run)| run.to_string()).collect())),
    }
}

/// The most names that an error lists.
const LISTED: usize = 10;

fn ambiguous(text: &str, what: &str, names: Vec<String>) -> Failure {
    let more = names.len().saturating_sub(LISTED);
    let mut list = names.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        list.push_str(&format!(" and {more} more"));
    }
    Failure::usage(format!("`{}` matches several {what}: {list}", render::value(text)))
        .code(Code::AmbiguousName)
        .hint("give one of them in full")
        .candidates(names)
}

/// Every task of a root. A project that cannot be read hides no other.
pub(crate) fn every_task(tree: &Tree) -> Result<Vec<TaskName>, Failure> {
    let mut all = Vec::new();
    let projects = tree.projects();
    for project in
        projects.map_err(|e| Failure::io(format!("cannot read {}", tree.layout.root().display()), &e))?
    {
        let tasks = tree.tasks(&project).unwrap_or_default();
        all.extend(tasks.into_iter().map(|task| TaskName { project: project.clone(), task }));
    }
    Ok(all)
}

/// Every run of a root.
fn every_run(tree: &Tree) -> Result<Vec<(TaskName, RunId)>, Failure> {
    let tasks = every_task(tree)?;
    Ok(tasks
        .into_iter()
        .flat_map(|name| runs_of(tree, &name).into_iter().map(move |run| (name.clone(), run)))
        .collect())
}

/// The runs of a task, as its folder has them.
pub(crate) fn runs_of(tree: &Tree, name: &TaskName) -> Vec<RunId> {
    let entries = std::fs::read_dir(tree.task(name).runs()).into_iter().flatten().flatten();
    let mut runs: Vec<RunId> =
        entries.filter_map(|entry| RunId::parse(entry.file_name().to_str()?).ok()).collect();
    runs.sort();
    runs
}

/// Types are an open set: a nearly right one is posted as it is, and this is said about it.
pub(crate) fn note_on_type(kind: &Kind) -> Option<String> {
    if Kind::COMMON.contains(&kind.as_str()) {
        return None;
    }
    let near = nearest(kind.as_str(), Kind::COMMON.into_iter());
    (!near.is_empty()).then(|| format!("note: {kind} is a type of your own{near}"))
}

/// `; did you mean …?` when a known name is near, else nothing.
pub(crate) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> String {
    near(text, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// The longest name of a file.
const NAME_MAX: usize = 255;

/// The known name that was probably meant.
pub(crate) fn near<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // What is longer than any name is none, and comparing it would take its length squared.
    if text.len() > NAME_MAX {
        return None;
    }
    let letters = text.chars().count();
    let limit = if letters < 4 { 1 } else { (letters / 3).clamp(2, 4) };
    known
        .map(|name| (distance(text, name), name))
        .filter(|(distance, _)| *distance <= limit && *distance < letters)
        .min()
        .map(|(_, name)| name)
}

/// Edits from one word to the other.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let mut least = (last[j] + usize::from(ca != cb)).min(row[j] + 1).min(last[j + 1] + 1);
            // Two letters in the wrong order are one slip.
            if i > 0 && j > 0 && *ca == b[j - 1] && a[i - 1] == *cb {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        assert_eq!(near("swram", ["swarm", "other"].into_iter()), Some("swarm"));
        assert_eq!(near("xyz", ["swarm"].into_iter()), None);
        assert_eq!(near("b", ["a"].into_iter()), None, "no letter is common");
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!((distance("pots", "post"), distance("pots", "poll")), (1, 2));
    }
}
