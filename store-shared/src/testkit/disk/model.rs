//! A disk that may forget what was not synced: of each file the pages and lengths that are safe and those that may be, and
//! all names that were made, changed and removed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::trace::Event;

pub(super) const PAGE: usize = 4096;

pub(super) type PageBytes = Rc<[u8; PAGE]>;

/// What a page was at some moment, and is not known to have come to the disk as.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) at: u64,
    pub(super) bytes: PageBytes,
    /// Its sync failed: the system takes it for clean, and no later sync is for it.
    lost: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct PageOf {
    pub(super) safe: Option<PageBytes>,
    pub(super) versions: Vec<Version>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct FileOf {
    pub(super) pages: BTreeMap<u64, PageOf>,
    pub(super) safe_len: u64,
    /// Lengths since, each with its moment.
    pub(super) lens: Vec<(u64, u64)>,
    /// Moments at which it was made shorter, and how long it was then.
    pub(super) cuts: Vec<(u64, u64)>,
    /// Inode and birth, as its writers knew it.
    pub(super) identity: Option<(u64, u64)>,
}

/// A change of names in one folder.
#[derive(Debug, Clone)]
pub(super) struct Naming {
    pub(super) folder: usize,
    pub(super) what: Change,
    pub(super) safe: bool,
    at: u64,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Make { name: String, node: usize },
    Rename { from: String, to: String },
    Remove { name: String },
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Folder,
    File(FileOf),
}

/// Names of all folders: (folder, name) to what it names.
pub(super) type Names = BTreeMap<(usize, String), usize>;

#[derive(Debug, Clone, Copy)]
struct Open {
    node: usize,
    at: u64,
    append: bool,
}

#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    pub(super) nodes: Vec<Node>,
    /// As they are in memory.
    names: Names,
    /// As they are at least on the disk, before `namings`.
    pub(super) safe_names: Names,
    pub(super) namings: Vec<Naming>,
    open: HashMap<(u32, u64), Open>,
    /// When the syncs began that go on.
    syncing: HashMap<u32, u64>,
    /// Counts what happened.
    now: u64,
    /// A disk that acknowledges syncs of files and makes none.
    lies: bool,
}

pub(super) fn apply(names: &mut Names, naming: &Naming) {
    let key = |name: &str| (naming.folder, name.to_owned());
    match &naming.what {
        Change::Make { name, node } => {
            names.insert(key(name), *node);
        }
        Change::Rename { from, to } => {
            // Where the name was not made, or not yet, there is nothing to rename.
            if let Some(node) = names.remove(&key(from)) {
                names.insert(key(to), node);
            }
        }
        Change::Remove { name } => {
            names.remove(&key(name));
        }
    }
}

impl Disk {
    /// A root whose folders are on the disk, and which has no files.
    pub(super) fn new(root: &Path, lies: bool) -> Self {
        let mut disk = Self {
            root: root.to_owned(),
            nodes: vec![Node::Folder],
            names: Names::new(),
            safe_names: Names::new(),
            namings: Vec::new(),
            open: HashMap::new(),
            syncing: HashMap::new(),
            now: 0,
            lies,
        };
        disk.adopt(root, 0);
        disk
    }

    /// The writers knew the root under another path.
    pub(super) fn is_at(&mut self, root: PathBuf) {
        self.root = root;
    }

    fn adopt(&mut self, folder: &Path, node: usize) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            assert!(entry.file_type().unwrap().is_dir(), "{entry:?} is there before anything was written");
            let child = self.nodes.len();
            self.nodes.push(Node::Folder);
            let key = (node, entry.file_name().into_string().unwrap());
            self.names.insert(key.clone(), child);
            self.safe_names.insert(key, child);
            self.adopt(&entry.path(), child);
        }
    }

    /// The folder and the name in it; `None` outside of the root.
    fn place(&self, path: &str) -> Option<(usize, String)> {
        let path = Path::new(path).strip_prefix(&self.root).ok()?;
        let name = path.file_name()?.to_str()?.to_owned();
        let mut folder = 0;
        for part in path.parent()?.components() {
            folder = *self.names.get(&(folder, part.as_os_str().to_str()?.to_owned()))?;
        }
        Some((folder, name))
    }

    fn node(&self, path: &str) -> Option<usize> {
        if Path::new(path) == self.root { Some(0) } else { self.names.get(&self.place(path)?).copied() }
    }

    fn name(&mut self, folder: usize, what: Change) {
        let naming = Naming { folder, what, safe: false, at: self.now };
        apply(&mut self.names, &naming);
        self.namings.push(naming);
    }

    fn file(&mut self, who: u32, fd: u64) -> Option<(&mut FileOf, Open)> {
        let open = *self.open.get(&(who, fd))?;
        match &mut self.nodes[open.node] {
            Node::File(file) => Some((file, open)),
            Node::Folder => None,
        }
    }

    /// True when the disk, or what it may forget, is another one now.
    pub(super) fn happens(&mut self, event: &Event) -> bool {
        self.now += 1;
        let now = self.now;
        match event {
            Event::Open { who, fd, path, create, truncate, append } => {
                return self.opens((*who, *fd), path, *create, *truncate, *append);
            }
            Event::Close { who, fd } => {
                self.open.remove(&(*who, *fd));
                return false;
            }
            Event::Ended { who } => {
                self.open.retain(|(of, _), _| of != who);
                return false;
            }
            Event::Write { who, fd, at, bytes } => {
                let Some((file, open)) = self.file(*who, *fd) else { return false };
                let begin = at.unwrap_or(if open.append { file.len() } else { open.at });
                file.write(now, begin, bytes);
                if at.is_none()
                    && let Some(open) = self.open.get_mut(&(*who, *fd))
                {
                    open.at = begin + bytes.len() as u64;
                }
            }
            Event::Seek { who, fd, to } => {
                if let Some(open) = self.open.get_mut(&(*who, *fd)) {
                    open.at = *to;
                }
                return false;
            }
            Event::Resize { who, fd, len } => {
                let Some((file, _)) = self.file(*who, *fd) else { return false };
                file.resize(now, *len);
            }
            Event::Reserve { who, fd, to } => {
                let Some((file, _)) = self.file(*who, *fd) else { return false };
                let len = file.len().max(*to);
                file.resize(now, len);
            }
            Event::SyncBegins { who, .. } => {
                self.syncing.insert(*who, now);
                return false;
            }
            Event::SyncEnds { who, fd, worked } => return self.synced(*who, *fd, *worked),
            Event::MakeFolder { path } => {
                let Some((folder, name)) = self.place(path) else { return false };
                self.nodes.push(Node::Folder);
                self.name(folder, Change::Make { name, node: self.nodes.len() - 1 });
            }
            Event::Rename { from, to } => {
                let (Some((folder, from)), Some((other, to))) = (self.place(from), self.place(to)) else {
                    return false;
                };
                assert_eq!(folder, other, "a file stays in its folder");
                self.name(folder, Change::Rename { from, to });
            }
            Event::Unlink { path } => {
                let Some((folder, name)) = self.place(path) else { return false };
                self.name(folder, Change::Remove { name });
            }
            Event::Identity { who, fd, inode, born } => {
                if let Some((file, _)) = self.file(*who, *fd) {
                    file.identity = Some((*inode, *born));
                }
                return false;
            }
            Event::Said(_) => return false,
        }
        true
    }

    fn opens(&mut self, fd: (u32, u64), path: &str, create: bool, truncate: bool, append: bool) -> bool {
        let mut changes = false;
        if self.node(path).is_none() && create {
            let Some((folder, name)) = self.place(path) else { return false };
            self.nodes.push(Node::File(FileOf::default()));
            self.name(folder, Change::Make { name, node: self.nodes.len() - 1 });
            changes = true;
        }
        let Some(node) = self.node(path) else { return false };
        if let Node::File(file) = &mut self.nodes[node]
            && truncate
            && file.len() > 0
        {
            file.resize(self.now, 0);
            changes = true;
        }
        self.open.insert(fd, Open { node, at: 0, append });
        changes
    }

    fn synced(&mut self, who: u32, fd: u64, worked: bool) -> bool {
        let began = self.syncing.remove(&who).unwrap_or_else(|| panic!("a sync that never began"));
        let Some(open) = self.open.get(&(who, fd)).copied() else { return false };
        match &mut self.nodes[open.node] {
            Node::File(_) if self.lies => return false,
            Node::File(file) if worked => file.is_safe(began),
            Node::File(file) => file.is_lost(began),
            Node::Folder => {
                for naming in &mut self.namings {
                    naming.safe |= worked && naming.folder == open.node && naming.at <= began;
                }
                let first = self.namings.iter().position(|naming| !naming.safe);
                for naming in self.namings.drain(..first.unwrap_or(self.namings.len())) {
                    apply(&mut self.safe_names, &naming);
                }
            }
        }
        true
    }
}

impl FileOf {
    fn len(&self) -> u64 {
        self.lens.last().map_or(self.safe_len, |(_, len)| *len)
    }

    fn write(&mut self, now: u64, at: u64, bytes: &[u8]) {
        let end = at + bytes.len() as u64;
        let mut done = 0;
        while done < bytes.len() {
            let place = at + done as u64;
            let (index, from) = (place / PAGE as u64, (place % PAGE as u64) as usize);
            let count = (PAGE - from).min(bytes.len() - done);
            let page = self.pages.entry(index).or_default();
            let mut new = page.now().map_or([0; PAGE], |bytes| **bytes);
            new[from..from + count].copy_from_slice(&bytes[done..done + count]);
            page.versions.push(Version { at: now, bytes: Rc::new(new), lost: false });
            done += count;
        }
        if end > self.len() {
            self.lens.push((now, end));
        }
    }

    fn resize(&mut self, now: u64, len: u64) {
        if len == self.len() {
            return;
        }
        if len < self.len() {
            self.cuts.push((now, len));
            // What stands behind the cut is zero in memory, should it be written to again.
            for (index, page) in &mut self.pages {
                let begin = index * PAGE as u64;
                let keep = usize::try_from(len.saturating_sub(begin)).unwrap_or(PAGE).min(PAGE);
                let old = page.now().map_or([0; PAGE], |bytes| **bytes);
                if old[keep..].iter().any(|byte| *byte != 0) {
                    let mut new = [0; PAGE];
                    new[..keep].copy_from_slice(&old[..keep]);
                    page.versions.push(Version { at: now, bytes: Rc::new(new), lost: false });
                }
            }
        }
        self.lens.push((now, len));
    }

    /// What it was at that moment is on the disk.
    fn is_safe(&mut self, then: u64) {
        for page in self.pages.values_mut() {
            let Some(last) = page.versions.iter().rposition(|version| version.at <= then) else { continue };
            if !page.versions[last].lost {
                page.safe = Some(page.versions[last].bytes.clone());
                page.versions.drain(..=last);
            }
        }
        if let Some(last) = self.lens.iter().rposition(|(at, _)| *at <= then) {
            self.safe_len = self.lens[last].1;
            self.lens.drain(..=last);
        }
        self.cuts.retain(|(at, _)| *at > then);
    }

    fn is_lost(&mut self, then: u64) {
        let versions = self.pages.values_mut().flat_map(|page| &mut page.versions);
        versions.filter(|version| version.at <= then).for_each(|version| version.lost = true);
    }
}

impl PageOf {
    fn now(&self) -> Option<&PageBytes> {
        self.versions.last().map(|version| &version.bytes).or(self.safe.as_ref())
    }
}
