#![allow(clippy::unwrap_used)]
use std::io::{self, Write};
use std::path::Path;

use run_agent_core::layout::Layout;
use run_agent_core::{ProjectId, RunId, TaskId};

use super::*;

/// A run's folder, and nothing else of what a server has done by others.
#[derive(Debug)]
struct Folder {
    _root: tempfile::TempDir,
    run: RunPaths,
}

impl Opens for Folder {
    fn open(&self, path: &Path) -> io::Result<File> {
        File::open(path)
    }
}

type Lines = Vec<(Source, String, At)>;

impl Folder {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let task = TaskId::parse("task-20261121-093000-x").unwrap();
        let run = RunId::parse("20261121-0930001234-1-1").unwrap();
        let run = Layout::new(root.path().to_owned()).task(&ProjectId::parse("p").unwrap(), &task).run(&run);
        std::fs::create_dir_all(run.folder()).unwrap();
        Self { _root: root, run }
    }

    fn append(&self, path: &Path, bytes: &[u8]) {
        File::options().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    fn print(&self, source: Source, text: &str) {
        let path = match source {
            Source::Stdout => self.run.stdout(),
            Source::Stderr => self.run.stderr(),
        };
        self.append(&path, text.as_bytes());
    }

    fn mark(&self) {
        let len = |path: PathBuf| path.metadata().map_or(0, |meta| meta.len());
        let mark = format!("5 {} {}\n", len(self.run.stdout()), len(self.run.stderr()));
        self.append(&self.run.marks(), mark.as_bytes());
    }

    /// Reads so many lines at the most.
    fn read(&self, merged: &mut Merged, ended: bool, most: usize, lines: &mut Lines) -> Came {
        let mut left = most;
        let read = merged.read(self, ended, |line| {
            lines.push((line.source, String::from_utf8_lossy(line.text).into_owned(), line.at));
            left -= 1;
            left > 0
        });
        read.unwrap()
    }

    /// All lines behind a place.
    fn rest(&self, from: At) -> Lines {
        let (mut merged, mut lines) = (Merged::new(&self.run, from), Vec::new());
        while self.read(&mut merged, true, 7, &mut lines) != Came::ToTheEnd {}
        lines
    }
}

fn texts(lines: &Lines) -> Vec<&str> {
    lines.iter().map(|(_, text, _)| text.as_str()).collect()
}

/// Prints, with marks that fall into lines, and looks now and then; each look is that of another client, where `breaks`.
fn told_live(folder: &Folder, steps: u64, breaks: bool) -> Lines {
    let (mut merged, mut lines) = (Merged::new(&folder.run, At::default()), Vec::new());
    // A fixed row of numbers, as good as any.
    let mut row = 88_172_645_463_325_252_u64;
    for n in 0..steps {
        row ^= row << 13;
        row ^= row >> 7;
        row ^= row << 17;
        let source = if row.is_multiple_of(3) { Source::Stderr } else { Source::Stdout };
        let end = if row.is_multiple_of(5) { "" } else { "\n" };
        folder.print(source, &format!("{n}{end}"));
        if row % 7 < 4 {
            folder.mark();
        }
        if row % 11 < 5 {
            folder.read(&mut merged, false, 1 + (row % 13) as usize, &mut lines);
            if breaks {
                merged = Merged::new(&folder.run, lines.last().map(|(_, _, at)| *at).unwrap_or_default());
            }
        }
    }
    folder.print(Source::Stdout, "last");
    while folder.read(&mut merged, true, 50, &mut lines) != Came::ToTheEnd {}
    lines
}

#[test]
fn lines_come_in_the_order_in_which_their_ends_were_marked() {
    let folder = Folder::new();
    folder.print(Source::Stdout, "a\nb");
    folder.mark();
    folder.print(Source::Stderr, "x\n");
    folder.mark();
    folder.print(Source::Stdout, "c\n");
    folder.mark();
    folder.print(Source::Stderr, "y");
    let (mut merged, mut lines) = (Merged::new(&folder.run, At::default()), Vec::new());
    assert_eq!(folder.read(&mut merged, false, 9, &mut lines), Came::UpToNow { waits: false });
    assert_eq!(texts(&lines), ["a", "x", "bc"]);
    assert_eq!(folder.read(&mut merged, true, 9, &mut lines), Came::ToTheEnd);
    assert_eq!(texts(&lines), ["a", "x", "bc", "y"]);
    assert_eq!(lines[3].2, At { stdout: 2, stderr: 2 });
}

#[test]
fn whoever_looks_and_whenever_all_are_told_the_same() {
    let (one, other) = (Folder::new(), Folder::new());
    let lines = told_live(&one, 400, false);
    assert!(lines.len() > 300, "{}", lines.len());
    assert_eq!(told_live(&other, 400, true), lines, "with breaks");
    assert_eq!(one.rest(At::default()), lines, "afterwards");
    for (n, (_, _, at)) in lines.iter().enumerate() {
        assert_eq!(one.rest(*at), lines[n + 1..], "behind {at}");
    }
}

#[test]
fn a_place_that_is_not_there_is_none() {
    let folder = Folder::new();
    folder.print(Source::Stdout, "a\nb");
    folder.mark();
    let read = |stdout, stderr, ended| {
        Merged::new(&folder.run, At { stdout, stderr }).read(&folder, ended, |_| true)
    };
    assert!(matches!(read(1, 0, false), Ok(Came::UpToNow { .. })));
    assert!(matches!(read(2, 0, false), Err(Fault::Replaced)), "its end is not there yet");
    assert!(matches!(read(2, 0, true), Ok(Came::ToTheEnd)));
    assert!(matches!(read(0, 1, true), Err(Fault::Replaced)));
}

#[test]
fn torn_and_senseless_marks_order_nothing_and_hide_nothing() {
    let folder = Folder::new();
    folder.append(&folder.run.marks(), &vec![b'7'; 3 * MARKS_BYTES]);
    folder.append(&folder.run.marks(), b"\n1 2\n9 99 99\n3 1 1\n4 2");
    folder.print(Source::Stderr, "x\n");
    folder.print(Source::Stdout, "a\n");
    assert_eq!(texts(&folder.rest(At::default())), ["a", "x"]);
}
