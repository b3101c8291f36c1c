//! What is used up, and what passes by itself: budgets, limits of an account, conversations that are taken up.

use super::*;
use crate::decide;
use crate::event::{Usage, Usd};
use crate::policy::Session;
use crate::policy::budget::{Budget, OnBudget, Spent};
use crate::world::TaskStatus;

impl Story {
    fn with_tokens(mut self, max_tokens: u64, on_budget: OnBudget) -> Self {
        self.policy.budget = Budget { max_tokens, on_budget, ..Budget::default() };
        self
    }

    fn spent(mut self, tokens: u64) -> Self {
        self.spent = Spent { tokens, cost: Usd::default() };
        self
    }

    fn tells(self, percent: u32) -> Self {
        let Step::TellBudget(budget) = self.next() else { panic!("{:?}", self.next()) };
        assert_eq!((budget.percent, budget.limit.as_str()), (percent, "limits.max_tokens"));
        self.event(None, Event::LoopBudget(budget))
    }

    fn fails_with(self, n: u32, end: RunEnd) -> Self {
        self.event(Some(run(n)), Event::RunEnd(RunEnd { status: RunOutcome::Failed, ..end }))
    }

    fn degraded_until(self) -> (Self, i64) {
        let Step::Degrade { run, event } = self.next() else { panic!("{:?}", self.next()) };
        let until = event.until.as_second();
        (self.event(Some(run), Event::AgentDegraded(event)), until)
    }

    fn session_of_next(&self) -> Option<String> {
        match self.next() {
            Step::StartRoot { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn at_four_fifths_people_are_told_once_and_the_loop_goes_on() {
    let story = Story::new().with_tokens(1000, OnBudget::Stop).root(1, 1).ends(1, RunOutcome::Completed);
    let story = story.spent(799);
    assert!(matches!(story.next(), Step::StartRoot { .. }));
    let story = story.spent(800).tells(80);
    assert!(matches!(story.next(), Step::StartRoot { .. }));
}

#[test]
fn at_the_limit_nothing_new_is_started() {
    let story = Story::new().with_tokens(1000, OnBudget::Stop).root(1, 1).ends(1, RunOutcome::Completed);
    let story = story.spent(1000).tells(100);
    assert!(is_end(&story.next(), LoopOutcome::Failed, reason::BUDGET));
    let new =
        |budget| decide::NewRun { root: false, key: None, parent: None, depth: 1, max_depth: 16, budget };
    let refused = decide::may_make_run(story.task(), new(Some(story.policy.budget)));
    assert!(matches!(refused, Err(decide::Refusal::BudgetUsedUp { .. })), "{refused:?}");
    assert!(decide::may_make_run(story.task(), new(None)).is_ok(), "a verify command uses no tokens");
    let elsewhere = decide::may_link(story.task(), &run(1), Some(story.policy.budget));
    assert!(matches!(elsewhere, Err(decide::Refusal::BudgetUsedUp { .. })), "{elsewhere:?}");
}

#[test]
fn what_runs_is_stopped_in_the_name_of_the_limit_and_the_loop_has_failed() {
    let story = Story::new().with_tokens(1000, OnBudget::Stop).root(1, 1).spent(5000).tells(100);
    let Step::StopForBudget { limit } = story.next() else { panic!("{:?}", story.next()) };
    let story =
        story.event(None, Event::LoopStopping(Stopping { by: limit.to_owned(), ..Stopping::default() }));
    assert!(matches!(story.next(), Step::StopRuns { .. }));
    let story = story.ends(1, RunOutcome::Stopped);
    let Step::End(end) = story.next() else { panic!("{:?}", story.next()) };
    assert_eq!((end.outcome, end.reason.as_str()), (LoopOutcome::Failed, reason::BUDGET));
    let may_end = |story: &Story| decide::may_end_loop(story.task(), None, reason::BUDGET);
    assert_eq!(may_end(&story), Ok(()));
    assert_eq!(story.event(None, Event::LoopEnd(end)).task().status(), TaskStatus::Failed);
    let person = Stopping { by: "somebody".to_owned(), ..Stopping::default() };
    let story = Story::new().with_tokens(1000, OnBudget::Stop).root(1, 1).spent(5000).tells(100);
    let story = story.event(None, Event::LoopStopping(person)).ends(1, RunOutcome::Stopped);
    assert_eq!(may_end(&story), Err(decide::Refusal::Moot), "a person's stop is the person's");
}

#[test]
fn a_limit_that_was_raised_since_it_was_told_is_none() {
    let story = Story::new().with_tokens(1000, OnBudget::Finish).root(1, 1).spent(1200).tells(100);
    let new = |max_tokens| decide::NewRun {
        root: false,
        key: None,
        parent: None,
        depth: 1,
        max_depth: 16,
        budget: Some(Budget { max_tokens, ..Budget::default() }),
    };
    assert!(decide::may_make_run(story.task(), new(1000)).is_err());
    assert!(decide::may_make_run(story.task(), new(100_000)).is_ok());
    assert!(decide::may_make_run(story.task(), new(0)).is_ok());
}

#[test]
fn a_reset_that_comes_again_and_again_is_not_believed_again() {
    let limit = || RunEnd {
        error_class: Some("usage_limit".to_owned()),
        retry_at: Some(Timestamp::from_second(1001).unwrap()),
        ..RunEnd::default()
    };
    let (story, first) = Story::new().root(1, 1).fails_with(1, limit()).degraded_until();
    let (story, second) = story.root(2, 2).fails_with(2, limit()).degraded_until();
    let (_, third) = story.root(3, 3).fails_with(3, limit()).degraded_until();
    assert_eq!((first, second, third), (1001, 1120, 1240));
}

#[test]
fn with_finish_what_runs_works_on() {
    let story = Story::new().with_tokens(1000, OnBudget::Finish).root(1, 1).spent(5000).tells(100);
    assert!(matches!(story.next(), Step::WaitRuns { reason: None, .. }), "{:?}", story.next());
    let story = story.child(2, 1).ends(1, RunOutcome::Completed);
    assert!(matches!(story.next(), Step::WaitRuns { .. }), "{:?}", story.next());
    let story = story.ends(2, RunOutcome::Completed);
    assert!(is_end(&story.next(), LoopOutcome::Failed, reason::BUDGET));
}

#[test]
fn work_that_is_done_is_completed_though_the_budget_is_used_up() {
    let story = Story::new().with_tokens(1000, OnBudget::Stop).root(1, 1).ends(1, RunOutcome::Completed);
    let story = story.done().spent(1000);
    assert!(is_end(&story.next(), LoopOutcome::Completed, reason::DONE));
}

#[test]
fn a_person_who_stops_it_meanwhile_has_stopped_it() {
    let story = Story::new().with_tokens(1000, OnBudget::Stop).root(1, 1).spent(5000).tells(100);
    let story =
        story.event(None, Event::LoopStopping(Stopping { by: "ann".to_owned(), ..Stopping::default() }));
    let story = story.ends(1, RunOutcome::Stopped);
    assert_eq!(decide::may_end_loop(story.task(), None, reason::BUDGET), Err(decide::Refusal::Moot));
    assert!(is_end(&story.next(), LoopOutcome::Stopped, reason::STOPPED));
}

#[test]
fn a_loop_that_is_taken_up_again_has_its_budget_anew() {
    let story = Story::new().with_tokens(1000, OnBudget::Stop).root(1, 1).ends(1, RunOutcome::Completed);
    let story = story.spent(1000).tells(100);
    let start = LoopStart { fresh: true, base_tokens: Some(1000), ..LoopStart::default() };
    let story = story.event(None, Event::LoopStart(start));
    assert!(matches!(story.next(), Step::StartRoot { .. }));
    story.spent(1800).tells(80);
}

#[test]
fn an_account_at_its_limit_burns_no_restart_and_goes_on_at_the_reset() {
    let reset = Timestamp::from_second(5000).unwrap();
    let limit =
        RunEnd { error_class: Some("usage_limit".to_owned()), retry_at: Some(reset), ..RunEnd::default() };
    let (story, until) = Story::new().root(1, 1).fails_with(1, limit).degraded_until();
    assert_eq!(until, 5000);
    let Step::Hold { reason: reason::WAIT_USAGE_LIMIT, ms: Some(4_000_000), event: Some(event) } =
        story.next()
    else {
        panic!("{:?}", story.next())
    };
    let mut story = story.event(None, event);
    assert_eq!(story.task().status(), TaskStatus::Waiting);
    story.pool.names.push("other".to_owned());
    assert!(
        matches!(story.next(), Step::StartRoot { agent, .. } if agent == "other"),
        "another goes on at once"
    );
    let mut story = story.root_of("other", 2, 2);
    assert_eq!(story.task().ralph.restarts, 0);
    story.policy.max_restarts = 0;
    let story = story.fails_with(2, RunEnd { error_class: Some("auth".to_owned()), ..RunEnd::default() });
    let (story, _) = story.degraded_until();
    assert!(matches!(story.next(), Step::Hold { reason: reason::WAIT_USAGE_LIMIT, .. }), "it is no restart");
}

#[test]
fn an_account_that_does_not_say_until_when_is_probed_at_growing_pauses() {
    let limit = |at: Option<i64>| RunEnd {
        error_class: Some("usage_limit".to_owned()),
        retry_at: at.map(|at| Timestamp::from_second(at).unwrap()),
        ..RunEnd::default()
    };
    let (mut story, mut pauses) = (Story::new(), Vec::new());
    for n in 1..=7 {
        let (next, until) = story.root(n, n).fails_with(n, limit(None)).degraded_until();
        (story, _) = (next, pauses.push((until - 1000) / 60));
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    let story = story.root(8, 8).ends(8, RunOutcome::Completed).root(9, 9);
    let (_, until) = story.fails_with(9, limit(Some(900))).degraded_until();
    assert_eq!(until, 1060, "a reset that is over while the limit holds is none");
}

#[test]
fn a_service_that_is_overloaded_is_left_for_another_agent_and_retried_without_one() {
    let busy = || RunEnd { error_class: Some("overloaded".to_owned()), ..RunEnd::default() };
    let alone = Story::new().root(1, 1).fails_with(1, busy());
    assert!(matches!(alone.next(), Step::StartRoot { .. }));
    let mut two = Story::new();
    two.pool.names = vec!["a".to_owned(), "b".to_owned()];
    let (two, _) = two.root_of("a", 1, 1).fails_with(1, busy()).degraded_until();
    assert!(matches!(two.next(), Step::StartRoot { agent, .. } if agent == "b"));
    assert_eq!(two.root_of("b", 2, 2).task().ralph.restarts, 1, "it was an attempt");
}

#[test]
fn a_conversation_is_taken_up_where_asked_for_by_the_same_agent_only() {
    let told = |story: Story, n| {
        let usage = Usage { session_id: Some("s".to_owned()), ..Usage::default() };
        story.event(Some(run(n)), Event::RunStart(Box::default())).event(Some(run(n)), Event::RunUsage(usage))
    };
    let ended = |policy, end: RunEnd| {
        let mut story = Story::new();
        story.policy.session = policy;
        told(story.root(1, 1), 1).event(Some(run(1)), Event::RunEnd(end))
    };
    let well = RunEnd { status: RunOutcome::Completed, ..RunEnd::default() };
    assert_eq!(ended(Session::Fresh, well.clone()).session_of_next(), None);
    assert_eq!(ended(Session::Resume, well.clone()).session_of_next(), Some("s".to_owned()));
    let mut two = ended(Session::Resume, well);
    two.pool.names = vec!["other".to_owned()];
    assert_eq!(two.session_of_next(), None);
    let class = |class: &str| RunEnd {
        status: RunOutcome::Failed,
        error_class: Some(class.to_owned()),
        ..RunEnd::default()
    };
    assert_eq!(ended(Session::Resume, class("network")).session_of_next(), Some("s".to_owned()));
    assert_eq!(ended(Session::Resume, class("context_too_long")).session_of_next(), None);
}
