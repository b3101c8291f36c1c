//! Many at once, at random: appenders that ask for syncs and for none, leaders, a reader, rotation, syncs that fail, and
//! processes that die at any step. The page, the protocol of syncs and its waits are the real ones; the folder and its
//! files are of this model.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

use jiff::Timestamp;
use run_agent_store_shared::commit::{Failed, Log, sync_lone};
use run_agent_store_shared::model::{Arc, Mutex, check_at_random, dies_after, is_alive, step, thread};
use run_agent_store_shared::page::{Syncs, UnderWay};
use run_agent_store_shared::wait::ensure_synced;
use shuttle::rand::{Rng, thread_rng};

use crate::page::{Ends, MAGIC, Page, Tail};

/// Frames that fit into a segment.
const FULL: u64 = 3;
const SEAL: u64 = u64::MAX;

#[derive(Default)]
struct File {
    /// Each frame, a number that comes once, and whether it is on the disk.
    frames: Vec<(u64, bool)>,
    /// Frames before this are clean for the system, whether they came to the disk or not.
    clean: usize,
    /// Syncs that failed. Who opened the file before is told.
    failures: u64,
}

#[derive(Default)]
struct Folder {
    names: BTreeMap<u64, usize>,
    files: Vec<File>,
}

struct Shared {
    ctl: Mutex<Arc<Page>>,
    append: Mutex<()>,
    leaders: Mutex<()>,
    folder: Mutex<Folder>,
    pages: std::sync::atomic::AtomicU64,
}

#[derive(Clone)]
struct Process(Arc<Shared>);

/// A file that was opened.
#[derive(Clone, Copy)]
struct Open {
    file: usize,
    failures: u64,
    under_way: UnderWay,
}

#[derive(Debug)]
struct Dead;

fn tail(base: u64, offset: u64, lsn: u64) -> Tail {
    Tail { base, offset, lsn, ts: Timestamp::UNIX_EPOCH }
}

fn index(n: u64) -> usize {
    usize::try_from(n).unwrap()
}

impl Folder {
    fn make(&mut self, frames: Vec<u64>) -> usize {
        let clean = frames.len();
        let frames = frames.into_iter().map(|frame| (frame, true)).collect();
        self.files.push(File { frames, clean, failures: 0 });
        self.files.len() - 1
    }

    /// The message, and whether it is on the disk, as a reader of this end finds it.
    fn message(&self, end: &Tail, lsn: u64) -> Option<(u64, bool)> {
        let (base, file) = self.names.range(..=lsn.min(end.base)).next_back()?;
        self.files[*file].frames.get(index(lsn - base)).copied().filter(|(frame, _)| *frame != SEAL)
    }
}

impl Process {
    fn new() -> Self {
        let mut folder = Folder::default();
        let file = folder.make(Vec::new());
        folder.names.insert(0, file);
        let shared = Shared {
            ctl: Mutex::new(Arc::new(Page::default())),
            append: Mutex::new(()),
            leaders: Mutex::new(()),
            folder: Mutex::new(folder),
            pages: std::sync::atomic::AtomicU64::new(0),
        };
        let process = Self(Arc::new(shared));
        *process.0.ctl.lock().unwrap() = process.new_page(&tail(0, 0, 0), 0, false);
        process
    }

    fn new_page(&self, end: &Tail, synced: u64, doubt: bool) -> Arc<Page> {
        let page = Page::default();
        page.begin(MAGIC, [1, 2], 3, synced);
        page.generation.store(1000 * self.0.pages.fetch_add(1, Relaxed), Relaxed);
        page.publish(end);
        if doubt {
            page.syncs.set_syncing(synced, end.lsn);
        }
        Arc::new(page)
    }

    fn control(&self) -> Arc<Page> {
        self.0.ctl.lock().unwrap().clone()
    }

    /// Changes the folder, unless this process is dead.
    fn act(&self, act: impl FnOnce(&mut Folder)) -> Result<(), Dead> {
        let mut folder = self.0.folder.lock().unwrap();
        if !step() {
            return Err(Dead);
        }
        act(&mut folder);
        Ok(())
    }

    fn with_lock<T>(&self, act: impl FnOnce(&Arc<Page>) -> Result<T, Dead>) -> Result<T, Dead> {
        let held = self.0.append.lock().unwrap();
        let result = self.whole_page().and_then(|page| act(&page));
        drop(held);
        if is_alive() { result } else { Err(Dead) }
    }

    fn whole_page(&self) -> Result<Arc<Page>, Dead> {
        let mut page = self.control();
        if !page.is_whole() {
            page = self.recover(&page)?;
        }
        match page.syncs.lone.get() {
            Some(left) => self.write_again(&page, left.from).map(|()| page),
            None => Ok(page),
        }
    }

    /// By what the last segment holds.
    fn recover(&self, old: &Page) -> Result<Arc<Page>, Dead> {
        let (end, sealed) = {
            let folder = self.0.folder.lock().unwrap();
            let (base, file) = folder.names.last_key_value().unwrap();
            let frames = &folder.files[*file].frames;
            let count = frames.iter().take_while(|(frame, _)| *frame != SEAL).count() as u64;
            (tail(*base, count, base + count), count < frames.len() as u64)
        };
        let mut goes_on = end;
        if sealed {
            goes_on = tail(end.lsn, 0, end.lsn);
            self.act(|folder| {
                let file = folder.make(Vec::new());
                folder.names.insert(end.lsn, file);
            })?;
        }
        let synced = old.syncs.synced().max(end.base).min(end.lsn);
        let new = self.new_page(&goes_on, synced, synced < end.lsn);
        let mut ctl = self.0.ctl.lock().unwrap();
        if !step() {
            return Err(Dead);
        }
        *ctl = new.clone();
        Ok(new)
    }

    fn open(&self, page: &Page, base: u64) -> Result<Open, Dead> {
        let folder = self.0.folder.lock().unwrap();
        let file = *folder.names.get(&base).ok_or(Dead)?;
        Ok(Open { file, failures: folder.files[file].failures, under_way: page.syncs.under_way() })
    }

    /// A message, acknowledged when this returns.
    fn append(&self, frame: u64, synced: bool) -> Result<u64, Dead> {
        let end = self.with_lock(|page| {
            let mut end = page.tail().unwrap();
            if end.offset >= FULL {
                end = self.rotate(page, &end)?;
            }
            let open = self.open(page, end.base)?;
            self.write(open, end.offset, frame)?;
            let next = tail(end.base, end.offset + 1, end.lsn + 1);
            page.publish(&next);
            Ok(next.lsn)
        })?;
        if synced {
            ensure_synced(self, end)?;
        }
        if is_alive() { Ok(end - 1) } else { Err(Dead) }
    }

    fn write(&self, open: Open, offset: u64, frame: u64) -> Result<(), Dead> {
        self.act(|folder| {
            let file = &mut folder.files[open.file];
            file.frames.truncate(index(offset));
            file.clean = file.clean.min(index(offset));
            file.frames.push((frame, false));
        })
    }

    fn rotate(&self, page: &Arc<Page>, end: &Tail) -> Result<Tail, Dead> {
        let open = self.open(page, end.base)?;
        self.write(open, end.offset, SEAL)?;
        if let Err(failed) = sync_lone(self, page, &open, end.lsn) {
            self.write_again(page, failed.from)?;
            return Ok(page.tail().unwrap());
        }
        let link = || {
            self.act(|folder| {
                let file = folder.make(Vec::new());
                folder.names.insert(end.lsn, file);
            })?;
            Ok(tail(end.lsn, 0, end.lsn))
        };
        page.change_segments(link, || {})
    }

    fn write_again(&self, page: &Page, from: u64) -> Result<(), Dead> {
        let end = page.tail().unwrap();
        let from = from.min(end.lsn);
        let clear = || {
            page.syncs.syncing.clear();
            page.syncs.lone.clear();
        };
        if from == end.lsn {
            clear();
            return Ok(());
        }
        let replace = || {
            self.act(|folder| {
                let copied = (from..end.lsn).map(|lsn| folder.message(&end, lsn).unwrap().0).collect();
                let file = folder.make(copied);
                folder.names.insert(from, file);
            })?;
            self.act(|folder| folder.names.retain(|base, _| *base <= from))?;
            Ok(tail(from, end.lsn - from, end.lsn))
        };
        page.change_segments(replace, || {
            page.syncs.rescued(from, end.lsn);
            clear();
        })?;
        Ok(())
    }

    /// What a reader sees by the page; nothing while the set of segments changes.
    fn read(&self) -> Vec<u64> {
        let page = self.control();
        let list =
            |_| Ok::<_, Infallible>(self.0.folder.lock().unwrap().names.keys().copied().collect::<Vec<_>>());
        let Some((_, end)) = page.look(list).unwrap() else { return Vec::new() };
        let folder = self.0.folder.lock().unwrap();
        (0..end.lsn).map_while(|lsn| folder.message(&end, lsn)).map(|(frame, _)| frame).collect()
    }
}

impl Log for Process {
    type Page = Arc<Page>;
    type Files = Open;
    type Error = Dead;

    fn page(&self) -> Result<Option<Arc<Page>>, Dead> {
        if is_alive() { Ok(Some(self.control())) } else { Err(Dead) }
    }

    fn syncs(page: &Arc<Page>) -> &Syncs {
        &page.syncs
    }

    fn lead_alone(&self, _: &Arc<Page>, lead: impl FnOnce()) -> Result<bool, Dead> {
        let Ok(held) = self.0.leaders.try_lock() else { return Ok(false) };
        lead();
        drop(held);
        if is_alive() { Ok(true) } else { Err(Dead) }
    }

    fn wanted(&self, page: &Arc<Page>) -> u64 {
        page.tail().map_or(0, |end| end.lsn)
    }

    fn files(&self, page: &Arc<Page>) -> Result<(Open, u64), Dead> {
        let end = page.tail().unwrap();
        // Gone when it was replaced a moment ago: who waits looks again.
        Ok((self.open(page, end.base)?, end.lsn))
    }

    fn under_way(open: &Open) -> UnderWay {
        open.under_way
    }

    fn sync(&self, open: &Open, _: u64) -> io::Result<()> {
        let fails = thread_rng().gen_range(0..4) == 0;
        let mut failed = false;
        let done = self.act(|folder| {
            let file = &mut folder.files[open.file];
            failed = fails || file.failures > open.failures;
            file.failures += u64::from(fails);
            let clean = file.clean;
            if !fails {
                file.frames[clean..].iter_mut().for_each(|(_, on_disk)| *on_disk = true);
            }
            file.clean = file.frames.len();
        });
        if failed || done.is_err() { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }

    fn rescue(&self, failed: &Failed) -> Result<(), Dead> {
        self.with_lock(|page| {
            if page.syncs.was_rescued(failed.from, failed.to) {
                return Ok(());
            }
            self.write_again(page, failed.from)
        })
    }

    fn alone(&self, end: u64) -> Result<(), Dead> {
        self.with_lock(|page| {
            if page.syncs.synced() < end {
                let tail = page.tail().unwrap();
                let open = self.open(page, tail.base)?;
                if let Err(failed) = sync_lone(self, page, &open, tail.lsn) {
                    self.write_again(page, failed.from)?;
                }
            }
            Ok(())
        })
    }
}

/// What one process was promised: number of the message, frame, and whether it is to be on the disk.
type Promised = Vec<(u64, u64, bool)>;

fn appends(process: &Process, number: u64, dies: bool) -> Promised {
    if dies {
        dies_after(thread_rng().gen_range(0..80));
    }
    let mut promised = Vec::new();
    for n in 0..4 {
        let (frame, synced) = (10 * number + n, thread_rng().gen_range(0..3) > 0);
        let Ok(lsn) = process.append(frame, synced) else { break };
        promised.push((lsn, frame, synced));
    }
    promised
}

#[test]
fn whatever_fails_and_dies_what_was_acknowledged_is_there_and_what_was_synced_is_on_the_disk() {
    check_at_random(|| {
        let process = Process::new();
        let writers: Vec<_> = (1..=4)
            .map(|number| {
                let process = process.clone();
                thread::spawn(move || appends(&process, number, number > 2))
            })
            .collect();
        let reader = process.clone();
        let reader = thread::spawn(move || {
            let mut seen = Vec::new();
            for _ in 0..6 {
                let read = reader.read();
                if read.len() >= seen.len() {
                    assert!(read.starts_with(&seen), "{seen:?} became {read:?}");
                    seen = read;
                }
            }
            seen
        });
        let promised: Promised = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        let seen = reader.join().unwrap();
        // Whoever comes next makes good what was left.
        process.append(1000, true).unwrap();
        let read = process.read();
        assert!(read.starts_with(&seen), "{seen:?} became {read:?}");
        let end = process.control().tail().unwrap();
        let folder = process.0.folder.lock().unwrap();
        for (lsn, frame, synced) in promised {
            let found = folder.message(&end, lsn);
            let is_there = found.is_some_and(|(there, on_disk)| there == frame && (on_disk || !synced));
            assert!(is_there, "message {lsn} is {frame}, synced: {synced}; there is {found:?}");
        }
        let last = folder.message(&end, end.lsn - 1);
        assert_eq!(last, Some((1000, true)));
    });
}
