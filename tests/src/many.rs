//! Roots of any size, made without starting anything: what tests and measurements of large roots look at.

use run_agent_core::cause::Cause;
use run_agent_core::event::{Event, RunEnd, RunIntent, RunOutcome, RunStart, TaskText};
use run_agent_core::{Draft, Durability, Kind, ProjectId, RunId, TaskId, Timestamp};
use run_agent_runner::Tree;
use run_agent_runner::tree::TaskName;

/// Entries in one append: a bound on memory.
const BATCH: usize = 1000;

/// The `n`-th task of a project.
#[must_use]
pub fn name(project: &str, n: usize) -> TaskName {
    TaskName {
        project: ProjectId::parse(project).unwrap(),
        task: TaskId::parse(&format!("task-20260101-000000-n{n:06}")).unwrap(),
    }
}

/// Makes so many tasks with one run each that has ended.
pub fn tasks(tree: &Tree, project: &str, count: usize) {
    for n in 0..count {
        let name = name(project, n);
        std::fs::create_dir_all(tree.task(&name).folder()).unwrap();
        let stream = tree.store.open(&name.key()).unwrap();
        stream.append(story(&name, n), Durability::None).unwrap();
    }
}

/// Appends so many messages of an agent's to a task, which is made if it is not there.
pub fn messages(tree: &Tree, name: &TaskName, count: usize) {
    std::fs::create_dir_all(tree.task(name).folder()).unwrap();
    let stream = tree.store.open(&name.key()).unwrap();
    let key = name.key();
    for from in (0..count).step_by(BATCH) {
        let draft = |n| {
            Draft::new(
                Kind::PROGRESS,
                key.project.clone(),
                key.task.clone(),
                format!("step {n}: {}", "x".repeat(200)),
            )
        };
        stream.append((from..count.min(from + BATCH)).map(draft).collect(), Durability::None).unwrap();
    }
}

fn story(name: &TaskName, n: usize) -> Vec<Draft> {
    let run = RunId::new(Timestamp::from_second(1_767_225_600).unwrap(), 1, u32::try_from(n).unwrap() + 1);
    let task = name.scope(None);
    let scope = name.scope(Some(run));
    let cause = Cause::Person("somebody".to_owned());
    let failed = n.is_multiple_of(3);
    let text = TaskText {
        title: format!("Task {n}: fix what is broken"),
        source: "cli".to_owned(),
        depends_on: Vec::new(),
        thread_parent: None,
    };
    let start = RunStart {
        agent: "shell".to_owned(),
        process_ownership: "managed".to_owned(),
        pid: 4711,
        commandline: "bash --noprofile --norc script.sh".to_owned(),
        ..RunStart::default()
    };
    let end = RunEnd {
        status: if failed { RunOutcome::Failed } else { RunOutcome::Completed },
        exit_code: Some(i32::from(failed)),
        reason: if failed { "exit code 1".to_owned() } else { String::new() },
        duration_ms: Some(1234),
        ..RunEnd::default()
    };
    let mut fact = Draft::new(Kind::FACT, name.project.clone(), Some(name.task.clone()), "It was the cache.");
    fact.run.clone_from(&scope.run);
    vec![
        Event::TaskCreated(text).draft(&task, &cause, "task created"),
        Event::RunIntent(RunIntent { agent: "shell".to_owned(), ..RunIntent::default() }).draft(
            &scope,
            &cause,
            "about to start",
        ),
        Event::RunStart(Box::new(start)).draft(&scope, &cause, "shell started"),
        fact,
        Event::RunEnd(end).draft(&scope, &cause, "shell ended"),
    ]
}
