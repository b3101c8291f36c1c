//! What needs a person, one fact a test.

use super::*;
use crate::cause::Cause;
use crate::event::{
    AgentDegraded, Done, Event, LoopBlocked, LoopBudget, LoopEnd, LoopStart, RunEnd, RunIntent, RunOutcome,
    RunStart, Scope, Silence,
};
use crate::id::{ProjectId, TaskId};
use crate::message::{Draft, Kind, Message, Parent};
use crate::store::{Cursor, StreamKey};
use crate::world::World;

struct Tale {
    world: World,
    key: StreamKey,
    next: u64,
}

fn run_id() -> RunId {
    RunId::new(Timestamp::UNIX_EPOCH, 1, 1)
}

impl Tale {
    fn new() -> Self {
        let task = TaskId::parse("task-20261121-093000-x").unwrap();
        Self { world: World::new(), key: StreamKey::task(ProjectId::parse("p").unwrap(), task), next: 1 }
    }

    fn message(mut self, draft: Draft) -> Self {
        let ts = Timestamp::from_second(i64::try_from(self.next).unwrap()).unwrap();
        let message = Message { id: MsgId::new(ts, 1, 1), ts, content: draft };
        self.world.apply(&self.key, Cursor::new(self.next), &message);
        self.next += 1;
        self
    }

    fn event(self, run: bool, event: Event) -> Self {
        let run = run.then(run_id);
        let scope = Scope { project: self.key.project.clone(), task: self.key.task.clone(), run };
        self.message(event.draft(&scope, &Cause::Timer("test".to_owned()), ""))
    }

    fn run(self, attempt: Option<u32>) -> Self {
        self.event(true, Event::RunIntent(RunIntent { attempt, ..RunIntent::default() }))
            .event(true, Event::RunStart(Box::<RunStart>::default()))
    }

    fn asks(self, body: &str, blocking: bool, by_run: bool) -> Self {
        let mut draft = Draft::new(Kind::QUESTION, self.key.project.clone(), self.key.task.clone(), body);
        draft.run = by_run.then(run_id);
        draft.meta.insert("blocking".to_owned(), blocking.to_string());
        self.message(draft)
    }

    fn gives_up(self, reason: &str) -> Self {
        let outcome = LoopOutcome::Failed;
        self.event(false, Event::LoopStart(LoopStart::default())).event(
            false,
            Event::LoopEnd(LoopEnd { outcome, reason: reason.to_owned(), ..LoopEnd::default() }),
        )
    }

    fn needs(&self) -> Vec<Need> {
        of_task(self.world.task(&self.key.project, self.key.task.as_ref().unwrap()).unwrap())
    }

    fn askers(&self) -> Vec<Asker> {
        let asker = |need: Need| match need {
            Need::Question { asker, .. } => Some(asker),
            Need::GaveUp { .. } | Need::Agent { .. } | Need::Blocked { .. } | Need::Silent { .. } => None,
        };
        self.needs().into_iter().filter_map(asker).collect()
    }
}

#[test]
fn a_question_needs_an_answer_until_it_has_one() {
    let tale = Tale::new().asks("may I?", true, false);
    let needs = tale.needs();
    let [Need::Question { msg_id, blocking: true, asker: Asker::Unknown, text, .. }] = needs.as_slice()
    else {
        panic!("{needs:?}")
    };
    assert_eq!(text, "may I?");
    let mut answer = Draft::new(Kind::ANSWER, tale.key.project.clone(), tale.key.task.clone(), "yes");
    answer.parents = vec![Parent::new(msg_id.clone(), Some("answers"))];
    assert_eq!(tale.message(answer).needs(), []);
}

#[test]
fn whoever_reads_the_answer_is_told_apart() {
    let end = || Event::RunEnd(RunEnd::default());
    let job = Tale::new().run(None).asks("a", true, true);
    assert_eq!(job.askers(), [Asker::Active]);
    assert_eq!(job.event(true, end()).askers(), [Asker::Ended]);
    let root = Tale::new().event(false, Event::LoopStart(LoopStart::default())).run(Some(1));
    let root = root.asks("a", true, true).asks("b", false, true).event(true, end());
    assert_eq!(root.askers(), [Asker::Loop, Asker::Ended], "the loop waits for the blocking one alone");
}

#[test]
fn blocking_questions_come_first_and_no_more_are_told_than_a_list_can_hold() {
    let mut tale = Tale::new().asks("first", true, false);
    for n in 0..2 * QUESTIONS_MAX {
        tale = tale.asks(&format!("{n} {}", "long ".repeat(100)), false, false);
    }
    let needs = tale.needs();
    assert_eq!(needs.len(), QUESTIONS_MAX);
    assert!(matches!(&needs[0], Need::Question { text, .. } if text == "first"));
    let Need::Question { text, .. } = &needs[1] else { panic!("{:?}", needs[1]) };
    assert!(text.starts_with(&format!("{} ", 2 * QUESTIONS_MAX - 1)) && text.len() <= TEXT_MAX, "{text}");
}

#[test]
fn a_loop_that_gave_up_needs_somebody_until_it_is_taken_up_or_said_to_be_done() {
    let tale = Tale::new().gives_up(reason::EXHAUSTED);
    assert!(matches!(&tale.needs()[..], [Need::GaveUp { reason, .. }] if reason == "exhausted"));
    let done = Done { by: "ann".to_owned(), written: None };
    assert_eq!(tale.event(false, Event::Done(done)).needs(), []);
    let again = Tale::new().gives_up(reason::BREAKER).event(false, Event::LoopStart(LoopStart::default()));
    assert_eq!(again.needs(), []);
}

#[test]
fn children_that_outlive_a_done_need_somebody_although_it_is_done() {
    let done = Done { by: "ann".to_owned(), written: None };
    let tale = Tale::new().event(false, Event::Done(done)).gives_up(reason::CHILDREN);
    assert!(matches!(&tale.needs()[..], [Need::GaveUp { .. }]));
}

#[test]
fn a_loop_needs_somebody_when_what_it_waits_for_cannot_come_by_itself() {
    for hopeless in [false, true] {
        let waits_for = vec![TaskId::parse("task-20261121-093000-y").unwrap()];
        let blocked = LoopBlocked { waits_for, reason: "y is failed".to_owned(), hopeless };
        let tale = Tale::new().event(false, Event::LoopStart(LoopStart::default()));
        let needs = tale.event(false, Event::LoopBlocked(blocked)).needs();
        assert_eq!(needs.iter().any(|need| matches!(need, Need::Blocked { .. })), hopeless);
    }
}

#[test]
fn a_silent_run_needs_a_look_until_it_lives_again() {
    let silence = Silence { silent_s: 300 };
    let tale = Tale::new().run(None).event(true, Event::RunIdle(silence.clone()));
    assert!(matches!(&tale.needs()[..], [Need::Silent { stuck: false, .. }]));
    let tale = tale.event(true, Event::RunStuck(silence.clone()));
    assert!(matches!(&tale.needs()[..], [Need::Silent { stuck: true, .. }]));
    assert_eq!(tale.event(true, Event::RunActive(silence)).needs(), []);
}

#[test]
fn a_need_comes_back_from_its_json() {
    let tale = Tale::new().run(None).asks("a", true, true).gives_up(reason::VERIFY);
    let json = serde_json::to_string(&tale.needs()).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Need>>(&json).unwrap(), tale.needs(), "{json}");
}

#[test]
fn a_spent_budget_says_how_much_of_which_limit_was_used() {
    let told =
        LoopBudget { percent: 100, limit: "limits.max_tokens".to_owned(), tokens: 900, cost_usd: None };
    let start = Event::LoopStart(LoopStart::default());
    let end =
        LoopEnd { outcome: LoopOutcome::Failed, reason: reason::BUDGET.to_owned(), ..LoopEnd::default() };
    let tale = Tale::new().event(false, start).event(false, Event::LoopBudget(told));
    assert_eq!(tale.needs(), [], "the driver sees to it");
    let needs = tale.event(false, Event::LoopEnd(end)).needs();
    let [Need::GaveUp { detail, .. }] = needs.as_slice() else { panic!("{needs:?}") };
    assert_eq!(detail, "limits.max_tokens: 900 tokens");
}

#[test]
fn a_refused_account_needs_somebody_and_a_used_up_one_does_not() {
    for (class, needed) in [("auth", true), ("usage_limit", false), ("rate_limit", false)] {
        let until = Timestamp::from_second(900).unwrap();
        let degraded = AgentDegraded { agent: "claude".to_owned(), error_class: class.to_owned(), until };
        let tale = Tale::new()
            .event(false, Event::LoopStart(LoopStart::default()))
            .run(Some(1))
            .event(true, Event::RunEnd(RunEnd { status: RunOutcome::Failed, ..RunEnd::default() }))
            .event(true, Event::AgentDegraded(degraded));
        let needs = tale.needs();
        let agent = needs.iter().find_map(|need| match need {
            Need::Agent { agent, run_id, since, .. } => Some((agent.as_str(), run_id.clone(), *since)),
            Need::Question { .. } | Need::GaveUp { .. } | Need::Blocked { .. } | Need::Silent { .. } => None,
        });
        let at_its_end = Timestamp::from_second(4).unwrap();
        assert_eq!(agent, needed.then(|| ("claude", Some(run_id()), at_its_end)), "{class}");
        let ended = LoopEnd {
            outcome: LoopOutcome::Failed,
            reason: reason::NO_AGENT.to_owned(),
            ..LoopEnd::default()
        };
        let needs = tale.event(false, Event::LoopEnd(ended)).needs();
        let [Need::GaveUp { detail, .. }] = needs.as_slice() else { panic!("{needs:?}") };
        assert_eq!(*detail, format!("claude: {class}"));
    }
}
