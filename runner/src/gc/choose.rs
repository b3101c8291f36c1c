//! What is old enough to go? Pure: the caller says what the task is and what time it is.

use std::collections::BTreeSet;
use std::time::Duration;

use run_agent_core::decide;
use run_agent_core::world::{RunStatus, Task, TaskStatus};
use run_agent_core::{RunId, Timestamp};

/// What may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// Runs that ended so long ago, and with [`Rules::done_tasks`] tasks in which nothing happened for so long.
    pub older_than: Option<Duration>,
    /// Runs of a task beyond so many, the oldest first.
    pub max_runs: Option<u32>,
    /// A run that ended less than this ago stays whatever the others say: who waited for it may still read it.
    pub young: Duration,
    /// Failed runs stay, and so do tasks that have some.
    pub keep_failed: bool,
    /// Completed tasks go as a whole.
    pub done_tasks: bool,
}

/// Why a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    Old,
    TooMany,
}

/// The runs that go, oldest first. What `decide` refuses is not among them, and neither is a run that a kept one was
/// started by: the tree of what stays is whole.
#[must_use]
pub fn runs(task: &Task, rules: &Rules, now: Timestamp) -> Vec<(RunId, Because)> {
    let surplus = rules.max_runs.map_or(0, |max| task.runs.len().saturating_sub(max.max(1) as usize));
    let because = |rank: usize, id: &RunId| {
        let run = task.runs.get(id)?;
        let (_, ended) = run.end()?;
        if rules.keep_failed && run.status() == RunStatus::Failed {
            return None;
        }
        if !is_past(ended, rules.young, now) {
            return None;
        }
        let old = rules.older_than.is_some_and(|age| is_past(ended, age, now));
        match (old, rank < surplus) {
            (true, _) => Some(Because::Old),
            (false, true) => Some(Because::TooMany),
            (false, false) => None,
        }
    };
    let mut going = Vec::new();
    let mut kept = BTreeSet::new();
    for (rank, id) in task.runs.keys().enumerate() {
        match because(rank, id).filter(|_| decide::may_delete_run(task, id).is_ok()) {
            Some(because) => going.push((id.clone(), because)),
            None => keep_with_parents(task, id, &mut kept),
        }
    }
    going.retain(|(id, _)| !kept.contains(id));
    going
}

fn keep_with_parents(task: &Task, id: &RunId, kept: &mut BTreeSet<RunId>) {
    let mut at = Some(id);
    // Ends where it was before: parents that a hand wrote may name each other in a circle.
    while let Some(id) = at.filter(|id| kept.insert((*id).clone())) {
        at = task.runs.get(id).and_then(|run| run.parent.as_ref());
    }
}

/// May the whole task go, as far as it alone tells?
#[must_use]
pub fn whole_task(task: &Task, rules: &Rules, now: Timestamp) -> bool {
    let Some(age) = rules.older_than.filter(|_| rules.done_tasks) else { return false };
    let failed = || task.run_counts().contains_key(&RunStatus::Failed);
    task.status() == TaskStatus::Completed
        && decide::may_delete_task(task).is_ok()
        && task.thread.last_activity.is_some_and(|last| is_past(last, age, now))
        && !(rules.keep_failed && failed())
}

/// A moment that lies ahead, after the clock was set back, is not past.
fn is_past(at: Timestamp, age: Duration, now: Timestamp) -> bool {
    let since = now.as_nanosecond().saturating_sub(at.as_nanosecond());
    u128::try_from(since).is_ok_and(|since| since >= age.as_nanos())
}

#[cfg(test)]
mod tests {
    use run_agent_core::cause::Cause;
    use run_agent_core::event::{Event, LoopStart, RunEnd, RunIntent, RunOutcome, Scope};
    use run_agent_core::{Cursor, Message, MsgId, ProjectId, StreamKey, TaskId, World};

    use super::*;

    const DAY: i64 = 86_400;

    fn id(n: u64) -> RunId {
        RunId::parse(&format!("20200101-000000{n:04}-1-{n}")).unwrap()
    }

    struct Story {
        world: World,
        key: StreamKey,
        at: u64,
    }

    impl Story {
        fn new() -> Self {
            let task = TaskId::parse("task-20200101-000000-x").unwrap();
            let key = StreamKey::task(ProjectId::parse("p").unwrap(), task);
            Self { world: World::new(), key, at: 0 }
        }

        fn post(&mut self, day: i64, run: Option<u64>, event: &Event) {
            let scope =
                Scope { project: self.key.project.clone(), task: self.key.task.clone(), run: run.map(id) };
            self.at += 1;
            let message = Message {
                id: MsgId::parse(&format!("m{}", self.at)).unwrap(),
                ts: Timestamp::from_second(day * DAY).unwrap(),
                content: event.draft(&scope, &Cause::Timer("x".to_owned()), ""),
            };
            self.world.apply(&self.key, Cursor::new(self.at), &message);
        }

        fn begin(&mut self, day: i64, n: u64, parent: Option<u64>) {
            let intent = RunIntent { parent_run_id: parent.map(id), ..RunIntent::default() };
            self.post(day, Some(n), &Event::RunIntent(intent));
        }

        fn end(&mut self, day: i64, n: u64, status: RunOutcome) {
            self.post(day, Some(n), &Event::RunEnd(RunEnd { status, ..RunEnd::default() }));
        }

        fn task(&self) -> &Task {
            self.world.task(&self.key.project, self.key.task.as_ref().unwrap()).unwrap()
        }

        fn going(&self, rules: Rules, day: i64) -> Vec<u64> {
            let all: Vec<u64> = (1..20).collect();
            let going = runs(self.task(), &rules, Timestamp::from_second(day * DAY).unwrap());
            going.iter().map(|(run, _)| all.iter().copied().find(|n| id(*n) == *run).unwrap()).collect()
        }
    }

    fn older(days: u64) -> Rules {
        Rules { older_than: Some(Duration::from_secs(days * 86_400)), ..Rules::default() }
    }

    #[test]
    fn a_run_goes_by_the_age_of_its_end_and_the_newest_stays() {
        let mut story = Story::new();
        for n in 1..=4 {
            story.begin(1, n, None);
            story.end(i64::try_from(n).unwrap(), n, RunOutcome::Completed);
        }
        assert_eq!(story.going(older(7), 9), [1, 2]);
        assert_eq!(story.going(older(7), 100), [1, 2, 3]);
        assert_eq!(story.going(older(7), 0), [0; 0], "a clock that was set back deletes nothing");
        assert_eq!(story.going(Rules::default(), 100), [0; 0]);
    }

    #[test]
    fn what_is_active_and_what_it_hangs_on_stays() {
        let mut story = Story::new();
        story.begin(1, 1, None);
        story.begin(1, 2, Some(1));
        story.begin(1, 3, Some(2));
        story.begin(1, 4, None);
        story.begin(1, 5, None);
        for n in [1, 2, 4, 5] {
            story.end(1, n, RunOutcome::Completed);
        }
        assert_eq!(story.going(older(7), 100), [4], "1 and 2 are above the active 3, 5 is the newest");
        story.post(2, None, &Event::LoopStart(LoopStart::default()));
        assert_eq!(story.going(older(7), 100), [0; 0], "the loop is open");
    }

    #[test]
    fn the_tree_of_what_stays_is_whole() {
        let mut story = Story::new();
        story.begin(1, 1, None);
        story.begin(1, 2, Some(1));
        story.begin(1, 3, Some(2));
        story.begin(1, 4, None);
        story.end(1, 1, RunOutcome::Completed);
        story.end(1, 2, RunOutcome::Completed);
        story.end(1, 3, RunOutcome::Failed);
        story.end(1, 4, RunOutcome::Completed);
        assert_eq!(story.going(older(7), 100), [1, 2, 3]);
        assert_eq!(story.going(Rules { keep_failed: true, ..older(7) }, 100), [0; 0]);
    }

    #[test]
    fn the_oldest_beyond_the_limit_go() {
        let mut story = Story::new();
        for n in 1..=5 {
            story.begin(1, n, None);
            story.end(1, n, RunOutcome::Completed);
        }
        let most = |max| Rules { max_runs: Some(max), ..Rules::default() };
        assert_eq!(story.going(most(3), 1), [1, 2]);
        assert_eq!(story.going(most(5), 1), [0; 0]);
        let young = Rules { young: Duration::from_secs(60), ..most(3) };
        assert_eq!((story.going(young, 1), story.going(young, 2)), (vec![], vec![1, 2]));
        assert_eq!(story.going(most(0), 1), [1, 2, 3, 4], "the newest always stays");
    }

    #[test]
    fn a_task_goes_when_it_is_completed_and_nothing_happened_for_so_long() {
        let mut story = Story::new();
        story.begin(1, 1, None);
        let rules = Rules { done_tasks: true, ..older(7) };
        let whole = |story: &Story, rules: &Rules, day: i64| {
            whole_task(story.task(), rules, Timestamp::from_second(day * DAY).unwrap())
        };
        assert!(!whole(&story, &rules, 100), "its run is active");
        story.end(2, 1, RunOutcome::Completed);
        assert!(!whole(&story, &rules, 8) && whole(&story, &rules, 9));
        assert!(!whole(&story, &older(7), 100), "only when it was asked for");
        story.begin(3, 2, None);
        story.end(3, 2, RunOutcome::Failed);
        assert!(!whole(&story, &rules, 100), "it failed");
    }
}
