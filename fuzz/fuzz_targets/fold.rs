//! The fold and what is asked of it: no stream makes them panic, and a world depends on nothing but what each stream
//! says in its order.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use run_agent_core::event::Usd;
use run_agent_core::plan::{self, Clock, Dependency, Look, Unmet, Waiting, reason};
use run_agent_core::policy::agents::Pool;
use run_agent_core::policy::budget::{Budget, OnBudget, Spent};
use run_agent_core::policy::{Breaker, LoopPolicy, Session};
use run_agent_core::world::Marker;
use run_agent_core::{Cursor, Draft, Message, MsgId, StreamKey, World, decide};
use run_agent_fuzz::{draft, moment, run, stream, task, text};

type Item = (StreamKey, Cursor, Message);

/// The names under which the events' fields stand in `meta`.
const FIELDS: [&str; 48] = [
    "title",
    "source",
    "depends_on",
    "thread_parent",
    "by",
    "reason",
    "agent",
    "attempt",
    "parent_run_id",
    "previous_run_id",
    "key",
    "depth",
    "status",
    "exit_code",
    "signal",
    "duration_ms",
    "error_class",
    "left_overs",
    "grace_ms",
    "keep_children",
    "ahead",
    "silent_s",
    "model",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cost_usd",
    "session_id",
    "child_project_id",
    "child_task_id",
    "child_run_id",
    "link",
    "ended",
    "resume",
    "delay_ms",
    "waits_for",
    "runs",
    "until",
    "active_ms",
    "fresh",
    "verify",
    "parent_project_id",
    "parent_task_id",
    "failures",
    "trips",
    "cooldown_ms",
    "hopeless",
    "supervisor_pid",
];

/// Values that some field takes, and some that none does.
const VALUES: [&str; 16] = [
    "0",
    "1",
    "2",
    "18446744073709551615",
    "-1",
    "true",
    "false",
    "completed",
    "failed",
    "stopped",
    "0.000001",
    "99999999999999.999999",
    "2026-11-21T09:30:15Z",
    "p",
    "run",
    "",
];

fuzz_target!(|bytes: &[u8]| {
    let mut u = Unstructured::new(bytes);
    let _ = items(&mut u).and_then(|items| check(&items, &mut u));
});

fn items(u: &mut Unstructured<'_>) -> Result<Vec<Item>> {
    let (mut items, mut ends) = (Vec::new(), [0u64; 3]);
    for _ in 0..u.int_in_range(0..=40)? {
        let n: u8 = u.int_in_range(0..=2)?;
        let end = &mut ends[usize::from(n)];
        // Two of one id in a stream are nothing that a store gives, but a person may write them.
        let id =
            MsgId::parse(&format!("m-{n}-{}", *end % 16)).map_err(|_| arbitrary::Error::IncorrectFormat)?;
        let content = event(u, &stream(n))?;
        items.push((stream(n), Cursor::new(*end), Message { id, ts: moment(u)?, content }));
        *end += 1 + u64::from(u.arbitrary::<u8>()?);
    }
    Ok(items)
}

fn event(u: &mut Unstructured<'_>, key: &StreamKey) -> Result<Draft> {
    let mut draft = draft(u, key)?;
    for _ in 0..u.int_in_range(0..=6)? {
        let value = match u.int_in_range(0..=4)? {
            0 => text(u)?,
            1 => run(u.int_in_range(1..=4)?).to_string(),
            2 => task(u.int_in_range(1..=2)?).to_string(),
            _ => (*u.choose(&VALUES)?).to_owned(),
        };
        draft.meta.insert((*u.choose(&FIELDS)?).to_owned(), value);
    }
    Ok(draft)
}

fn fold<'a>(mut world: World, items: impl IntoIterator<Item = &'a Item>) -> World {
    for (stream, at, message) in items {
        world.apply(stream, *at, message);
    }
    world
}

fn check(items: &[Item], u: &mut Unstructured<'_>) -> Result<()> {
    let whole = fold(World::new(), items);
    assert_eq!(fold(World::new(), items), whole, "a replay gives the same world");

    let cut = u.int_in_range(0..=items.len())?;
    let saved = serde_json::to_string(&fold(World::new(), &items[..cut])).expect("a world is saved");
    let loaded = serde_json::from_str(&saved).expect("a saved world is loaded");
    assert_eq!(fold(loaded, &items[cut..]), whole, "a checkpoint and the rest give the same world");

    assert_eq!(fold(whole.clone(), items), whole, "a doubled delivery changes nothing");

    let mut streams: BTreeMap<&StreamKey, Vec<&Item>> = BTreeMap::new();
    for item in items {
        streams.entry(&item.0).or_default().push(item);
    }
    let one_by_one = streams.into_values().rev().flatten();
    assert_eq!(fold(World::new(), one_by_one), whole, "the order between streams does not matter");

    ask(&whole, u)
}

fn policy(u: &mut Unstructured<'_>) -> Result<LoopPolicy> {
    let breaker = Breaker { failures: u.arbitrary()?, trips: u.arbitrary()?, ..Breaker::default() };
    let verify = if u.arbitrary()? { vec!["make".to_owned()] } else { Vec::new() };
    let (max_restarts, question_timeout_ms) = (u.arbitrary()?, u.arbitrary()?);
    let on_budget = if u.arbitrary()? { OnBudget::Stop } else { OnBudget::Finish };
    let budget = Budget { max_tokens: u.arbitrary()?, max_cost: Usd { micros: u.arbitrary()? }, on_budget };
    let session = if u.arbitrary()? { Session::Resume } else { Session::Fresh };
    Ok(LoopPolicy {
        max_restarts,
        question_timeout_ms,
        verify,
        breaker,
        budget,
        session,
        ..LoopPolicy::default()
    })
}

fn waiting(u: &mut Unstructured<'_>) -> Result<Option<Waiting>> {
    let reasons = [reason::WAIT_CHILDREN, reason::WAIT_QUESTION, reason::WAIT_AGENTS, reason::DEPENDENCY];
    Ok(if u.arbitrary()? { Some(Waiting { reason: u.choose(&reasons)?, ms: u.arbitrary()? }) } else { None })
}

fn spent(u: &mut Unstructured<'_>) -> Result<Spent> {
    Ok(Spent { tokens: u.arbitrary()?, cost: Usd { micros: u.arbitrary()? } })
}

fn unmet(u: &mut Unstructured<'_>) -> Result<Vec<Dependency>> {
    let states = [Unmet::Open, Unmet::Failed(String::new()), Unmet::Missing];
    let count = u.int_in_range(0..=3)?;
    (0..count)
        .map(|_| Ok(Dependency { task: task(u.arbitrary()?), state: u.choose(&states)?.clone() }))
        .collect()
}

/// What is asked of a world answers, whatever stands in it.
fn ask(world: &World, u: &mut Unstructured<'_>) -> Result<()> {
    let policy = policy(u)?;
    let pool =
        Pool { names: vec!["a".to_owned(), "b".to_owned()], cooldown_ms: u.arbitrary()?, ..Pool::default() };
    let marker = if u.arbitrary()? { Marker::Absent } else { Marker::NotAFile };
    for project in world.projects.values() {
        let _ = project.usage();
        for (id, task) in &project.tasks {
            let _ = task.row(id);
            let clock =
                Clock { active_ms: u.arbitrary()?, since_root_ms: u.arbitrary()?, waiting: waiting(u)? };
            let (unmet, now, spent) = (unmet(u)?, moment(u)?, spent(u)?);
            let _ = plan::next(Look {
                task,
                marker,
                policy: &policy,
                pool: &pool,
                unmet: &unmet,
                spent,
                clock,
                now,
            });
            let _ = decide::may_start_loop(task);
            let _ = decide::may_end_loop(task, None, "stopped");
            let _ = decide::may_complete_loop(task, None);
            for run in task.runs.keys() {
                let _ = (decide::may_start_run(task, run), decide::may_end_run(task, run));
            }
        }
    }
    Ok(())
}
