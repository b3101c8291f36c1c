//! What streams say when the system lets nobody in: permissions that are lost, a folder that is deleted.

use std::error::Error;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use run_agent_core::store::Stream;
use run_agent_core::{Cursor, Draft, Durability, Kind};

/// Somebody else than the superuser, whom permissions bind.
const NOBODY: u32 = 65534;
/// After so long a test says what it saw instead.
const DEADLINE: Duration = Duration::from_secs(60);

fn draft(stream: &dyn Stream, body: &str) -> Draft {
    let key = stream.key().clone();
    Draft::new(Kind::FACT, key.project, key.task, body)
}

/// Runs a test again, as [`Command`] says, by somebody whom permissions bind. `owns`: all below the root is given to them.
#[must_use]
pub fn as_nobody(again: &Command, root: &Path, owns: bool) -> Output {
    let mut command = Command::new(again.get_program());
    let program = root.with_extension("program");
    if nix::unistd::geteuid().is_root() {
        // The program may lie where nobody else looks.
        std::fs::copy(again.get_program(), &program).unwrap();
        command = Command::new(&program);
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        if owns {
            give_away(root).unwrap();
        }
    }
    command.args(again.get_args());
    for (name, value) in again.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let output = command.output().unwrap();
    let _ = std::fs::remove_file(program);
    output
}

fn give_away(path: &Path) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY))?;
    if path.symlink_metadata()?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give_away(&entry?.path())?;
        }
    }
    Ok(())
}

/// An error and its causes, as they are printed.
pub fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What each operation says of itself; empty where it worked.
fn all_of(stream: &dyn Stream) -> Vec<(&'static str, String)> {
    fn said<T>(result: Result<T, impl Error>) -> String {
        result.map_or_else(|error| told(&error), |_| String::new())
    }
    let append = |durability| said(stream.append(vec![draft(stream, "no")], durability));
    vec![
        ("append", append(Durability::None)),
        ("append and sync", append(Durability::Always)),
        ("read", said(stream.read(Cursor::START, 9))),
        ("last", said(stream.last(9))),
        ("end", said(stream.end())),
        ("rotate", said(stream.rotate())),
        ("flush", said(stream.flush())),
        ("verify", said(stream.verify())),
    ]
}

/// For a child whom permissions bind: `folder` is closed to it while it works there, and opened again later.
pub fn permission_is_lost(open: impl Fn() -> Arc<dyn Stream>, folder: &Path) {
    let mode = |mode| std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
    let stream = open();
    stream.append(vec![draft(&*stream, "before")], Durability::Always).unwrap();
    let before = stream.read(Cursor::START, 9).unwrap().entries;
    mode(0o000);
    let (old, new) = (all_of(&*stream), all_of(&*open()));
    mode(0o700);
    for (what, error) in new.iter().chain(&old).filter(|(_, error)| !error.is_empty()) {
        let names = error.contains(folder.to_str().unwrap()) && error.contains("Permission denied");
        assert!(names, "{what}: {error}");
    }
    assert!(new.iter().all(|(what, error)| !error.is_empty() || *what == "rotate"), "{new:?}");
    // Whose files are open goes on with them, or says that it cannot: what it said to have stored is there.
    let kept = old.iter().filter(|(what, error)| what.starts_with("append") && error.is_empty()).count();
    for stream in [stream, open()] {
        let now = stream.read(Cursor::START, 9).unwrap();
        assert_eq!(now.damage, []);
        assert_eq!(now.entries[..before.len()], before);
        assert!(now.entries.len() >= before.len() + kept, "{:?}", now.entries);
    }
    let stream = open();
    stream.append(vec![draft(&*stream, "after")], Durability::Always).unwrap();
    assert_eq!(stream.last(1).unwrap().entries[0].message.content.body, "after");
    assert_eq!(stream.verify().unwrap().damage, []);
    println!("\nsaid done");
}

/// Who waits, who posts, and who comes later: the folder of the task is deleted under all of them.
pub fn folder_is_deleted(open: impl Fn() -> Arc<dyn Stream>, folder: &Path) {
    let (reader, writer) = (open(), open());
    writer.append(vec![draft(&*writer, "one")], Durability::Always).unwrap();
    let end = reader.read(Cursor::START, 9).unwrap().next;
    let (tell, heard) = mpsc::channel();
    let waiting = {
        let (reader, tell) = (reader.clone(), tell.clone());
        std::thread::spawn(move || {
            let mut cursor = end;
            let error = loop {
                // Longer than any test lasts.
                let result =
                    reader.wait(cursor, Duration::from_secs(3600)).and_then(|()| reader.read(cursor, 9));
                match result {
                    Ok(page) => cursor = page.next,
                    Err(error) => break told(&error),
                }
            };
            tell.send(("the reader", error)).unwrap();
        })
    };
    let (begun, has_begun) = mpsc::channel();
    let posting = {
        let writer = writer.clone();
        std::thread::spawn(move || {
            let error = loop {
                match writer.append(vec![draft(&*writer, "more")], Durability::Always) {
                    Ok(_) => drop(begun.send(())),
                    Err(error) => break told(&error),
                }
            };
            tell.send(("the writer", error)).unwrap();
        })
    };
    for _ in 0..3 {
        has_begun.recv_timeout(DEADLINE).unwrap();
    }
    // Whoever makes a file there in between makes it necessary to look again.
    while let Err(error) = std::fs::remove_dir_all(folder) {
        assert_eq!(error.kind(), io::ErrorKind::DirectoryNotEmpty, "{error}");
    }
    for _ in 0..2 {
        let (who, error) = heard.recv_timeout(DEADLINE).expect("somebody hangs");
        assert!(error.contains(folder.to_str().unwrap()), "{who}: {error}");
    }
    for worker in [waiting, posting] {
        worker.join().unwrap();
    }
    for (what, error) in all_of(&*reader).into_iter().chain(all_of(&*writer)) {
        assert!(error.contains(folder.to_str().unwrap()), "{what}: {error}");
    }
    assert!(!folder.exists(), "nobody made it again");
}
