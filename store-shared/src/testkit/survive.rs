//! What must hold of a stream after the power went, whatever the disk kept beyond what was promised.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use run_agent_core::store::{Damage, Report, Stream};
use run_agent_core::{Cursor, Draft, Durability, Entry, Kind, Message};

/// What was posted, in the stream's order, as far as it is known; and how much of it must be there.
#[derive(Clone, Copy)]
pub(super) struct Promise<'a> {
    pub(super) posted: &'a [Message],
    pub(super) kept: usize,
    /// A store may hand out what stands behind damage above what was promised: its files are for people as well.
    pub(super) holes: bool,
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn failed(what: &str) -> impl Fn(&dyn std::fmt::Display) -> String {
    move |error| format!("{what}: {error}")
}

/// How many messages are there. Nothing of the stream is to be changed while this looks at it.
pub(super) fn check(promise: Promise<'_>, open: &dyn Fn() -> Arc<dyn Stream>) -> Result<usize, String> {
    catch_unwind(AssertUnwindSafe(|| looked_at(promise, open)))
        .unwrap_or_else(|cause| Err(format!("it panics: {}", told(&*cause))))
}

fn told(cause: &(dyn std::any::Any + Send)) -> &str {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

fn looked_at(promise: Promise<'_>, open: &dyn Fn() -> Arc<dyn Stream>) -> Result<usize, String> {
    let read = |what: &str| open().read(Cursor::START, usize::MAX).map_err(|e| failed(what)(&e));
    let verify = |what: &str| open().verify().map_err(|e| failed(what)(&e));
    let before = read("reading")?;
    first_part(promise, &before.entries, &before.damage)?;
    let floor = promise.kept.checked_sub(1).map_or(Cursor::START, |last| before.entries[last].next);
    above(promise, floor, &before.damage)?;
    agrees(promise, floor, before.entries.len(), &verify("verifying")?)?;

    let stream = open();
    let key = stream.key().clone();
    let draft = Draft::new(Kind::FACT, key.project, key.task, "after the power cut");
    let posted =
        stream.append(vec![draft], Durability::Always).map_err(|e| failed("appending")(&e))?.remove(0);
    let after = read("reading what was appended")?;
    let (last, rest) = after.entries.split_last().ok_or("nothing is there after an append")?;
    ensure(last.message == posted.message, || {
        format!("{:?} was appended and {last:?} is last", posted.message)
    })?;
    // An append may finish what was begun before the power went, and so bring back more; it takes nothing away.
    let goes_on = before.entries.iter().zip(rest).all(|(one, again)| one.message == again.message);
    ensure(goes_on && rest.len() >= before.entries.len(), || {
        format!(
            "{} messages were there before an append, and {} others after it",
            before.entries.len(),
            rest.len()
        )
    })?;
    first_part(promise, rest, &after.damage)?;
    let increase = after.entries.windows(2).all(|pair| pair[0].message.id < pair[1].message.id);
    ensure(increase, || "ids do not increase".to_owned())?;
    above(promise, floor, &after.damage)?;
    agrees(promise, floor, after.entries.len(), &verify("verifying after an append")?)?;
    for (entry, what) in [(rest.last(), "the last one before"), (Some(last), "the new one")] {
        if let Some(entry) = entry {
            let found = open().find(&entry.message.id).map_err(|e| failed(what)(&e))?;
            ensure(found == entry.next, || format!("{what} is found at {found:?}, not {:?}", entry.next))?;
        }
    }
    let tail = open().last(2).map_err(|e| failed("the last two")(&e))?.entries;
    let wanted = &after.entries[after.entries.len().saturating_sub(2)..];
    ensure(tail == wanted, || format!("the last two are {wanted:?}, and it says {tail:?}"))?;
    Ok(before.entries.len())
}

/// What is there is what was posted, in order, from the first on, and as much as was promised.
fn first_part(promise: Promise<'_>, there: &[Entry], damage: &[Damage]) -> Result<(), String> {
    let mut next = 0;
    let mut before = Cursor::START;
    for entry in there {
        let place = promise.posted[next..].iter().position(|message| *message == entry.message);
        let place = place.ok_or_else(|| format!("{entry:?} was never posted there (at {next})"))?;
        if place > 0 {
            let is_told = damage.iter().any(|damage| damage.at >= before && damage.next <= entry.at);
            ensure(promise.holes && is_told && next >= promise.kept, || {
                format!("after {next} messages {place} are missing before {entry:?}; damage: {damage:?}")
            })?;
        }
        next += place + 1;
        before = entry.next;
    }
    ensure(there.len() >= promise.kept, || {
        format!("{} messages were acknowledged as durable, and {} are there", promise.kept, there.len())
    })
}

/// No damage at or below what was promised; where holes are none, none at all. What costs no message is not counted.
fn above(promise: Promise<'_>, floor: Cursor, damage: &[Damage]) -> Result<(), String> {
    let wrong =
        damage.iter().find(|damage| damage.at != damage.next && (!promise.holes || damage.at < floor));
    ensure(wrong.is_none(), || {
        format!("damage where none may be: {wrong:?}; promised is all before {floor:?}")
    })
}

fn agrees(promise: Promise<'_>, floor: Cursor, entries: usize, report: &Report) -> Result<(), String> {
    ensure(report.entries == entries as u64, || {
        format!("{entries} messages are read, and {} are verified", report.entries)
    })?;
    above(promise, floor, &report.damage)
}
