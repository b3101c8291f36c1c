//! What must be known of the machine to judge a figure. Its name is no part of that.

use std::fmt;
use std::path::Path;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    date: String,
    processor: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    /// Of the folder in which everything is measured.
    file_system: String,
}

impl Machine {
    pub(crate) fn look(folder: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        let kernel = read("/proc/sys/kernel/osrelease");
        Self {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            processor: value(&read("/proc/cpuinfo"), "model name")
                .unwrap_or_else(|| "unknown processor".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: (kib + (1 << 19)) >> 20,
            kernel: kernel.trim().splitn(3, '.').take(2).collect::<Vec<_>>().join("."),
            file_system: file_system(&read("/proc/self/mounts"), folder),
        }
    }
}

/// The type of the innermost mount that holds the folder.
fn file_system(mounts: &str, folder: &Path) -> String {
    let mount = |line: &str| {
        let mut words = line.split_whitespace().skip(1).map(str::to_owned);
        Some((words.next()?, words.next()?))
    };
    let holding = mounts.lines().filter_map(mount).filter(|(point, _)| folder.starts_with(point));
    // Of two mounts on one point the later one is seen.
    holding
        .max_by_key(|(point, _)| point.len())
        .map_or_else(|| "unknown file system".to_owned(), |(_, kind)| kind)
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, processor, cores, memory_gib, kernel, file_system } = self;
        write!(f, "{date}; {processor}, {cores} cores, {memory_gib} GiB; Linux {kernel}, {file_system}")
    }
}

#[test]
fn the_innermost_mount_tells_the_file_system() {
    let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp2 xfs rw 0 0\n";
    assert_eq!(file_system(mounts, Path::new("/tmp/x")), "tmpfs");
    assert_eq!(file_system(mounts, Path::new("/home")), "ext4");
    assert_eq!(file_system("", Path::new("/home")), "unknown file system");
}
