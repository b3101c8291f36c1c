//! The interleavings of publishing the end, each of them, but where a model says otherwise:
//! `RUSTFLAGS="--cfg loom" cargo test -p run-agent-store-segmented --release --lib`.
//!
//! A lock of the system is loom's mutex here. A process that is killed is a thread that ends between two steps.

use loom::sync::Arc;
use loom::sync::Mutex;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

use super::{Ends, MAGIC, Page, SELECTOR, Tail, fill, record_of};

fn tail(lsn: u64) -> Tail {
    // All fields follow from one, so that a mixture of two records shows.
    Tail {
        base: lsn + 1,
        offset: lsn + 2,
        lsn,
        ts: jiff::Timestamp::from_nanosecond(i128::from(lsn)).unwrap(),
    }
}

fn page() -> Arc<Page> {
    let page = Page::default();
    page.begin(MAGIC, [1, 2], 3, 10);
    page.publish(&tail(10));
    Arc::new(page)
}

#[test]
fn a_reader_sees_whole_records_and_never_goes_back() {
    // Two publications of seven words against two readings of them: all interleavings would take hours.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let page = page();
        let writer = {
            let page = page.clone();
            thread::spawn(move || {
                page.publish(&tail(11));
                page.publish(&tail(12));
            })
        };
        let (first, second) = (page.tail().unwrap(), page.tail().unwrap());
        assert_eq!((first, second), (tail(first.lsn), tail(second.lsn)), "no mixture of two records");
        assert!(first.lsn <= second.lsn);
        writer.join().unwrap();
        assert_eq!(page.tail(), Some(tail(12)));
    });
}

#[test]
fn a_publisher_that_dies_in_the_middle_leaves_the_old_end_and_the_next_one_goes_on() {
    loom::model(|| {
        let page = page();
        let lock = Arc::new(Mutex::new(()));
        let dies = {
            let (page, lock) = (page.clone(), lock.clone());
            thread::spawn(move || {
                let held = lock.lock().unwrap();
                // The first half of a publication.
                let idle = record_of(page.own[SELECTOR].load(Relaxed) + 1);
                fill(&page.own[idle..], tail(99).words(99));
                drop(held);
            })
        };
        let next = {
            let (page, lock) = (page.clone(), lock.clone());
            thread::spawn(move || {
                let held = lock.lock().unwrap();
                let end = page.tail().unwrap();
                page.publish(&tail(end.lsn + 1));
                drop(held);
            })
        };
        let seen = page.tail().unwrap();
        assert!(seen == tail(10) || seen == tail(11), "{seen:?}");
        dies.join().unwrap();
        next.join().unwrap();
        assert_eq!(page.tail(), Some(tail(11)));
    });
}

#[test]
fn who_said_that_it_sleeps_is_woken_or_sees_the_change() {
    loom::model(|| {
        let page = page();
        let writer = {
            let page = page.clone();
            thread::spawn(move || {
                page.publish(&tail(11));
                page.tail_bell.ring()
            })
        };
        let epoch = page.tail_bell.about_to_sleep();
        let seen = page.tail().unwrap();
        let rang = writer.join().unwrap();
        // The system sleeps only while the word is what the sleeper saw.
        let would_sleep = seen.lsn == 10 && page.tail_bell.epoch.load(Relaxed) == epoch;
        assert!(!would_sleep || rang, "it would sleep and nobody rings");
    });
}

#[test]
fn two_sleepers_are_both_woken_or_see_the_change() {
    loom::model(|| {
        let page = page();
        let sleeper = |page: Arc<Page>| {
            move || {
                let epoch = page.tail_bell.about_to_sleep();
                (epoch, page.tail().unwrap().lsn)
            }
        };
        let other = thread::spawn(sleeper(page.clone()));
        let writer = {
            let page = page.clone();
            thread::spawn(move || {
                page.publish(&tail(11));
                page.tail_bell.ring()
            })
        };
        let mine = sleeper(page.clone())();
        let theirs = other.join().unwrap();
        let rang = writer.join().unwrap();
        for (epoch, lsn) in [mine, theirs] {
            let would_sleep = lsn == 10 && page.tail_bell.epoch.load(Relaxed) == epoch;
            assert!(!would_sleep || rang);
        }
    });
}
