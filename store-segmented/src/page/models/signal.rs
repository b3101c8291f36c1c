//! The tail signal: nobody sleeps while there is a message for it and nobody rings. Sleeps have no limit of time here, so
//! that whoever would need one is left asleep, and the checker says so.

use std::convert::Infallible;

use run_agent_store_shared::model::{Arc, Mutex, Queue, check, dies_after, is_alive, thread};

use super::{page, tail};
use crate::page::{Ends, Page};

struct Stream {
    page: Page,
    append: Mutex<()>,
    queue: Queue,
}

impl Stream {
    fn new() -> Arc<Self> {
        Arc::new(Self { page: page(), append: Mutex::new(()), queue: Queue::default() })
    }

    /// As an append does: it wakes behind the lock.
    fn post(&self) {
        let held = self.append.lock().unwrap();
        self.page.publish(&tail(self.end() + 1));
        let rings = self.page.tail_bell.ring();
        drop(held);
        if rings {
            self.queue.wake_all();
        }
    }

    fn end(&self) -> u64 {
        self.page.tail().unwrap().lsn
    }

    /// As a follower does, until that message is there.
    fn wait_for(&self, lsn: u64) {
        while is_alive() && self.end() <= lsn {
            let there = || Ok::<_, Infallible>(self.end() > lsn);
            let sleep = |word: &_, seen| self.queue.sleep_on(word, seen);
            self.page.tail_bell.sleep_unless(there, sleep).unwrap();
        }
    }
}

#[test]
fn who_waits_is_woken_or_sees_the_message() {
    check(None, || {
        let stream = Stream::new();
        let posts = stream.clone();
        let posts = thread::spawn(move || posts.post());
        stream.wait_for(10);
        posts.join().unwrap();
    });
}

#[test]
fn two_who_wait_are_both_woken_or_see_the_message() {
    check(Some(2), || {
        let stream = Stream::new();
        let [other, posts] = [stream.clone(), stream.clone()];
        let other = thread::spawn(move || other.wait_for(10));
        let posts = thread::spawn(move || posts.post());
        stream.wait_for(10);
        other.join().unwrap();
        posts.join().unwrap();
    });
}

#[test]
fn who_was_woken_by_one_message_is_woken_by_the_next() {
    check(Some(2), || {
        let stream = Stream::new();
        let posts = [(); 2].map(|()| stream.clone()).map(|posts| thread::spawn(move || posts.post()));
        stream.wait_for(10);
        stream.wait_for(11);
        for posts in posts {
            posts.join().unwrap();
        }
    });
}

#[test]
fn a_sleeper_that_dies_at_any_step_takes_nobodys_wake_up_along() {
    for steps in 0..=2 {
        check(Some(2), move || {
            let stream = Stream::new();
            let [dies, posts] = [stream.clone(), stream.clone()];
            let dies = thread::spawn(move || {
                dies_after(steps);
                dies.wait_for(10);
            });
            let posts = thread::spawn(move || posts.post());
            stream.wait_for(10);
            dies.join().unwrap();
            posts.join().unwrap();
        });
    }
}
