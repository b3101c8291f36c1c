//! The world's promises, as properties over random streams: also over streams that make no sense.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use run_agent_core::cause::Cause;
use run_agent_core::event::{
    Deletion, Done, DoneCleared, Event, LoopBackoff, LoopBudget, LoopEnd, LoopOutcome, LoopRestart,
    LoopStart, LoopWaiting, Retrying, RunEnd, RunIntent, RunOutcome, RunStart, Scope, Silence, Stopping,
    TaskText, Usage, Usd,
};
use run_agent_core::world::{Change, Ignored, Mirror, Question, Task, WORLD_VERSION};
use run_agent_core::{
    Cursor, Draft, Kind, Message, MsgId, Parent, ProjectId, RunId, StreamKey, TaskId, Timestamp, World,
};

fn project() -> ProjectId {
    ProjectId::parse("p").unwrap()
}

fn stream(n: u8) -> StreamKey {
    if n == 0 {
        return StreamKey::project(project());
    }
    StreamKey::task(project(), TaskId::parse(&format!("task-20261121-093000-t{n}")).unwrap())
}

fn run(n: u32) -> RunId {
    RunId::new(Timestamp::UNIX_EPOCH, 1, n)
}

/// Ids that any stream may give and any message may name as parent.
fn message_id(stream: u8, n: usize) -> MsgId {
    MsgId::parse(&format!("m-{stream}-{n}")).unwrap()
}

fn outcome() -> impl Strategy<Value = RunOutcome> {
    prop_oneof![Just(RunOutcome::Completed), Just(RunOutcome::Failed), Just(RunOutcome::Stopped)]
}

fn deletion() -> Deletion {
    Deletion { by: "x".to_owned(), reason: "old".to_owned() }
}

fn event() -> impl Strategy<Value = Event> {
    let id = || (1u32..5).prop_map(run);
    prop_oneof![
        (proptest::option::of(1u32..4), proptest::option::of(id()), any::<bool>()).prop_map(
            |(attempt, parent, key)| {
                let key = key.then(|| "key".to_owned());
                Event::RunIntent(RunIntent { attempt, parent_run_id: parent, key, ..RunIntent::default() })
            }
        ),
        Just(Event::RunDeleted(deletion())),
        Just(Event::TaskDeleted(deletion())),
        Just(Event::RunStart(Box::default())),
        (outcome(), proptest::option::of(0u64..300_000)).prop_map(|(status, duration_ms)| {
            Event::RunEnd(RunEnd { status, duration_ms, exit_code: Some(1), ..RunEnd::default() })
        }),
        Just(Event::RunStopping(Stopping::default())),
        Just(Event::LoopStopping(Stopping::default())),
        any::<bool>().prop_map(|fresh| Event::LoopStart(LoopStart { fresh, ..LoopStart::default() })),
        Just(Event::LoopRestart(LoopRestart {
            attempt: 2,
            reason: String::new(),
            previous_run_id: None,
            active_ms: 5
        })),
        Just(Event::LoopBackoff(LoopBackoff {
            attempt: 2,
            delay_ms: 9,
            failures: 1,
            reason: "x".into(),
            active_ms: 6
        })),
        proptest::collection::vec(id(), 0..3).prop_map(|runs| Event::LoopWaiting(LoopWaiting {
            reason: "children".into(),
            runs,
            until: None,
            active_ms: 7
        })),
        Just(Event::LoopEnd(LoopEnd { outcome: LoopOutcome::Failed, ..LoopEnd::default() })),
        Just(Event::Done(Done { by: "file".into(), written: None })),
        any::<bool>().prop_map(|resume| Event::DoneCleared(DoneCleared { by: "x".into(), resume })),
        any::<u64>().prop_map(|silent_s| Event::RunIdle(Silence { silent_s })),
        any::<u64>().prop_map(|silent_s| Event::RunActive(Silence { silent_s })),
        any::<bool>().prop_map(|over| {
            let error_class = (!over).then(|| "rate_limit".to_owned());
            Event::RunRetrying(Retrying { error_class, ..Retrying::default() })
        }),
        (80u32..=100).prop_map(|percent| {
            let limit = "limits.max_tokens".to_owned();
            Event::LoopBudget(LoopBudget { percent, limit, tokens: 1, cost_usd: None })
        }),
        (any::<u64>(), proptest::option::of(any::<u64>())).prop_map(|(n, cost)| {
            let cost_usd = cost.map(|micros| Usd { micros });
            Event::RunUsage(Usage { input_tokens: n, output_tokens: n, cost_usd, ..Usage::default() })
        }),
    ]
}

/// What stands in a stream: an event of ours, a message of somebody's, or an event whose fields are nonsense.
fn draft(stream: u8) -> impl Strategy<Value = Draft> {
    let key = self::stream(stream);
    let run_id = proptest::option::weighted(0.9, (1u32..5).prop_map(run));
    let posted = (
        prop_oneof![Just(Kind::QUESTION), Just(Kind::ANSWER), Just(Kind::USER), Just(Kind::FACT)],
        proptest::option::of((0u8..3, 0usize..12)),
    );
    let scope = key.clone();
    prop_oneof![
        6 => (event(), run_id.clone()).prop_map(move |(event, run)| {
            let scope = Scope { project: scope.project.clone(), task: scope.task.clone(), run };
            event.draft(&scope, &Cause::Timer("t".into()), "line")
        }),
        3 => (posted, run_id).prop_map({
            let key = key.clone();
            move |((kind, parent), run)| {
                let mut draft = Draft::new(kind, key.project.clone(), key.task.clone(), "text");
                draft.run = run;
                draft.parents = parent.map(|(s, n)| Parent::new(message_id(s, n), None)).into_iter().collect();
                draft
            }
        }),
        1 => ("[A-Z]{1,3}|RUN_STOP|RUN_INTENT|LOOP_END|TASK_CREATED", ".{0,8}", ".{0,8}").prop_map(move |(kind, k, v)| {
            let mut draft = Draft::new(Kind::parse(&kind).unwrap(), key.project.clone(), key.task.clone(), "");
            draft.meta = BTreeMap::from([("exit_code".to_owned(), v), (k, "x".to_owned())]);
            draft
        }),
    ]
}

type Item = (StreamKey, Cursor, Message);

/// Three streams, each with its own order.
fn streams() -> impl Strategy<Value = Vec<Vec<Item>>> {
    let one = |s: u8| {
        proptest::collection::vec(draft(s), 0..40).prop_map(move |drafts| {
            let number = |(n, content): (usize, Draft)| {
                let ts = Timestamp::from_second(1000 + i64::try_from(n).unwrap()).unwrap();
                (stream(s), Cursor::new(n as u64 * 3), Message { id: message_id(s, n), ts, content })
            };
            drafts.into_iter().enumerate().map(number).collect::<Vec<Item>>()
        })
    };
    (one(0), one(1), one(2)).prop_map(|(a, b, c)| vec![a, b, c])
}

/// Merges the streams, each in its order, as `picks` says.
fn interleave(streams: &[Vec<Item>], picks: &[u8]) -> Vec<Item> {
    let mut heads = vec![0; streams.len()];
    let mut merged = Vec::new();
    for pick in picks.iter().copied().chain((0..=u8::MAX).cycle()) {
        if merged.len() == streams.iter().map(Vec::len).sum::<usize>() {
            break;
        }
        let s = usize::from(pick) % streams.len();
        if let Some(item) = streams[s].get(heads[s]) {
            merged.push(item.clone());
            heads[s] += 1;
        }
    }
    merged
}

fn fold(items: &[Item]) -> World {
    let mut world = World::new();
    for (stream, at, message) in items {
        world.apply(stream, *at, message);
    }
    world
}

proptest! {
    #[test]
    fn replaying_twice_gives_equal_worlds_in_any_interleaving(
        streams in streams(), a in proptest::collection::vec(any::<u8>(), 0..120), b in proptest::collection::vec(any::<u8>(), 0..120)
    ) {
        let first = fold(&interleave(&streams, &a));
        prop_assert_eq!(&first, &fold(&interleave(&streams, &a)));
        prop_assert_eq!(&first, &fold(&interleave(&streams, &b)));
    }

    #[test]
    fn a_prefix_and_then_the_rest_equals_the_whole_also_through_a_checkpoint(
        streams in streams(), picks in proptest::collection::vec(any::<u8>(), 0..120), cut in any::<prop::sample::Index>()
    ) {
        let items = interleave(&streams, &picks);
        let cut = cut.index(items.len() + 1);
        let prefix = fold(&items[..cut]);
        let saved = serde_json::to_string(&prefix).unwrap();
        let mut world: World = serde_json::from_str(&saved).unwrap();
        prop_assert_eq!(&world, &prefix);
        for (stream, at, message) in &items[cut..] {
            world.apply(stream, *at, message);
        }
        prop_assert_eq!(world, fold(&items));
    }

    #[test]
    fn a_doubled_delivery_changes_nothing(
        streams in streams(), picks in proptest::collection::vec(any::<u8>(), 0..120), again in any::<prop::sample::Index>()
    ) {
        let items = interleave(&streams, &picks);
        prop_assume!(!items.is_empty());
        let mut world = fold(&items);
        let before = world.clone();
        let (stream, at, message) = &items[again.index(items.len())];
        let applied = world.apply(stream, *at, message);
        prop_assert!(world.changes(stream, message, &applied).is_empty() && applied.ignored.is_some());
        prop_assert_eq!(world, before);
    }

    #[test]
    fn a_viewer_that_applies_the_changes_knows_what_the_world_knows(
        streams in streams(), picks in proptest::collection::vec(any::<u8>(), 0..120)
    ) {
        let mut world = World::new();
        let mut mirror = Mirror::default();
        for (stream, at, message) in &interleave(&streams, &picks) {
            let applied = world.apply(stream, *at, message);
            world.changes(stream, message, &applied).iter().for_each(|change: &Change| mirror.apply(change));
        }
        let mut wanted = Mirror::default();
        for (id, task) in world.projects.values().flat_map(|p| &p.tasks) {
            // A task without any lifecycle event has no row to change: it is what every task is at first.
            let mut row = task.row(id);
            match mirror.tasks.get(id) {
                Some(_) => { wanted.tasks.insert(id.clone(), row); }
                None => {
                    row.task_id = TaskId::parse("task-20261121-093000-t1").unwrap();
                    let plain = Task::default().row(&row.task_id);
                    prop_assert_eq!(row, plain);
                }
            }
            let mut counts = BTreeMap::new();
            task.runs.values().for_each(|run| *counts.entry(run.status()).or_insert(0) += 1);
            prop_assert_eq!(task.run_counts(), counts);
            let active: Vec<_> = task.runs.iter().filter(|(_, run)| run.is_active()).map(|(id, _)| id).collect();
            prop_assert_eq!(task.active().map(|(id, _)| id).collect::<Vec<_>>(), active);
            for (run, state) in task.runs.iter() {
                wanted.runs.insert((id.clone(), run.clone()), state.row(id, run));
            }
        }
        for (scope, thread) in world.projects.values().flat_map(|p| {
            std::iter::once((None, &p.thread)).chain(p.tasks.iter().map(|(id, t)| (Some(id.clone()), &t.thread)))
        }) {
            wanted.questions.extend(thread.open_questions.clone());
            wanted.counts.extend(thread.counts.iter().map(|(kind, n)| ((scope.clone(), kind.clone()), *n)));
        }
        prop_assert_eq!(mirror, wanted);
    }

    #[test]
    fn a_message_changes_the_rows_that_differ_after_it_and_that_of_its_run(
        streams in streams(), picks in proptest::collection::vec(any::<u8>(), 0..120)
    ) {
        let mut world = World::new();
        for (stream, at, message) in &interleave(&streams, &picks) {
            let before = world.clone();
            let applied = world.apply(stream, *at, message);
            let wanted = differences(&before, &world, stream, message, applied.ignored.as_ref());
            prop_assert_eq!(world.changes(stream, message, &applied), wanted);
        }
    }

    #[test]
    fn every_run_ends_at_most_once(streams in streams()) {
        let mut world = World::new();
        let mut ends: BTreeMap<(StreamKey, RunId), u32> = BTreeMap::new();
        for (stream, at, message) in &interleave(&streams, &[]) {
            let applied = world.apply(stream, *at, message);
            for change in &world.changes(stream, message, &applied) {
                if let Change::Run(row) = change
                    && matches!(message.content.kind.as_str(), "RUN_STOP" | "RUN_CRASH")
                {
                    *ends.entry((stream.clone(), row.run_id.clone())).or_default() += 1;
                }
                // One of whom nothing is known any more may be told of anew.
                if let Change::RunDeleted { id, .. } = change {
                    ends.remove(&(stream.clone(), id.clone()));
                }
            }
        }
        prop_assert!(ends.values().all(|n| *n == 1));
    }
}

/// What a viewer has to be told of two worlds with one message between them: found by comparing all that lists show.
fn differences(
    before: &World,
    after: &World,
    stream: &StreamKey,
    message: &Message,
    ignored: Option<&Ignored>,
) -> Vec<Change> {
    let (name, content) = (stream.task.as_ref(), &message.content);
    let mut changes =
        vec![Change::Counted { task: name.cloned(), kind: content.kind.clone(), at: message.ts }];
    let (old, new) = (open_questions(before), open_questions(after));
    for ((task, id), question) in &new {
        if !old.contains_key(&(task.clone(), id.clone())) {
            changes.push(Change::QuestionAsked {
                task: task.clone(),
                id: id.clone(),
                question: question.clone(),
            });
        }
    }
    if let Some(name) = name {
        let nobody = Task::default();
        let old = before.task(&stream.project, name).unwrap_or(&nobody);
        let new = after.task(&stream.project, name).unwrap();
        let is_event = !matches!(Event::read(message), Ok(Event::Posted));
        if let (Some(id), None, true) = (&content.run, ignored, is_event) {
            match new.runs.get(id) {
                Some(run) => changes.push(Change::Run(Box::new(run.row(name, id)))),
                None if old.runs.contains_key(id) => {
                    changes.push(Change::RunDeleted { task: name.clone(), id: id.clone() });
                }
                None => {}
            }
        }
        if new.row(name) != old.row(name) {
            changes.push(Change::Task(Box::new(new.row(name))));
        }
    }
    for (task, id) in old.into_keys().filter(|key| !new.contains_key(key)) {
        changes.push(Change::QuestionAnswered { task, id });
    }
    changes
}

fn open_questions(world: &World) -> BTreeMap<(Option<TaskId>, MsgId), Question> {
    let mut open = BTreeMap::new();
    for project in world.projects.values() {
        let of_tasks = project.tasks.iter().map(|(id, task)| (Some(id.clone()), &task.thread));
        for (task, thread) in std::iter::once((None, &project.thread)).chain(of_tasks) {
            open.extend(thread.open_questions.iter().map(|(id, q)| ((task.clone(), id.clone()), q.clone())));
        }
    }
    open
}

#[test]
fn the_fold_follows_a_run_from_intent_to_end() {
    let scope = Scope { project: project(), task: stream(1).task, run: Some(run(1)) };
    let events = [
        Event::RunIntent(RunIntent { agent: "shell".into(), ..RunIntent::default() }),
        Event::RunStart(Box::new(RunStart { pid: 7, ..RunStart::default() })),
        Event::RunEnd(RunEnd { exit_code: Some(0), ..RunEnd::default() }),
        Event::RunEnd(RunEnd { status: RunOutcome::Failed, ..RunEnd::default() }),
    ];
    let mut world = World::new();
    let mut statuses = Vec::new();
    for (n, event) in events.iter().enumerate() {
        let content = event.draft(&scope, &Cause::Process("exit".into()), "");
        let message = Message { id: message_id(1, n), ts: Timestamp::UNIX_EPOCH, content };
        let applied = world.apply(&stream(1), Cursor::new(n as u64), &message);
        let task = world.task(&project(), &stream(1).task.unwrap()).unwrap();
        statuses.push((
            task.runs[&run(1)].status().as_str(),
            task.status().as_str(),
            applied.ignored.is_some(),
        ));
    }
    assert_eq!(
        statuses,
        [
            ("queued", "queued", false),
            ("running", "running", false),
            ("completed", "completed", false),
            ("completed", "completed", true)
        ]
    );
}

#[test]
fn the_fold_knows_since_when_a_run_is_silent_until_it_lives_again_or_ends() {
    let scope = Scope { project: project(), task: stream(1).task, run: Some(run(1)) };
    let silence = |silent_s| Silence { silent_s };
    let events = [
        Event::RunStart(Box::default()),
        Event::RunIdle(silence(300)),
        Event::RunActive(silence(360)),
        Event::RunStuck(silence(900)),
        Event::RunEnd(RunEnd::default()),
    ];
    let mut world = World::new();
    let mut known = Vec::new();
    for (n, event) in events.iter().enumerate() {
        let content = event.draft(&scope, &Cause::Timer("t".into()), "");
        let message = Message { id: message_id(1, n), ts: Timestamp::from_second(10_000).unwrap(), content };
        world.apply(&stream(1), Cursor::new(n as u64), &message);
        let task = world.task(&project(), &stream(1).task.unwrap()).unwrap();
        known.push((task.runs[&run(1)].idle_since.map(Timestamp::as_second), task.reason()));
    }
    let idle = |since| (Some(since), "idle".to_owned());
    let lives = (None, String::new());
    assert_eq!(known, [lives.clone(), idle(9_700), lives.clone(), idle(9_100), lives]);
}

/// A story in which every state machine moves, always the same.
fn fixed_story() -> Vec<Item> {
    let name = stream(1).task.unwrap();
    let (first, child) = (Some(run(1)), Some(run(2)));
    let text = TaskText { title: "t".into(), source: "cli".into(), depends_on: vec![], thread_parent: None };
    let intent = |attempt, parent| RunIntent {
        attempt,
        parent_run_id: parent,
        agent: "a".into(),
        ..RunIntent::default()
    };
    let start =
        || Event::RunStart(Box::new(RunStart { pid: 7, commandline: "c".into(), ..RunStart::default() }));
    let events = [
        (None, Event::TaskCreated(text)),
        (None, Event::LoopStart(LoopStart { driver_pid: 1, active_ms: 5, ..LoopStart::default() })),
        (first.clone(), Event::RunIntent(intent(Some(1), None))),
        (first.clone(), start()),
        (child.clone(), Event::RunIntent(intent(None, first.clone()))),
        (child.clone(), start()),
        (
            first.clone(),
            Event::RunUsage(Usage { input_tokens: 3, cost_usd: Some(Usd { micros: 5 }), ..Usage::default() }),
        ),
        (
            first.clone(),
            Event::RunEnd(RunEnd { status: RunOutcome::Failed, exit_code: Some(1), ..RunEnd::default() }),
        ),
        (
            None,
            Event::LoopBackoff(LoopBackoff {
                attempt: 2,
                delay_ms: 9,
                failures: 1,
                reason: "x".into(),
                active_ms: 6,
            }),
        ),
        (child.clone(), Event::RunStopping(Stopping::default())),
        (None, Event::Done(Done { by: "file".into(), written: None })),
        (child, Event::RunEnd(RunEnd { status: RunOutcome::Stopped, ..RunEnd::default() })),
        (
            None,
            Event::LoopEnd(LoopEnd {
                outcome: LoopOutcome::Completed,
                reason: "done".into(),
                ..LoopEnd::default()
            }),
        ),
    ];
    let scope = |run| Scope { project: project(), task: Some(name.clone()), run };
    let mut drafts: Vec<Draft> = events
        .into_iter()
        .map(|(run, event)| event.draft(&scope(run), &Cause::Timer("t".into()), "line"))
        .collect();
    drafts.push(Draft::new(Kind::QUESTION, project(), Some(name.clone()), "which?"));
    let item = |(n, content): (usize, Draft)| {
        let ts = Timestamp::from_second(1000 + i64::try_from(n).unwrap()).unwrap();
        (stream(1), Cursor::new(n as u64 * 3), Message { id: message_id(1, n), ts, content })
    };
    drafts.into_iter().enumerate().map(item).collect()
}

#[test]
fn a_fold_that_changed_its_meaning_has_another_version() {
    let json = serde_json::to_string(&fold(&fixed_story())).unwrap();
    // FNV-1a: a sum that no dependency changes.
    let sum = json
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, b| (sum ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    assert_eq!(
        (WORLD_VERSION, format!("{sum:016x}")),
        (12, "d62336747385f6fb".to_owned()),
        "the fold says something else of the same story, and checkpoints of the old one would be believed: raise WORLD_VERSION, and write the new sum here\n{json}"
    );
}
