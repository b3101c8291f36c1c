//! What a disk may hold when the power goes: which of its unsynced pages, lengths and names came to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::dice::Dice;
use super::model::{Change, Disk, FileOf, Names, Node, PAGE, PageBytes, PageOf, apply};

const SECTOR: usize = 512;

/// Which of the names that were not synced are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// In the order of a journal: all up to one of them, and everything before one that is safe.
    Journal,
    /// In order within each folder; one folder knows nothing of another.
    Folders,
    /// Any of them.
    Any,
}

/// One possible disk.
#[derive(Debug)]
pub(super) struct State {
    root: Entry,
    /// What was chosen, for whoever looks into a failure.
    pub(super) story: Vec<String>,
}

#[derive(Debug)]
enum Entry {
    Folder(BTreeMap<String, Entry>),
    File { bytes: Vec<u8>, identity: Option<(u64, u64)> },
}

/// A file of a state that was put into a folder, and which file it was to its writers: inode and birth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub path: PathBuf,
    pub identity: (u64, u64),
}

/// How many ways there are of each thing that is in doubt; the first of them is: nothing came to the disk.
struct Doubts(Vec<usize>);

impl Doubts {
    fn of(disk: &Disk) -> Self {
        let mut ways = vec![1 + disk.namings.iter().filter(|naming| !naming.safe).count()];
        for file in files(disk) {
            ways.push(1 + file.lens.len());
            ways.extend(file.pages.values().filter(|page| !page.versions.is_empty()).map(|_| 2));
        }
        Self(ways)
    }

    fn states(&self) -> u64 {
        self.0.iter().fold(1, |product: u64, ways| product.saturating_mul(*ways as u64))
    }
}

fn files(disk: &Disk) -> impl Iterator<Item = &FileOf> {
    disk.nodes.iter().filter_map(|node| match node {
        Node::File(file) => Some(file),
        Node::Folder => None,
    })
}

/// How many there are in which each page came as it was last or not at all, and names in the order of a journal.
pub(super) fn count(disk: &Disk) -> u64 {
    Doubts::of(disk).states()
}

/// The `n`-th of these.
pub(super) fn nth(disk: &Disk, n: u64) -> State {
    let mut left = n;
    let mut next = move |ways: usize| {
        let way = left % ways as u64;
        left /= ways as u64;
        usize::try_from(way).unwrap_or_default()
    };
    let names = journal(disk, next(1 + disk.namings.iter().filter(|naming| !naming.safe).count()));
    build(disk, names, |file| {
        let len = next(1 + file.lens.len());
        let pages = file.pages.values().map(|page| match &page.versions[..] {
            [] => None,
            versions => (next(2) == 1).then(|| versions.len() - 1),
        });
        (len, pages.map(Piece::Whole).collect())
    })
}

/// Any one: pages also as they were in between, or torn between two sectors.
pub(super) fn any(disk: &Disk, rule: NameRule, dice: &mut Dice) -> State {
    let names = match rule {
        NameRule::Journal => {
            let unsafe_ones = disk.namings.iter().filter(|naming| !naming.safe).count();
            journal(disk, dice.pick(unsafe_ones + 1))
        }
        NameRule::Folders => by_folder(disk, dice),
        NameRule::Any => {
            let kept = disk.namings.iter().filter(|naming| naming.safe || dice.one_in(2));
            kept.fold(disk.safe_names.clone(), |mut names, naming| {
                apply(&mut names, naming);
                names
            })
        }
    };
    build(disk, names, |file| {
        let len = dice.pick(file.lens.len() + 1);
        let piece = |page: &PageOf| {
            let mut version = || dice.pick(page.versions.len() + 1).checked_sub(1);
            let (one, other) = (version(), version());
            if one != other && dice.one_in(3) {
                Piece::Torn(one, other, dice.roll(1 << (PAGE / SECTOR)))
            } else {
                Piece::Whole(one)
            }
        };
        (len, file.pages.values().map(piece).collect())
    })
}

/// The first `count` of the changes that are not safe, and all before one that is.
fn journal(disk: &Disk, count: usize) -> Names {
    let last_safe = disk.namings.iter().rposition(|naming| naming.safe).map_or(0, |last| last + 1);
    let doubtful = disk.namings.iter().enumerate().filter(|(_, naming)| !naming.safe);
    let wanted = doubtful.take(count).last().map_or(0, |(last, _)| last + 1);
    let mut names = disk.safe_names.clone();
    disk.namings[..wanted.max(last_safe)].iter().for_each(|naming| apply(&mut names, naming));
    names
}

fn by_folder(disk: &Disk, dice: &mut Dice) -> Names {
    let mut left: BTreeMap<usize, usize> = BTreeMap::new();
    for naming in disk.namings.iter().filter(|naming| !naming.safe) {
        *left.entry(naming.folder).or_default() += 1;
    }
    left.values_mut().for_each(|count| *count = dice.pick(*count + 1));
    let mut names = disk.safe_names.clone();
    for naming in &disk.namings {
        let kept = naming.safe || left.get_mut(&naming.folder).is_some_and(take_one);
        if kept {
            apply(&mut names, naming);
        }
    }
    names
}

fn take_one(left: &mut usize) -> bool {
    let more = *left > 0;
    *left = left.saturating_sub(1);
    more
}

/// What came of a page: one of its versions (`None`: what was safe before), or sectors of two.
#[derive(Debug)]
enum Piece {
    Whole(Option<usize>),
    Torn(Option<usize>, Option<usize>, u64),
}

fn build(disk: &Disk, names: Names, mut choose: impl FnMut(&FileOf) -> (usize, Vec<Piece>)) -> State {
    let mut story = Vec::new();
    let mut chosen = BTreeMap::new();
    for (node, file) in disk.nodes.iter().enumerate() {
        if let Node::File(file) = file {
            chosen.insert(node, choose(file));
        }
    }
    let root = folder(disk, &names, 0, &chosen, String::new(), &mut story);
    for naming in disk.namings.iter().filter(|naming| !naming.safe) {
        let what = match &naming.what {
            Change::Make { name, .. } => format!("{name} made"),
            Change::Rename { from, to } => format!("{from} renamed to {to}"),
            Change::Remove { name } => format!("{name} removed"),
        };
        story.push(format!("not synced: {what}"));
    }
    State { root, story }
}

fn folder(
    disk: &Disk,
    names: &Names,
    of: usize,
    chosen: &BTreeMap<usize, (usize, Vec<Piece>)>,
    path: String,
    story: &mut Vec<String>,
) -> Entry {
    let mut entries = BTreeMap::new();
    for ((_, name), node) in names.range((of, String::new())..(of + 1, String::new())) {
        let path = format!("{path}/{name}");
        let entry = match &disk.nodes[*node] {
            Node::Folder => folder(disk, names, *node, chosen, path, story),
            Node::File(file) => {
                let (len, pieces) = &chosen[node];
                let (bytes, told) = content(file, *len, pieces);
                story.push(format!("{path}: {} bytes{told}", bytes.len()));
                Entry::File { bytes, identity: file.identity }
            }
        };
        entries.insert(name.clone(), entry);
    }
    Entry::Folder(entries)
}

fn content(file: &FileOf, len: usize, pieces: &[Piece]) -> (Vec<u8>, String) {
    // The length and when it was so: what was cut off later is still there, and what was cut off before is not.
    let (then, len) = len.checked_sub(1).map_or((0, file.safe_len), |index| file.lens[index]);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    let mut told = String::new();
    for ((index, page), piece) in file.pages.iter().zip(pieces) {
        let one = |version: &Option<usize>| version_of(file, *index, page, *version, then);
        let content = match piece {
            Piece::Whole(version) => one(version),
            Piece::Torn(a, b, mask) => {
                let (a, b) = (one(a), one(b));
                let mut content = [0; PAGE];
                for (n, sector) in content.chunks_exact_mut(SECTOR).enumerate() {
                    let from = if mask >> n & 1 == 0 { &a } else { &b };
                    sector.copy_from_slice(&from[n * SECTOR..][..SECTOR]);
                }
                content
            }
        };
        if !page.versions.is_empty() {
            told = format!("{told}, page {index} {piece:?} of {}", page.versions.len());
        }
        let begin = usize::try_from(index * PAGE as u64).unwrap_or(usize::MAX);
        if let Some(room) = bytes.get_mut(begin..) {
            let count = room.len().min(PAGE);
            room[..count].copy_from_slice(&content[..count]);
        }
    }
    (bytes, told)
}

fn version_of(file: &FileOf, index: u64, page: &PageOf, version: Option<usize>, then: u64) -> [u8; PAGE] {
    let later_cut = file.cuts.iter().map(|(at, _)| *at).find(|at| *at > then).unwrap_or(u64::MAX);
    // One of a time behind a cut that did not happen did not happen either.
    let versions = &page.versions[..version.map_or(0, |version| version + 1)];
    let chosen = versions.iter().rfind(|version| version.at < later_cut);
    let (written, bytes): (u64, Option<&PageBytes>) =
        chosen.map_or((0, page.safe.as_ref()), |version| (version.at, Some(&version.bytes)));
    let mut bytes = bytes.map_or([0; PAGE], |bytes| **bytes);
    for (_, len) in file.cuts.iter().filter(|(at, _)| *at > written && *at <= then) {
        let keep = usize::try_from(len.saturating_sub(index * PAGE as u64)).unwrap_or(PAGE).min(PAGE);
        bytes[keep..].fill(0);
    }
    bytes
}

impl State {
    /// Puts the files into a folder that is there and empty.
    pub(super) fn put(&self, place: &Path) -> Vec<Placed> {
        let mut placed = Vec::new();
        put(&self.root, place, &mut placed);
        placed
    }
}

fn put(entry: &Entry, path: &Path, placed: &mut Vec<Placed>) {
    match entry {
        Entry::Folder(entries) => {
            for (name, entry) in entries {
                let path = path.join(name);
                if let Entry::Folder(_) = entry {
                    std::fs::create_dir(&path).unwrap();
                }
                put(entry, &path, placed);
            }
        }
        Entry::File { bytes, identity } => {
            std::fs::write(path, bytes).unwrap();
            placed.extend(identity.map(|identity| Placed { path: path.to_owned(), identity }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::trace::Event;
    use super::*;

    fn open(fd: u64, name: &str) -> Event {
        let (create, truncate, append) = (true, false, false);
        Event::Open { who: 1, fd, path: format!("/disk/{name}"), create, truncate, append }
    }

    fn write(at: usize, bytes: &[u8]) -> Event {
        Event::Write { who: 1, fd: 3, at: Some(at as u64), bytes: bytes.into() }
    }

    fn sync(fd: u64, worked: bool) -> [Event; 2] {
        [Event::SyncBegins { who: 1, fd }, Event::SyncEnds { who: 1, fd, worked }]
    }

    fn disk(events: impl IntoIterator<Item = Event>) -> Disk {
        let root = tempfile::tempdir().unwrap();
        let mut disk = Disk::new(root.path(), false);
        disk.is_at("/disk".into());
        let folder = Event::Open {
            who: 1,
            fd: 9,
            path: "/disk".into(),
            create: false,
            truncate: false,
            append: false,
        };
        for event in [folder].into_iter().chain(events) {
            disk.happens(&event);
        }
        disk
    }

    /// What may be in the file `a`: its length and what begins each page.
    fn states(disk: &Disk) -> Vec<Option<String>> {
        let mut found: Vec<_> = (0..count(disk)).map(|n| shown(&nth(disk, n))).collect();
        found.sort();
        found.dedup();
        found
    }

    fn shown(state: &State) -> Option<String> {
        let Entry::Folder(entries) = &state.root else { return None };
        let Entry::File { bytes, .. } = entries.get("a")? else { return None };
        let firsts = bytes.chunks(PAGE).map(|page| if page[0] == 0 { '-' } else { char::from(page[0]) });
        Some(format!("{} {}", bytes.len(), firsts.collect::<String>()))
    }

    fn some(states: &[&str]) -> Vec<Option<String>> {
        states.iter().map(|state| Some((*state).to_owned())).collect()
    }

    #[test]
    fn what_was_not_synced_comes_in_any_subset() {
        let mut events = vec![open(3, "a")];
        events.extend(sync(9, true));
        events.push(write(0, b"x"));
        events.extend(sync(3, true));
        events.extend([write(0, b"y"), write(PAGE, b"z")]);
        assert_eq!(
            states(&disk(events.clone())),
            some(&["1 x", "1 y", "4097 x-", "4097 xz", "4097 y-", "4097 yz"])
        );
        events.extend(sync(3, true));
        assert_eq!(states(&disk(events)), some(&["4097 yz"]));
    }

    #[test]
    fn after_a_failed_sync_no_later_one_brings_its_pages_back() {
        let mut events = vec![open(3, "a")];
        events.extend(sync(9, true));
        events.push(write(0, b"x"));
        events.extend(sync(3, false));
        events.extend(sync(3, true));
        assert_eq!(states(&disk(events.clone())), some(&["1 -", "1 x"]));
        events.push(write(0, b"y"));
        events.extend(sync(3, true));
        assert_eq!(states(&disk(events)), some(&["1 y"]));
    }

    #[test]
    fn what_was_cut_off_does_not_come_back_behind_the_cut() {
        let mut events = vec![open(3, "a")];
        events.extend(sync(9, true));
        events.extend([write(0, b"x"), write(PAGE, b"y")]);
        events.extend(sync(3, true));
        events.push(Event::Resize { who: 1, fd: 3, len: 0 });
        assert_eq!(states(&disk(events.clone())), some(&["0 ", "4097 xy"]));
        events.push(write(PAGE, b"z"));
        assert_eq!(states(&disk(events)), some(&["0 ", "4097 --", "4097 -z", "4097 xy"]));
    }

    #[test]
    fn a_name_is_there_once_its_folder_was_synced() {
        let mut events = vec![open(3, "b"), Event::Rename { from: "/disk/b".into(), to: "/disk/a".into() }];
        events.extend(sync(3, true));
        assert_eq!(states(&disk(events.clone())), [None, Some("0 ".to_owned())]);
        events.extend(sync(9, true));
        assert_eq!(states(&disk(events)), some(&["0 "]));
    }
}
