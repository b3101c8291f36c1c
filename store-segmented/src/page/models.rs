//! The interleavings of the shared page, each of them, but where a model says otherwise:
//! `RUSTFLAGS="--cfg loom" cargo test -p run-agent-store-segmented --release --lib`.
//!
//! A lock of the system is loom's mutex here. A process that is killed is a thread that ends between two steps.

use loom::sync::Arc;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread;

use super::{Page, Tail};

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
    page.begin([1, 2], 3, &tail(10), 10);
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
                page.records[1 - usize::from(page.selector.load(Relaxed) & 1 == 1)].fill(tail(99).words(99));
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

/// What a disk holds: everything up to this was synced.
struct Disk(AtomicU64);

/// One step of a leader, as `commit` takes it; with `dies` it ends between its sync and what came of it.
fn lead(page: &Page, disk: &Disk, lock: &Mutex<()>, dies: bool) -> bool {
    let Ok(held) = lock.try_lock() else { return false };
    if page.syncing.get().is_some() {
        // A rescue: everything is written again and synced.
        let end = page.tail().unwrap().lsn;
        disk.0.fetch_max(end, Relaxed);
        page.raise_synced(end);
        page.syncing.clear();
        drop(held);
        return true;
    }
    let (from, end) = (page.synced(), page.tail().unwrap().lsn);
    page.set_syncing(from, end);
    if dies {
        // Its sync failed: nothing came to the disk.
        drop(held);
        return true;
    }
    disk.0.fetch_max(end, Relaxed);
    page.raise_synced(end);
    page.syncing.clear();
    drop(held);
    page.sync_bell.ring();
    true
}

#[test]
fn nothing_counts_as_synced_that_is_not_also_when_a_leader_dies() {
    loom::model(|| {
        let page = page();
        let disk = Arc::new(Disk(AtomicU64::new(10)));
        let lock = Arc::new(Mutex::new(()));
        let appends = {
            let page = page.clone();
            thread::spawn(move || page.publish(&tail(11)))
        };
        let dying = {
            let (page, disk, lock) = (page.clone(), disk.clone(), lock.clone());
            thread::spawn(move || lead(&page, &disk, &lock, true))
        };
        lead(&page, &disk, &lock, false);
        assert!(page.synced() <= disk.0.load(Relaxed));
        appends.join().unwrap();
        dying.join().unwrap();
        // Whoever waits still leads in the end, and covers everything.
        assert!(lead(&page, &disk, &lock, false));
        assert!(lead(&page, &disk, &lock, false));
        assert_eq!((page.synced(), disk.0.load(Relaxed)), (11, 11));
        assert!(page.syncing.get().is_none());
    });
}
