//! From what a person types to what is there: unique slugs and prefixes, and "did you mean".

use run_agent_core::{ProjectId, RunId, TaskId};
use run_agent_runner::Tree;
use run_agent_runner::tree::TaskName;

use crate::error::{Exit, Failure};

/// The task with this id, unique slug or unique prefix, in one project or in all.
pub(crate) fn task(tree: &Tree, project: Option<&ProjectId>, text: &str) -> Result<TaskName, Failure> {
    let projects = match project {
        Some(project) => vec![project.clone()],
        None => tree.projects().map_err(|e| Failure::io(tree.layout.root().display(), &e))?,
    };
    let mut all = Vec::new();
    for project in projects {
        // A project that is not there (yet) has no tasks.
        let tasks = match tree.tasks(&project) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            tasks => tasks.map_err(|e| Failure::io(format!("project {project}"), &e))?,
        };
        for task in tasks {
            all.push(TaskName { project: project.clone(), task });
        }
    }
    let exact: Vec<&TaskName> =
        all.iter().filter(|n| n.task.as_str() == text || n.task.slug() == text).collect();
    let matches: Vec<&TaskName> = if exact.is_empty() {
        all.iter().filter(|n| n.task.as_str().starts_with(text)).collect()
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
            let known: Vec<&str> = all.iter().flat_map(|n| [n.task.as_str(), n.task.slug()]).collect();
            let place =
                project.map_or_else(|| tree.layout.root().display().to_string(), |p| format!("project {p}"));
            let near = nearest(text, known.into_iter());
            Err(Failure::not_found(format!("no task `{}` in {place}{near}", text.escape_debug())))
        }
        several => {
            let names: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Failure::new(Exit::Usage, format!("`{text}` matches several tasks: {}", names.join(", "))))
        }
    }
}

/// The task that a run belongs to. Looks in `first` before it looks everywhere.
pub(crate) fn run(tree: &Tree, first: Option<&TaskName>, text: &str) -> Result<(TaskName, RunId), Failure> {
    let run = RunId::parse(text)?;
    let has = |name: &TaskName| tree.run(name, &run).folder().is_dir();
    if let Some(name) = first.filter(|name| has(name)) {
        return Ok((name.clone(), run));
    }
    for project in tree.projects().map_err(|e| Failure::io(tree.layout.root().display(), &e))? {
        for task in tree.tasks(&project).unwrap_or_default() {
            let name = TaskName { project: project.clone(), task };
            if has(&name) {
                return Ok((name, run));
            }
        }
    }
    Err(Failure::not_found(format!("no run `{run}` in {}", tree.layout.root().display())))
}

/// `; did you mean …?` when a known name is near, else nothing.
pub(crate) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> String {
    near(text, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// The known name that was probably meant.
pub(crate) fn near<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = text.chars().count();
    let limit = if letters < 4 { 1 } else { (letters / 3).clamp(2, 4) };
    known
        .map(|name| (distance(text, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Edits from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        assert_eq!(nearest("swram", ["swarm", "other"].into_iter()), "; did you mean `swarm`?");
        assert_eq!(nearest("xyz", ["swarm"].into_iter()), "");
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
