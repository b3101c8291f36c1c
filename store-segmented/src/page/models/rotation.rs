//! Rotation, and segments that are written again after a failed sync: readers and other writers meanwhile, and a writer
//! that dies between any two steps of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use jiff::Timestamp;
use run_agent_store_shared::model::{Arc, AtomicU64, Mutex, check, dies_after, is_alive, step, thread};

use crate::page::{Ends, MAGIC, Page, Set, Tail};

/// Frames that fit into a segment.
const FULL: u64 = 2;
/// What a writer that dies while it seals or appends leaves behind the end.
const SEAL: u64 = 99;
/// Files that a model makes at the most, and the places of one.
const FILES: usize = 5;
const PLACES: usize = 4;

/// A stream whose messages are their own numbers, in frames that begin at 0, 1, 2 …
struct Stream {
    /// The page that its path names.
    ctl: Mutex<Arc<Page>>,
    append: Mutex<()>,
    /// The segments that have a name: the number of the file, from 1 on, by base.
    names: [AtomicU64; 5],
    made: AtomicU64,
    /// The frames: number of the message + 1, by file and place.
    frames: [[AtomicU64; PLACES]; FILES],
    /// How many pages were made.
    pages: AtomicU64,
}

/// What a process keeps open.
#[derive(Default)]
struct Handle {
    of: Cell<Option<Set>>,
    bases: Cell<Vec<u64>>,
    /// Bases and files that it reads.
    open: RefCell<BTreeMap<u64, u64>>,
    /// Base and file that it wrote to.
    active: Cell<Option<(Set, u64, u64)>>,
}

fn tail(base: u64, offset: u64, lsn: u64) -> Tail {
    Tail { base, offset, lsn, ts: Timestamp::UNIX_EPOCH }
}

fn index(n: u64) -> usize {
    usize::try_from(n).unwrap()
}

impl Stream {
    /// With two messages, which fill its segment.
    fn new() -> Arc<Self> {
        let stream = Self {
            ctl: Mutex::new(Arc::new(Page::default())),
            append: Mutex::new(()),
            names: Default::default(),
            made: AtomicU64::new(0),
            frames: Default::default(),
            pages: AtomicU64::new(0),
        };
        stream.link(0, stream.file(&[0, 1]));
        *stream.ctl.lock().unwrap() = stream.page(&tail(0, 2, 2));
        Arc::new(stream)
    }

    fn page(&self, tail: &Tail) -> Arc<Page> {
        let page = Page::default();
        page.begin(MAGIC, [1, 2], 3, 0);
        page.generation.store(10 * self.pages.fetch_add(1, Relaxed), Relaxed);
        page.publish(tail);
        Arc::new(page)
    }

    /// A new file with these messages, without a name.
    fn file(&self, messages: &[u64]) -> u64 {
        let file = self.made.fetch_add(1, Relaxed);
        for (place, lsn) in messages.iter().enumerate() {
            self.frames[index(file)][place].store(lsn + 1, Relaxed);
        }
        file
    }

    fn link(&self, base: u64, file: u64) {
        // What the system did before it gave the name, whoever finds the name finds done.
        self.names[index(base)].swap(file + 1, SeqCst);
    }

    /// The file that a name names now.
    fn open(&self, base: u64) -> Option<u64> {
        self.names[index(base)].now().checked_sub(1)
    }

    fn list(&self) -> Vec<u64> {
        (0..).zip(&self.names).filter(|(_, name)| name.now() > 0).map(|(base, _)| base).collect()
    }

    fn frame(&self, file: u64, place: u64) -> u64 {
        self.frames[index(file)][index(place)].load(Relaxed)
    }

    /// Where the last segment ends, and whether it is sealed.
    fn survey(&self) -> (Tail, bool) {
        let base = *self.list().last().unwrap();
        let file = self.open(base).unwrap();
        let count = (0..PLACES as u64)
            .take_while(|place| self.frame(file, *place) == base + place + 1)
            .count() as u64;
        (tail(base, count, base + count), self.frame(file, count) == SEAL)
    }

    /// The page, whole, for who holds the append lock. True when it had to be made anew.
    fn whole_page(&self) -> (Arc<Page>, bool) {
        let mut ctl = self.ctl.lock().unwrap();
        if ctl.is_whole() {
            return (ctl.clone(), false);
        }
        let (mut end, sealed) = self.survey();
        if sealed {
            end = tail(end.lsn, 0, end.lsn);
            self.link(end.base, self.file(&[]));
        }
        let new = self.page(&end);
        if step() {
            *ctl = new.clone();
        }
        (new, true)
    }

    /// One message. Its number, and whether the page had to be made anew.
    fn append(&self, handle: &Handle) -> (u64, bool) {
        let held = self.append.lock().unwrap();
        let (page, recovered) = self.whole_page();
        let mut end = page.tail().unwrap();
        if end.offset >= FULL {
            self.write(handle, &page, &end, SEAL);
            let link = || {
                self.link(end.lsn, self.file(&[]));
                Ok::<_, Infallible>(tail(end.lsn, 0, end.lsn))
            };
            end = page.change_segments(link, || {}).unwrap();
        }
        self.write(handle, &page, &end, end.lsn + 1);
        page.publish(&tail(end.base, end.offset + 1, end.lsn + 1));
        drop(held);
        (end.lsn, recovered)
    }

    fn write(&self, handle: &Handle, page: &Page, end: &Tail, frame: u64) {
        let set = page.set();
        let file = match handle.active.get() {
            Some((of, base, file)) if of == set && base == end.base => file,
            Some(_) | None => match self.open(end.base) {
                Some(file) => file,
                None => return assert!(!is_alive(), "it published what has no name"),
            },
        };
        handle.active.set(Some((set, end.base, file)));
        self.frames[index(file)][index(end.offset)].store(frame, Relaxed);
    }

    /// The last segment is written again into a file of its own, as after a failed sync.
    fn write_again(&self) {
        let held = self.append.lock().unwrap();
        let (page, _) = self.whole_page();
        let end = page.tail().unwrap();
        let copy = self.file(&(end.base..end.lsn).collect::<Vec<_>>());
        let replace = || {
            self.link(end.base, copy);
            Ok::<_, Infallible>(end)
        };
        page.change_segments(replace, || {}).unwrap();
        drop(held);
    }

    /// Everything that a reader sees, which waits for nobody.
    fn read(&self, handle: &Handle) -> Vec<u64> {
        let page = self.ctl.lock().unwrap().clone();
        let list = |set: Set| {
            let known = handle.bases.take();
            let bases = if handle.of.get() == Some(set) {
                known
            } else {
                handle.open.borrow_mut().clear();
                self.list()
            };
            handle.of.set(Some(set));
            handle.bases.set(bases.clone());
            Ok::<_, Infallible>(bases)
        };
        let (bases, end) = page.look(list).unwrap().unwrap_or_else(|| {
            handle.of.set(None);
            handle.open.borrow_mut().clear();
            let found = (self.list(), self.survey().0);
            page.look(list).unwrap().unwrap_or(found)
        });
        let mut read = Vec::new();
        for (n, base) in bases.iter().enumerate().take_while(|(_, base)| **base <= end.base) {
            let until = if *base == end.base { end.lsn } else { bases[n + 1].min(end.lsn) };
            let file = *handle.open.borrow_mut().entry(*base).or_insert_with(|| self.open(*base).unwrap());
            read.extend((*base..until).map(|lsn| self.frame(file, lsn - base)));
        }
        read
    }

    fn shows(&self, handle: &Handle, at_least: u64) -> u64 {
        let read = self.read(handle);
        assert!(read.iter().copied().eq(1..=read.len() as u64), "{read:?} are not the first messages");
        assert!(read.len() as u64 >= at_least, "only {read:?} of {at_least}");
        read.len() as u64
    }
}

#[test]
fn a_reader_sees_every_message_in_its_segment_while_it_rotates() {
    check(Some(2), || {
        let stream = Stream::new();
        let writer = stream.clone();
        let writer = thread::spawn(move || writer.append(&Handle::default()));
        let handle = Handle::default();
        let seen = stream.shows(&handle, 2);
        stream.shows(&handle, seen);
        assert_eq!(writer.join().unwrap(), (2, false));
        stream.shows(&handle, 3);
    });
}

#[test]
fn two_writers_rotate_once_and_each_finds_where_the_other_ended() {
    check(Some(2), || {
        let stream = Stream::new();
        let other = stream.clone();
        let other = thread::spawn(move || other.append(&Handle::default()));
        let mine = stream.append(&Handle::default());
        let theirs = other.join().unwrap();
        assert!(mine == (2, false) && theirs == (3, false) || mine == (3, false) && theirs == (2, false));
        assert_eq!(stream.list(), [0, 2]);
        stream.shows(&Handle::default(), 4);
    });
}

/// More steps than a rotation and an append have.
const STEPS: u32 = 26;

/// Plays `dying` killed behind each of its steps, against a reader and a writer that comes next.
fn killed_at_each_step(dying: fn(&Stream), steps: u32) {
    for at in 0..=steps {
        check(Some(1), move || {
            let stream = Stream::new();
            let handle = Handle::default();
            let seen = stream.shows(&handle, 2);
            let dies = stream.clone();
            let dies = thread::spawn(move || {
                dies_after(at);
                dying(&dies);
                is_alive()
            });
            let seen = stream.shows(&handle, seen);
            let next = stream.clone();
            let next = thread::spawn(move || next.append(&Handle::default()));
            let seen = stream.shows(&handle, seen);
            let lived = dies.join().unwrap();
            assert!(at < steps || lived, "it has more than {steps} steps");
            let (lsn, recovered) = next.join().unwrap();
            assert!(!(lived && recovered), "nobody died");
            stream.shows(&handle, seen.max(lsn + 1));
            // Whoever comes then finds a page that is whole, and that tells of the names there are.
            let again = stream.append(&Handle::default());
            let last = again.0;
            stream.shows(&handle, last + 1);
            let page = stream.ctl.lock().unwrap().clone();
            assert!(page.is_whole() && page.tail().unwrap().base == *stream.list().last().unwrap());
        });
    }
}

#[test]
fn a_writer_that_dies_at_any_step_of_a_rotation_is_made_good_by_the_next() {
    killed_at_each_step(
        |stream| {
            let _ = stream.append(&Handle::default());
        },
        STEPS,
    );
}

#[test]
fn a_writer_that_dies_at_any_step_of_writing_again_is_made_good_by_the_next() {
    killed_at_each_step(Stream::write_again, STEPS);
}

#[test]
fn a_page_that_does_not_tell_of_the_last_segment_is_made_anew() {
    for at in 0..=STEPS {
        check(Some(1), move || {
            let stream = Stream::new();
            let dies = stream.clone();
            let changing = thread::spawn(move || {
                dies_after(at);
                let _ = dies.append(&Handle::default());
                is_alive()
            });
            let lived = changing.join().unwrap();
            // Where it died, as the page and the folder tell.
            let end = stream.ctl.lock().unwrap().tail().unwrap();
            let behind = *stream.list().last().unwrap() != end.base;
            let (_, recovered) = stream.append(&Handle::default());
            assert!(recovered || !behind, "the page did not tell of the last segment");
            assert!(!(recovered && lived), "nobody died");
            let fresh = Handle::default();
            stream.shows(&fresh, 3);
        });
    }
}

#[test]
fn who_has_a_segment_open_that_was_written_again_writes_to_the_new_one() {
    for at in 0..=STEPS {
        check(Some(1), move || {
            let stream = Stream::new();
            let (writer, reader) = (Handle::default(), Handle::default());
            // It begins a segment, keeps it open, and one message more has room there.
            let (lsn, _) = stream.append(&writer);
            stream.shows(&reader, lsn + 1);
            let dies = stream.clone();
            let dies = thread::spawn(move || {
                dies_after(at);
                dies.write_again();
            });
            let (lsn, _) = stream.append(&writer);
            stream.shows(&reader, lsn + 1);
            dies.join().unwrap();
            let (lsn, _) = stream.append(&writer);
            stream.shows(&reader, lsn + 1);
        });
    }
}
