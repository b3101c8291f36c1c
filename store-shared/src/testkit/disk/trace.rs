//! What processes asked of the system, read from the output of `strace -f -xx -v`: what changes files, in the order in
//! which the system did it, and what was said on stdout in between.

use std::collections::HashMap;

/// One call, as far as a disk is concerned. `who` is a thread: a writer of these tests has one that touches files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Open {
        who: u32,
        fd: u64,
        path: String,
        create: bool,
        truncate: bool,
        append: bool,
    },
    Close {
        who: u32,
        fd: u64,
    },
    /// `at`: where, unless it is where the file's own position is.
    Write {
        who: u32,
        fd: u64,
        at: Option<u64>,
        bytes: Vec<u8>,
    },
    Seek {
        who: u32,
        fd: u64,
        to: u64,
    },
    Resize {
        who: u32,
        fd: u64,
        len: u64,
    },
    /// Space up to there, and with it the file's length.
    Reserve {
        who: u32,
        fd: u64,
        to: u64,
    },
    SyncBegins {
        who: u32,
        fd: u64,
    },
    SyncEnds {
        who: u32,
        fd: u64,
        worked: bool,
    },
    MakeFolder {
        path: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    /// Which file that is: its inode, and when it was made in nanoseconds.
    Identity {
        who: u32,
        fd: u64,
        inode: u64,
        born: u64,
    },
    Said(String),
    Ended {
        who: u32,
    },
}

/// What is traced. Of the last line nothing is understood: it must not happen to a file of the stream.
pub(super) const CALLS: &str = "trace=openat,open,creat,close,dup,dup2,dup3,write,pwrite64,lseek,ftruncate,fallocate,\
    fdatasync,fsync,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,statx,\
    writev,pwritev,pwritev2,truncate,link,linkat,symlink,copy_file_range,sendfile,splice,sync_file_range";

pub(super) fn parse(text: &str) -> Vec<Event> {
    let mut begun: HashMap<u32, String> = HashMap::new();
    let mut events = Vec::new();
    for line in text.lines() {
        let (who, rest) = line.split_once(' ').unwrap_or_else(|| panic!("a line of strace: {line}"));
        let who: u32 = who.parse().unwrap_or_else(|_| panic!("a line of strace: {line}"));
        let rest = rest.trim_start();
        if rest.starts_with("+++") {
            events.push(Event::Ended { who });
        } else if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            sync_begins(who, start, &mut events);
            begun.insert(who, start.to_owned());
        } else if let Some((_, end)) = rest.split_once(" resumed>").filter(|_| rest.starts_with("<...")) {
            let start = begun.remove(&who).unwrap_or_else(|| panic!("nothing was begun before {line}"));
            events.extend(call(who, &format!("{start}{end}")));
        } else if !rest.starts_with("---") {
            sync_begins(who, rest, &mut events);
            events.extend(call(who, rest));
        }
    }
    events
}

fn sync_begins(who: u32, call: &str, events: &mut Vec<Event>) {
    if let Some(rest) = call.strip_prefix("fdatasync(").or_else(|| call.strip_prefix("fsync(")) {
        let fd = rest.trim_end_matches(')').split(')').next().and_then(|fd| fd.parse().ok());
        events.push(Event::SyncBegins { who, fd: fd.unwrap_or_else(|| panic!("what is synced: {call}")) });
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("a number of strace: {text}"))
}

/// `"\x2f\x74…"` as bytes.
fn bytes(text: &str) -> Vec<u8> {
    let inner = text.trim().strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let inner = inner.unwrap_or_else(|| panic!("a text of strace, perhaps cut short: {text}"));
    let hex =
        |part: &str| u8::from_str_radix(part, 16).unwrap_or_else(|_| panic!("a byte of strace: {part}"));
    inner.split("\\x").skip(1).map(hex).collect()
}

fn text(quoted: &str) -> String {
    String::from_utf8(bytes(quoted)).unwrap_or_else(|error| panic!("a path: {error}"))
}

fn call(who: u32, line: &str) -> Option<Event> {
    let (call, result) = line.rsplit_once(" = ").unwrap_or_else(|| panic!("no result: {line}"));
    let (name, args) = call.split_once('(').unwrap_or_else(|| panic!("no call: {line}"));
    let args = args.trim_end().strip_suffix(')').unwrap_or_else(|| panic!("no end: {line}"));
    let worked = !result.starts_with(['-', '?']);
    if let "fdatasync" | "fsync" = name {
        return Some(Event::SyncEnds { who, fd: number(args), worked });
    }
    if !worked {
        return None;
    }
    let done = result.split(' ').next().unwrap_or_default();
    // Enough for all but statx, which has its own.
    let arg: Vec<&str> = args.split(", ").collect();
    let at_here = |arg: &str| assert_eq!(arg, "AT_FDCWD", "paths are whole: {line}");
    Some(match name {
        "openat" => {
            at_here(arg[0]);
            let has = |flag: &str| arg[2].split('|').any(|one| one == flag);
            let (create, truncate, append) = (has("O_CREAT"), has("O_TRUNC"), has("O_APPEND"));
            Event::Open { who, fd: number(done), path: text(arg[1]), create, truncate, append }
        }
        "close" => Event::Close { who, fd: number(args) },
        "write" | "pwrite64" => {
            let mut bytes = bytes(arg[1]);
            bytes.truncate(usize::try_from(number(done)).unwrap_or_default());
            let at = arg.get(3).map(|at| number(at));
            if arg[0] == "1" {
                Event::Said(String::from_utf8_lossy(&bytes).into_owned())
            } else {
                Event::Write { who, fd: number(arg[0]), at, bytes }
            }
        }
        "lseek" => Event::Seek { who, fd: number(arg[0]), to: number(done) },
        "ftruncate" => Event::Resize { who, fd: number(arg[0]), len: number(arg[1]) },
        "fallocate" => {
            assert_eq!(arg[1], "0", "space is only reserved: {line}");
            Event::Reserve { who, fd: number(arg[0]), to: number(arg[2]) + number(arg[3]) }
        }
        "mkdir" => Event::MakeFolder { path: text(arg[0]) },
        "mkdirat" => {
            at_here(arg[0]);
            Event::MakeFolder { path: text(arg[1]) }
        }
        "rename" => Event::Rename { from: text(arg[0]), to: text(arg[1]) },
        "renameat" | "renameat2" => {
            at_here(arg[0]);
            at_here(arg[2]);
            Event::Rename { from: text(arg[1]), to: text(arg[3]) }
        }
        "unlink" => Event::Unlink { path: text(arg[0]) },
        "unlinkat" => {
            at_here(arg[0]);
            Event::Unlink { path: text(arg[1]) }
        }
        // The file that is open: what a path names may be another one by now.
        "statx" if arg[1] == "\"\"" => {
            let field = |name: &str| args.split_once(name).map(|(_, rest)| rest);
            let digits = |rest: &str| number(&rest[..rest.find([',', '}']).unwrap_or(rest.len())]);
            let inode = field("stx_ino=").map(digits)?;
            let born = field("stx_btime={tv_sec=")?;
            let (seconds, rest) = born.split_once(", tv_nsec=")?;
            let born = number(seconds).wrapping_mul(1_000_000_000).wrapping_add(digits(rest));
            Event::Identity { who, fd: number(arg[0]), inode, born }
        }
        "statx" | "dup" | "dup2" | "dup3" => return None,
        "writev" | "pwritev" | "pwritev2" | "copy_file_range" | "sendfile" | "splice" | "sync_file_range"
            if arg[0] != "2" =>
        {
            panic!("what this does to a disk is not known here: {line}")
        }
        "writev" => return None,
        _ => panic!("what this does to a disk is not known here: {line}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_others_interrupt_are_put_together_and_what_failed_changes_nothing() {
        let text = "7 openat(AT_FDCWD, \"\\x2f\\x61\", O_RDWR|O_CREAT|O_APPEND|O_CLOEXEC, 0600) = 4\n\
            7 write(4, \"\\x68\\x69\", 2 <unfinished ...>\n\
            8 fdatasync(3 <unfinished ...>\n\
            7 <... write resumed>)              = 1\n\
            8 <... fdatasync resumed>)          = -1 EIO (Input/output error) (INJECTED)\n\
            7 mkdir(\"\\x2f\\x62\", 0777)       = -1 EEXIST (File exists)\n\
            7 statx(4, \"\", AT_EMPTY_PATH, STATX_INO, {stx_ino=12, stx_btime={tv_sec=3, tv_nsec=4}}) = 0\n\
            7 +++ exited with 0 +++\n";
        let (create, truncate, append) = (true, false, true);
        let wanted = [
            Event::Open { who: 7, fd: 4, path: "/a".into(), create, truncate, append },
            Event::SyncBegins { who: 8, fd: 3 },
            Event::Write { who: 7, fd: 4, at: None, bytes: b"h".into() },
            Event::SyncEnds { who: 8, fd: 3, worked: false },
            Event::Identity { who: 7, fd: 4, inode: 12, born: 3_000_000_004 },
            Event::Ended { who: 7 },
        ];
        assert_eq!(parse(text), wanted);
    }
}
