//! Several runs of one process take part, each as its supervisor would: a lock belongs to an open file, not to a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use run_agent_core::layout::Layout;
use run_agent_core::testkit::MemoryStore;
use run_agent_core::{Durability, ProjectId, TaskId};

use super::*;

fn tree(root: &std::path::Path) -> Tree {
    Tree {
        layout: Layout::new(root.to_owned()),
        store: Arc::new(MemoryStore::default()),
        durability: Durability::None,
        sync_every: Duration::ZERO,
    }
}

fn slots(tree: &Tree, n: u32, max: u32) -> Slots {
    let name = TaskName {
        project: ProjectId::parse("p").unwrap(),
        task: TaskId::parse("task-20261121-093000-x").unwrap(),
    };
    let run = RunId::parse(&format!("20261121-0930001234-1-{n}")).unwrap();
    Slots::of(tree, &name, &run, max).unwrap()
}

fn ahead_of(look: Look) -> usize {
    match look {
        Look::Waits { ahead, .. } => ahead,
        other => panic!("{other:?}"),
    }
}

fn enters(slots: &mut Slots, class: Class) -> bool {
    slots.look(class).unwrap() == Look::Entered
}

fn files(tree: &Tree) -> Vec<String> {
    let folder = std::fs::read_dir(tree.layout.slots()).unwrap();
    let mut names: Vec<_> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn as_many_enter_as_there_are_slots_and_the_others_in_order() {
    let root = tempfile::tempdir().unwrap();
    let tree = tree(root.path());
    let mut all: Vec<Slots> = (1..=5).map(|n| slots(&tree, n, 2)).collect();
    assert!(enters(&mut all[0], Class::New) && enters(&mut all[1], Class::New));
    let ahead: Vec<usize> = all[2..].iter_mut().map(|s| ahead_of(s.look(Class::New).unwrap())).collect();
    assert_eq!(ahead, [0, 1, 2]);
    all[1].leave();
    assert!(!enters(&mut all[3], Class::New), "another one is ahead");
    assert!(enters(&mut all[2], Class::New));
    assert_eq!(ahead_of(all[4].look(Class::New).unwrap()), 1);
    // One that comes only now does not overtake, though a slot is free.
    all[0].leave();
    let mut late = slots(&tree, 6, 2);
    assert_eq!(ahead_of(late.look(Class::New).unwrap()), 2);
    assert!(enters(&mut all[3], Class::New));
    for slots in all.iter_mut().chain([&mut late]) {
        slots.leave();
    }
    assert_eq!(files(&tree), ["mutex", "slot-0", "slot-1"], "no ticket is left");
}

#[test]
fn one_who_comes_back_enters_before_those_who_begin() {
    let root = tempfile::tempdir().unwrap();
    let tree = tree(root.path());
    let (mut first, mut new, mut back) = (slots(&tree, 1, 1), slots(&tree, 2, 1), slots(&tree, 3, 1));
    assert!(enters(&mut first, Class::New));
    assert_eq!(ahead_of(new.look(Class::New).unwrap()), 0);
    assert_eq!(ahead_of(back.look(Class::Returning).unwrap()), 0);
    assert_eq!(ahead_of(new.look(Class::New).unwrap()), 1);
    first.leave();
    assert!(!enters(&mut new, Class::New) && enters(&mut back, Class::Returning));
}

#[test]
fn what_the_dead_held_is_free_and_their_tickets_are_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let tree = tree(root.path());
    let (mut first, mut dead, mut next) = (slots(&tree, 1, 1), slots(&tree, 2, 1), slots(&tree, 3, 1));
    assert!(enters(&mut first, Class::New));
    assert!(!enters(&mut dead, Class::New) && !enters(&mut next, Class::New));
    // What a SIGKILL does: the locks go, the files stay.
    drop(dead);
    drop(first);
    assert!(enters(&mut next, Class::New));
    assert_eq!(files(&tree), ["mutex", "slot-0"]);
}

#[test]
fn a_smaller_maximum_lets_nobody_in_until_fewer_are_at_work() {
    let root = tempfile::tempdir().unwrap();
    let tree = tree(root.path());
    let mut many: Vec<Slots> = (1..=4).map(|n| slots(&tree, n, 8)).collect();
    assert!(many.iter_mut().all(|slots| enters(slots, Class::New)));
    let (mut few, mut more) = (slots(&tree, 5, 2), slots(&tree, 6, 8));
    assert!(!enters(&mut few, Class::New));
    assert!(enters(&mut more, Class::New), "by the maximum that it knows, four are free");
    for slots in many.iter_mut().skip(1).chain([&mut more]) {
        slots.leave();
    }
    assert!(enters(&mut few, Class::New));
}

#[test]
fn a_folder_that_was_deleted_is_made_again() {
    let root = tempfile::tempdir().unwrap();
    let tree = tree(root.path());
    let (mut first, mut second, mut third) = (slots(&tree, 1, 1), slots(&tree, 2, 1), slots(&tree, 3, 1));
    assert!(enters(&mut first, Class::New) && !enters(&mut second, Class::New));
    std::fs::remove_dir_all(tree.layout.slots()).unwrap();
    assert!(enters(&mut third, Class::New), "who was at work is not counted any more");
    assert_eq!(ahead_of(second.look(Class::New).unwrap()), 0);
    third.leave();
    assert!(enters(&mut second, Class::New));
}

#[test]
fn what_is_no_file_of_ours_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let tree = tree(root.path());
    std::fs::create_dir_all(tree.layout.slots()).unwrap();
    let strange = ["slot-x", "slot-", "ticket-7-00000000000000000001", "ticket-1-x", "notes.txt"];
    for name in strange {
        std::fs::write(tree.layout.slots().join(name), "").unwrap();
    }
    let (mut one, mut two) = (slots(&tree, 1, 1), slots(&tree, 2, 1));
    assert!(enters(&mut one, Class::New) && !enters(&mut two, Class::New));
    one.leave();
    assert!(enters(&mut two, Class::New));
    assert!(strange.iter().all(|name| files(&tree).contains(&(*name).to_owned())));
}

#[test]
fn who_is_asleep_is_ahead_of_nobody_and_has_its_place_again_when_it_wakes() {
    let root = tempfile::tempdir().unwrap();
    let tree = tree(root.path());
    let mut all: Vec<Slots> = (1..=4).map(|n| slots(&tree, n, 1)).collect();
    assert!(enters(&mut all[0], Class::New));
    assert_eq!(ahead_of(all[1].look(Class::New).unwrap()), 0);
    assert_eq!(ahead_of(all[2].look(Class::New).unwrap()), 1);
    all[2].folder.put_to_sleep(Ticket { class: Class::New, number: 1 }).unwrap();
    assert_eq!(ahead_of(all[2].look(Class::New).unwrap()), 0);
    all[0].leave();
    assert!(enters(&mut all[2], Class::New), "it passes by");
    assert!(!enters(&mut all[3], Class::New) && !enters(&mut all[1], Class::New), "the limit holds");
    assert_eq!(ahead_of(all[3].look(Class::New).unwrap()), 1, "the other one is awake again");
    all[2].leave();
    assert!(!enters(&mut all[3], Class::New));
    assert!(enters(&mut all[1], Class::New));
    assert_eq!(files(&tree), ["mutex", "slot-0", "ticket-1-00000000000000000002"]);
}

#[test]
fn one_that_died_asleep_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let tree = tree(root.path());
    let mut all: Vec<Slots> = (1..=3).map(|n| slots(&tree, n, 1)).collect();
    assert!(enters(&mut all[0], Class::New));
    assert!(!enters(&mut all[1], Class::New) && !enters(&mut all[2], Class::New));
    all[2].folder.put_to_sleep(Ticket { class: Class::New, number: 1 }).unwrap();
    // The kernel frees the lock; the files stay.
    drop(std::mem::replace(&mut all[1].hold, Hold::Nothing));
    all[0].leave();
    assert!(enters(&mut all[2], Class::New));
    all[2].leave();
    assert_eq!(files(&tree), ["mutex", "slot-0"]);
}

#[test]
fn of_many_who_come_at_once_never_more_are_at_work_than_there_are_slots() {
    const MAX: u32 = 3;
    let root = tempfile::tempdir().unwrap();
    let tree = tree(root.path());
    let at_work = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for n in 1..=24 {
            let (tree, at_work) = (&tree, &at_work);
            scope.spawn(move || {
                let mut slots = slots(tree, n, MAX);
                for class in [Class::New, Class::Returning, Class::Returning] {
                    while !enters(&mut slots, class) {
                        std::thread::yield_now();
                    }
                    assert!(at_work.fetch_add(1, Ordering::SeqCst) < MAX as usize);
                    std::thread::yield_now();
                    at_work.fetch_sub(1, Ordering::SeqCst);
                    slots.leave();
                }
            });
        }
    });
    assert_eq!(files(&tree), ["mutex", "slot-0", "slot-1", "slot-2"]);
}
