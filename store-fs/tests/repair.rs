//! What a repair mends, and that it loses nothing: every message that could be read before is read afterwards.
#![allow(clippy::unwrap_used)]

mod common;

use run_agent_core::store::Damage;
use run_agent_core::{Cursor, MsgId};

use common::Bus;

/// The messages that can be read, and the damage that a check finds.
fn state(bus: &Bus) -> (Vec<MsgId>, Vec<Damage>) {
    let damage = bus.open().verify().unwrap().damage;
    let page = bus.open().read(Cursor::START, 1000).unwrap();
    (page.entries.into_iter().map(|e| e.message.id).collect(), damage)
}

/// Names beside the bus that hold bytes which were taken from it.
fn kept(bus: &Bus) -> Vec<String> {
    let names = std::fs::read_dir(bus.file.parent().unwrap()).unwrap();
    let names = names.map(|n| n.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|n| n.contains(".damaged-") || n.contains(".torn-")).collect()
}

#[test]
fn an_entry_edited_by_hand_is_sealed_again_and_its_old_bytes_are_kept() {
    let bus = Bus::with(&["one", "two is long", "three"]);
    let edited = bus.text().replace("two is long", "two was long");
    std::fs::write(&bus.file, &edited).unwrap();
    let (before, damage) = state(&bus);
    assert_eq!((before.len(), damage.len()), (2, 1), "{damage:?}");
    let mended = bus.open().repair().unwrap();
    assert!(mended.iter().any(|m| m.what.starts_with("sealed again")), "{mended:?}");
    let (after, damage) = state(&bus);
    assert_eq!((after.len(), damage), (3, vec![]));
    assert_eq!(bus.bodies(), ["one", "two was long", "three"]);
    let old = std::fs::read_to_string(bus.file.with_file_name(&kept(&bus)[0])).unwrap();
    assert!(
        old.starts_with("---\nmsg_id") && old.contains("\ntwo was long\n") && edited.contains(&old),
        "{old}"
    );
    assert_eq!(bus.open().repair().unwrap(), [], "a second one finds nothing to do");
    assert!(bus.post("four").message.id > after[2]);
}

#[test]
fn a_bus_that_was_cut_at_any_byte_is_whole_after_a_repair() {
    let whole = Bus::with(&["one", "two"]);
    let text = whole.text();
    for cut in 1..text.len() {
        let bus = Bus::with(&["one", "two"]);
        let text = bus.text();
        if cut >= text.len() {
            // The digits of a time make one bus a little shorter than another.
            break;
        }
        std::fs::File::options().write(true).open(&bus.file).unwrap().set_len(cut as u64).unwrap();
        let (before, damage) = state(&bus);
        assert!(!damage.is_empty(), "cut at {cut}: a shorter file is noticed");
        bus.open().repair().unwrap();
        let (after, damage) = state(&bus);
        assert_eq!(after, before, "cut at {cut}");
        // Some dashes alone are no entry's beginning for sure: they stay, as damage.
        let dashes =
            text[..cut].rsplit('\n').next().is_some_and(|last| !last.is_empty() && "---".starts_with(last));
        assert!(dashes || damage.is_empty(), "cut at {cut}: {damage:?}");
        let rest: usize = kept(&bus)
            .iter()
            .map(|name| std::fs::metadata(bus.file.with_file_name(name)).unwrap().len() as usize)
            .sum();
        let left = std::fs::read_to_string(&bus.file).unwrap();
        assert!(
            left.len() + rest >= cut && text.starts_with(left.trim_end()),
            "cut at {cut}: nothing is thrown away"
        );
        assert!(after.last().is_none_or(|last| bus.post("more").message.id > *last), "cut at {cut}");
    }
}

#[test]
fn a_flipped_byte_costs_no_other_message_and_nothing_is_thrown_away() {
    let len = Bus::with(&["one", "two", "three"]).text().len();
    for at in (0..len).step_by(3) {
        let bus = Bus::with(&["one", "two", "three"]);
        let mut bytes = std::fs::read(&bus.file).unwrap();
        if at >= bytes.len() {
            continue;
        }
        bytes[at] ^= 1;
        std::fs::write(&bus.file, &bytes).unwrap();
        let (before, damage) = state(&bus);
        bus.open().repair().unwrap();
        let (after, left) = state(&bus);
        assert!(before.iter().all(|id| after.contains(id)), "byte {at}: {before:?} {after:?}");
        assert!(left.len() <= damage.len(), "byte {at}: {damage:?} {left:?}");
        let now = std::fs::read(&bus.file).unwrap();
        let kept = kept(&bus);
        assert!(now == bytes || !kept.is_empty(), "byte {at}: what was changed is kept");
    }
}

#[test]
fn text_that_is_no_entry_is_moved_aside_wherever_it_stands() {
    for (what, entries_before) in [("half an entr", 3), ("a note\n", 3), ("a note\nof two lines\n", 1)] {
        let bus = Bus::with(&["one", "two", "three"]);
        let whole = bus.text();
        let begins = whole.match_indices("---\nmsg_id").nth(entries_before);
        let at = begins.map_or(whole.len(), |(at, _)| at);
        let mut text = whole.clone();
        text.insert_str(at, what);
        std::fs::write(&bus.file, &text).unwrap();
        assert_eq!(state(&bus).1.len(), 1, "{what:?} at {at} is told");
        bus.open().repair().unwrap();
        let (after, damage) = state(&bus);
        assert_eq!((after.len(), damage, bus.text()), (3, vec![], whole), "{what:?} at {at}");
        let aside = std::fs::read_to_string(bus.file.with_file_name(&kept(&bus)[0])).unwrap();
        assert_eq!(aside.trim_end(), what.trim_end(), "and kept");
        assert_eq!(bus.open().repair().unwrap(), [], "a second one finds nothing to do");
    }
}

#[test]
fn a_damaged_header_is_left_to_a_person() {
    let bus = Bus::with(&["one", "two", "three"]);
    let text = bus.text().replacen("msg_id: ", "msg_id; ", 1);
    std::fs::write(&bus.file, &text).unwrap();
    let before = state(&bus);
    assert_eq!((before.0.len(), before.1.len()), (2, 1));
    bus.open().repair().unwrap();
    assert_eq!((state(&bus), bus.text()), (before, text));
}

#[test]
fn an_entry_whose_id_was_moved_out_of_order_is_left_to_a_person() {
    let bus = Bus::with(&["one", "two", "three"]);
    let id = state(&bus).0[1].to_string();
    let text = bus.text().replace(&id, &id.replace("MSG-20", "MSG-29"));
    std::fs::write(&bus.file, &text).unwrap();
    bus.open().repair().unwrap();
    assert_eq!((state(&bus).1.len(), bus.text()), (1, text));
}

#[test]
fn a_rescue_file_of_a_dead_writer_is_removed_when_the_stream_holds_all_of_it_and_else_kept() {
    let bus = Bus::with(&["one", "two"]);
    let rescue = bus.file.with_extension("00000000000000000000.rescue");
    std::fs::copy(&bus.file, &rescue).unwrap();
    assert_eq!(state(&bus).1.len(), 1);
    bus.open().repair().unwrap();
    assert_eq!((state(&bus).1, kept(&bus).len(), rescue.exists()), (vec![], 0, false));
    let other = Bus::with(&["of another time"]);
    std::fs::copy(&other.file, &rescue).unwrap();
    bus.open().repair().unwrap();
    assert_eq!((state(&bus).1, kept(&bus).len(), bus.bodies().len()), (vec![], 1, 2));
}
