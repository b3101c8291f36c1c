//! The interleavings of leaders, lone appenders and what dies among them:
//! `RUSTFLAGS="--cfg loom" cargo test -p run-agent-store-shared --release --lib`.
//!
//! What locks and death are to them: [`crate::model`].

use std::io;

use super::{Failed, Log, lead, sync_lone};
use crate::model::{Arc, Mutex, check, thread};
use crate::page::{Page, Syncs, UnderWay};
use crate::sync::AtomicU64;
use crate::sync::Ordering::{Relaxed, SeqCst};

/// A stream, whose own word of the page tells where it ends.
struct Stream {
    page: Page<1>,
    leaders: Mutex<()>,
    append: Mutex<()>,
    /// Everything up to this is on the disk.
    disk: AtomicU64,
    /// Counts the syncs that failed. A file that was opened before is told so; one that was opened behind it is not, and
    /// its syncs succeed and write nothing.
    lost: AtomicU64,
}

#[derive(Debug)]
struct Died;

/// Who acts on it.
#[derive(Clone)]
struct Process {
    stream: Arc<Stream>,
    dies: bool,
}

fn two() -> (Process, Process) {
    let page = Page::default();
    page.begin(1, [1, 2], 3, 10);
    page.own[0].store(11, Relaxed);
    let (disk, lost) = (AtomicU64::new(10), AtomicU64::new(0));
    let stream = Arc::new(Stream { page, leaders: Mutex::new(()), append: Mutex::new(()), disk, lost });
    (Process { stream: stream.clone(), dies: true }, Process { stream, dies: false })
}

impl Process {
    fn end(&self) -> u64 {
        self.stream.page.own[0].load(Relaxed)
    }

    fn append(&self) {
        let held = self.stream.append.lock().unwrap();
        self.stream.page.own[0].store(self.end() + 1, Relaxed);
        drop(held);
    }

    /// One try to lead.
    fn leads(&self, end: u64) -> bool {
        let mut led = Ok(());
        let ran = self.lead_alone(&self.stream, || led = lead(self, &self.stream, end)).unwrap();
        ran && led.is_ok()
    }

    /// With the append lock held, as a store does: what a dead holder left comes first.
    fn syncs_alone(&self) -> Result<(), Died> {
        let syncs = &self.stream.page.syncs;
        if let Some(left) = syncs.lone.get() {
            return self.write_again(left.from);
        }
        let (files, end) = self.files(&self.stream)?;
        sync_lone(self, &self.stream, &files, end).or_else(|failed| self.write_again(failed.from))
    }

    fn write_again(&self, from: u64) -> Result<(), Died> {
        if self.dies {
            return Err(Died);
        }
        let (stream, end) = (&self.stream, self.end());
        stream.disk.fetch_max(end, SeqCst);
        stream.page.syncs.rescued(from, end);
        stream.page.syncs.syncing.clear();
        stream.page.syncs.lone.clear();
        Ok(())
    }

    fn nothing_is_promised_that_is_not_there(&self) {
        let synced = self.stream.page.syncs.synced();
        assert!(synced <= self.stream.disk.now(), "{synced} is not on the disk");
    }

    /// Whoever waits still leads in the end, and covers everything.
    fn comes_to_an_end(&self) {
        let end = self.end();
        for _ in 0..3 {
            assert!(self.leads(end));
        }
        self.nothing_is_promised_that_is_not_there();
        let syncs = &self.stream.page.syncs;
        assert_eq!((syncs.synced(), syncs.syncing.get()), (end, None));
    }
}

impl Log for Process {
    type Page = Arc<Stream>;
    /// With how many failures there had been when they were opened.
    type Files = (u64, UnderWay);
    type Error = Died;

    fn page(&self) -> Result<Option<Arc<Stream>>, Died> {
        Ok(Some(self.stream.clone()))
    }

    fn syncs(page: &Arc<Stream>) -> &Syncs {
        &page.page.syncs
    }

    fn lead_alone(&self, _: &Arc<Stream>, lead: impl FnOnce()) -> Result<bool, Died> {
        let Ok(held) = self.stream.leaders.try_lock() else { return Ok(false) };
        lead();
        drop(held);
        Ok(true)
    }

    fn wanted(&self, _: &Arc<Stream>) -> u64 {
        self.end()
    }

    /// Opened at this moment: the worst there is.
    fn files(&self, page: &Arc<Stream>) -> Result<((u64, UnderWay), u64), Died> {
        let lost = page.lost.now();
        Ok(((lost, page.page.syncs.under_way()), self.end()))
    }

    fn under_way(files: &(u64, UnderWay)) -> UnderWay {
        files.1
    }

    fn sync(&self, files: &(u64, UnderWay), _: u64) -> io::Result<()> {
        let stream = &self.stream;
        if self.dies {
            stream.lost.fetch_add(1, SeqCst);
        }
        match stream.lost.now() {
            0 => {
                stream.disk.fetch_max(self.end(), SeqCst);
                Ok(())
            }
            lost if lost > files.0 => Err(io::ErrorKind::Other.into()),
            _ => Ok(()),
        }
    }

    fn rescue(&self, failed: &Failed) -> Result<(), Died> {
        let held = self.stream.append.lock().unwrap();
        let rescued = if self.stream.page.syncs.was_rescued(failed.from, failed.to) {
            Ok(())
        } else {
            self.write_again(failed.from)
        };
        drop(held);
        rescued
    }

    fn alone(&self, _: u64) -> Result<(), Died> {
        let held = self.stream.append.lock().unwrap();
        let synced = self.syncs_alone();
        drop(held);
        synced
    }
}

#[test]
fn a_leader_that_dies_between_the_failure_and_its_next_step_leaves_nothing_acknowledged() {
    check(None, || {
        let (dying, lives) = two();
        let dying = thread::spawn(move || dying.leads(11));
        lives.leads(11);
        lives.nothing_is_promised_that_is_not_there();
        dying.join().unwrap();
        lives.comes_to_an_end();
    });
}

#[test]
fn what_is_appended_while_a_leader_syncs_is_promised_nothing_before_it_is_synced() {
    check(None, || {
        let (_, lives) = two();
        let appends = lives.clone();
        let appends = thread::spawn(move || appends.append());
        lives.leads(11);
        lives.nothing_is_promised_that_is_not_there();
        appends.join().unwrap();
        lives.comes_to_an_end();
    });
}

#[test]
fn who_syncs_alone_trusts_no_leader_that_dies_meanwhile() {
    check(Some(3), || {
        let (dying, lives) = two();
        let dying = thread::spawn(move || dying.leads(11));
        lives.alone(11).unwrap();
        lives.nothing_is_promised_that_is_not_there();
        dying.join().unwrap();
        lives.comes_to_an_end();
    });
}

#[test]
fn a_leader_trusts_no_lone_sync_that_dies_meanwhile() {
    check(Some(3), || {
        let (dying, lives) = two();
        let dying = thread::spawn(move || dying.alone(11).is_ok());
        lives.leads(11);
        lives.nothing_is_promised_that_is_not_there();
        assert!(!dying.join().unwrap());
        // Who holds the append lock next makes it good.
        lives.alone(11).unwrap();
        lives.comes_to_an_end();
    });
}

#[test]
fn who_said_that_it_sleeps_is_woken_or_sees_what_was_synced() {
    check(None, || {
        let (_, lives) = two();
        let leader = lives.clone();
        let leader = thread::spawn(move || {
            leader.leads(11);
            leader.stream.page.syncs.bell.ring()
        });
        let syncs = &lives.stream.page.syncs;
        let epoch = syncs.bell.about_to_sleep();
        let synced = syncs.synced();
        let rang = leader.join().unwrap();
        // The system sleeps only while the word is what the sleeper saw.
        let would_sleep = synced < 11 && syncs.bell.epoch.load(Relaxed) == epoch;
        assert!(!would_sleep || rang, "it would sleep and nobody rings");
    });
}
