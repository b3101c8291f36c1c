//! The power goes, for real: an ext4 file system on a loop device stops at once while processes write to a stream on it. It is
//! mounted again, which replays its journal, and the stream there keeps what it promised. The list of what was acknowledged is
//! taken before the file system stops.

mod script;
mod shutdown;
mod volume;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use run_agent_core::store::Stream;

use self::shutdown::shutdown;
use self::volume::{Volume, apart, impossible};
use super::dice::Dice;
use super::{Scene, scratch};

const PART: &str = "RUN_AGENT_TEST_PART";
const WRITERS: u64 = 3;
/// After so many power cuts a new stream begins, so that none grows without an end.
const CUTS_OF_A_STREAM: u64 = 10;
/// Nothing takes so long on a machine that is well.
const DEADLINE: Duration = Duration::from_secs(60);

/// A kind of store.
pub struct Kind<'a> {
    /// The test's own name, and the variable that tells a child where the stream is.
    pub test: &'a str,
    pub variable: &'a str,
    /// Makes the folder of the stream's task below a root.
    pub make: fn(&Path),
    pub open: fn(&Path) -> Arc<dyn Stream>,
    /// May what stands behind damage be read, above what was promised?
    pub holes: bool,
    /// The writers acknowledge what they never had synced.
    pub lies: bool,
}

/// Cuts the power again and again. What a child has to do of it is done here as well.
///
/// # Panics
/// When a stream does not keep what it promised, with the seed; when writers that lie are not caught.
pub fn cuts(kind: &Kind<'_>) {
    let Some(root) = Scene::is_child(kind.variable) else { return begin(kind) };
    let part = std::env::var(PART).unwrap();
    let open = || (kind.open)(&root);
    match part.split_once(' ') {
        Some(("write", writer)) => script::write(&*open(), writer, kind.lies),
        Some(("check", folder)) => {
            let list = |name| Path::new(folder).join(name);
            let seen = script::check(
                &open,
                &script::ids(&list("acknowledged")),
                &script::ids(&list("seen")),
                kind.holes,
            );
            match seen {
                Ok(seen) => std::fs::write(list("seen"), seen.join("\n")).unwrap(),
                Err(what) => println!("\nwrong {what}"),
            }
        }
        _ => in_namespace(kind, &root),
    }
}

fn begin(kind: &Kind<'_>) {
    if let Some(why) = impossible() {
        eprintln!("skipped: {why}");
        return;
    }
    let folder = scratch();
    let plain = kind.again(folder.path(), "all");
    let status = apart(&plain).status().unwrap();
    assert!(status.success(), "see above");
}

fn in_namespace(kind: &Kind<'_>, folder: &Path) {
    let volume = match Volume::make(folder) {
        Ok(volume) => volume,
        Err(error) => {
            eprintln!("skipped: no image can be mounted here: {error}");
            return;
        }
    };
    let seed = Dice::seed();
    let mut rig = Rig { kind, folder, volume, dice: Dice::new(seed) };
    let deep = std::env::var_os("RUN_AGENT_DEEP").is_some();
    let cuts = if deep && !kind.lies { 1_000 } else { 15 };
    let began = Instant::now();
    let (mut acknowledged, mut there) = (0, 0);
    for cut in 0..cuts {
        match rig.cut(cut) {
            Ok(counts) => (acknowledged, there) = (acknowledged + counts.0, there + counts.1),
            Err(what) if kind.lies => {
                println!("caught at power cut {cut}: {what}");
                assert!(what.contains("acknowledged as durable"), "{what}");
                return;
            }
            Err(what) => panic!("seed {seed}, power cut {cut}: {what}"),
        }
    }
    let each = began.elapsed().as_millis() / u128::from(cuts);
    println!("{cuts} power cuts, {each} ms each; {acknowledged} messages acknowledged, {there} more there");
    assert!(!kind.lies, "writers that lie were not caught");
    assert!(acknowledged as u64 > cuts, "little was acknowledged, so that little was put to the test");
}

impl Kind<'_> {
    fn again(&self, root: &Path, part: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", self.test, "--nocapture", "--test-threads", "1"]);
        command.env(self.variable, root).env(PART, part);
        command
    }
}

/// What was acknowledged so far, and who waits for more.
#[derive(Default)]
struct Acknowledged {
    ids: Mutex<Vec<String>>,
    more: Condvar,
}

/// Writers that end with the test, however it ends.
struct Writers(Vec<Child>);

impl Writers {
    fn end(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.end();
    }
}

struct Rig<'a> {
    kind: &'a Kind<'a>,
    /// Beside the image.
    folder: &'a Path,
    volume: Volume,
    dice: Dice,
}

impl Rig<'_> {
    /// One power cut. How many messages were acknowledged, and how many more are there.
    fn cut(&mut self, cut: u64) -> Result<(usize, usize), String> {
        let root = self.volume.at.join(format!("root-{}", cut / CUTS_OF_A_STREAM));
        let seen = self.folder.join("seen");
        if !root.exists() {
            for old in std::fs::read_dir(&self.volume.at).unwrap().map(|entry| entry.unwrap().path()) {
                if old.file_name().is_some_and(|name| name.to_string_lossy().starts_with("root-")) {
                    std::fs::remove_dir_all(old).unwrap();
                }
            }
            std::fs::create_dir(&root).unwrap();
            (self.kind.make)(&root);
            // The task was there for long.
            rustix::fs::syncfs(std::fs::File::open(&self.volume.at).unwrap()).unwrap();
            std::fs::write(&seen, "").unwrap();
        }
        let before = script::ids(&seen).len();
        let acknowledged = self.write_until_it_goes(cut, &root);
        self.volume.unmount().unwrap();
        self.volume.mount().unwrap();
        std::fs::write(self.folder.join("acknowledged"), acknowledged.join("\n")).unwrap();
        let mut check = self.kind.again(&root, &format!("check {}", self.folder.display()));
        let output = check.env("RUN_AGENT_FAKE_BOOT_ID", format!("after {cut}")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        if let Some(wrong) = said.lines().find_map(|line| line.strip_prefix("wrong ")) {
            return Err(wrong.to_owned());
        }
        if !output.status.success() {
            return Err(format!(
                "the check itself failed: {said}{}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        let there = script::ids(&seen).len() - before;
        Ok((acknowledged.len(), there.saturating_sub(acknowledged.len() + 1)))
    }

    /// What was acknowledged before the file system stopped.
    fn write_until_it_goes(&mut self, cut: u64, root: &Path) -> Vec<String> {
        let acknowledged = Arc::new(Acknowledged::default());
        let mut writers = Writers(Vec::new());
        let mut readers = Vec::new();
        for writer in 0..WRITERS {
            let mut command = self.kind.again(root, &format!("write {cut}.{writer}"));
            command.env("RUN_AGENT_FAKE_BOOT_ID", format!("before {cut}"));
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let (out, to) = (child.stdout.take().unwrap(), acknowledged.clone());
            writers.0.push(child);
            readers.push(std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if let Some(id) = line.strip_prefix("acked ") {
                        to.ids.lock().unwrap().push(id.to_owned());
                        to.more.notify_one();
                    }
                }
            }));
        }
        let wanted = 1 + self.dice.pick(80);
        let ids = acknowledged.ids.lock().unwrap();
        let (ids, late) =
            acknowledged.more.wait_timeout_while(ids, DEADLINE, |ids| ids.len() < wanted).unwrap();
        assert!(!late.timed_out(), "{} of {wanted} messages were acknowledged in {DEADLINE:?}", ids.len());
        drop(ids);
        // Not always just behind an acknowledgement.
        std::thread::sleep(Duration::from_micros(self.dice.roll(4_000)));
        let promised = acknowledged.ids.lock().unwrap().clone();
        shutdown(&self.volume.at).unwrap();
        writers.end();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        promised
    }
}
