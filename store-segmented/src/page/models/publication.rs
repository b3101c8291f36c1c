//! Publishing the end while it is read, and a publisher that dies in the middle.

use run_agent_store_shared::model::{Arc, Mutex, check, dies_after, is_alive, thread};

use super::{page, tail};
use crate::page::Ends;

#[test]
fn a_reader_sees_whole_records_and_never_goes_back() {
    // Two publications of seven words against two readings of them: all interleavings would take hours.
    check(Some(2), || {
        let page = Arc::new(page());
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

/// Words that a publication stores.
const STEPS: u32 = 8;

#[test]
fn a_publisher_that_dies_between_any_two_words_leaves_a_whole_end_and_the_next_one_goes_on() {
    for steps in 0..=STEPS {
        check(Some(2), move || {
            let page = Arc::new(page());
            let lock = Arc::new(Mutex::new(()));
            let publisher = |steps: Option<u32>| {
                let (page, lock) = (page.clone(), lock.clone());
                move || {
                    steps.into_iter().for_each(dies_after);
                    let held = lock.lock().unwrap();
                    let end = page.tail().unwrap();
                    page.publish(&tail(end.lsn + 1));
                    drop(held);
                    is_alive() || steps == Some(STEPS)
                }
            };
            let dies = thread::spawn(publisher(Some(steps)));
            let next = thread::spawn(publisher(None));
            let seen = page.tail().unwrap();
            assert_eq!(seen, tail(seen.lsn), "no mixture of two records");
            let published = [dies, next].map(|publisher| u64::from(publisher.join().unwrap()));
            assert_eq!(page.tail(), Some(tail(10 + published.iter().sum::<u64>())));
        });
    }
}
