//! A folder of a segmented stream whose files were changed: it opens, is read, takes a message and is read again. Nothing
//! panics, no message is read that was not written, and what was appended afterwards is read back.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::{Cursor, Draft, Durability, Kind, Store, Stream};
use run_agent_fuzz::stream;
use run_agent_store_segmented::SegmentedStore;

/// Messages of the stream before its files are changed.
const MESSAGES: usize = 12;

fuzz_target!(|bytes: &[u8]| {
    let root = Root::make();
    let _ = root.check(&mut Unstructured::new(bytes));
    let _ = fs::remove_dir_all(&root.0);
});

struct Root(PathBuf);

impl Root {
    /// In memory where there is such a place: one folder a process, made anew each time.
    fn make() -> Self {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let root = Self(place.join(format!("run-agent-fuzz-recover-{}", std::process::id())));
        let _ = fs::remove_dir_all(&root.0);
        fs::create_dir_all(root.folder().parent().expect("it lies in a task's folder"))
            .expect("it can be made");
        root
    }

    fn folder(&self) -> PathBuf {
        Layout::new(self.0.clone()).segments(&stream(1))
    }

    fn open(&self) -> Arc<dyn Stream> {
        let options = Options { rotate_bytes: 1200, ..Options::default() };
        SegmentedStore::new(Layout::new(self.0.clone()), options)
            .open(&stream(1))
            .expect("its folder is there")
    }

    fn check(&self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut written = BTreeMap::new();
        let first = self.open();
        for n in 0..MESSAGES {
            let durability = if n == MESSAGES / 2 { Durability::Always } else { Durability::None };
            self.post(&*first, &format!("{n} {}", "x".repeat(n * 17)), durability, &mut written);
        }
        // A page is only ever changed as a whole: who cuts one that is mapped ends the process that looks at it.
        drop(first);
        self.change(u)?;

        let reader = self.open();
        // A page that was changed by hand may tell of anything; a message that is not there is never read.
        check_read(&*reader, &written);
        let again = self.open();
        let draft = vec![draft("after")];
        let Ok(posted) = again.append(draft, Durability::None) else {
            // Refused with a reason: nothing is there that was not.
            check_read(&*again, &written);
            return Ok(());
        };
        for entry in posted {
            written.insert(entry.message.id.to_string(), entry.message.content.body);
        }
        for stream in [&again, &self.open()] {
            assert!(check_read(&**stream, &written).iter().any(|body| body == "after"), "it is read back");
        }
        let _ = again.verify();
        assert!(check_read(&*self.open(), &written).iter().any(|body| body == "after"), "and stays");
        Ok(())
    }

    fn post(
        &self,
        stream: &dyn Stream,
        body: &str,
        durability: Durability,
        written: &mut BTreeMap<String, String>,
    ) {
        let entry = stream.append(vec![draft(body)], durability).expect("a sound stream takes it").remove(0);
        written.insert(entry.message.id.to_string(), entry.message.content.body);
    }

    /// Changes files, cuts and fills them, removes them, puts bytes in their place or one in the place of another.
    fn change(&self, u: &mut Unstructured<'_>) -> Result<()> {
        for _ in 0..u.int_in_range(1..=4)? {
            let mut names: Vec<PathBuf> = fs::read_dir(self.folder())
                .expect("it is there")
                .map(|name| name.expect("it has a name").path())
                .collect();
            names.retain(|path| path.extension().is_none_or(|end| end != "lock"));
            names.sort();
            let Some(path) = names.get(u.choose_index(names.len().max(1))?) else { return Ok(()) };
            let is_page = path.ends_with("ctl");
            let mut bytes = fs::read(path).unwrap_or_default();
            match u.int_in_range(0..=6)? {
                0 => drop(fs::remove_file(path)),
                1 => {
                    bytes.truncate(u.choose_index(bytes.len() + 1)?);
                    put(path, &bytes);
                }
                2 => {
                    let at = u.choose_index(bytes.len().max(1))?;
                    let piece: Vec<u8> = u.arbitrary()?;
                    for (place, byte) in bytes.iter_mut().skip(at).zip(piece) {
                        *place = byte;
                    }
                    put(path, &bytes);
                }
                3 => {
                    let bit = u.choose_index((bytes.len() * 8).max(1))?;
                    if let Some(byte) = bytes.get_mut(bit / 8) {
                        *byte ^= 1 << (bit % 8);
                    }
                    put(path, &bytes);
                }
                4 if !is_page => put(path, u.arbitrary::<Vec<u8>>()?.as_slice()),
                5 if !is_page => {
                    let other = &names[u.choose_index(names.len())?];
                    put(path, &fs::read(other).unwrap_or_default());
                }
                // The machine was started anew, as far as the page tells.
                4.. => drop(fs::remove_file(self.folder().join("ctl"))),
                _ => {}
            }
        }
        Ok(())
    }
}

fn draft(body: &str) -> Draft {
    let key = stream(1);
    Draft::new(Kind::FACT, key.project, key.task, body)
}

fn put(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("put");
    fs::write(&new, bytes).expect("it can be written");
    fs::rename(new, path).expect("it can be put in place");
}

/// The bodies that are read, each of which was written so.
fn check_read(stream: &dyn Stream, written: &BTreeMap<String, String>) -> Vec<String> {
    let Ok(page) = stream.read(Cursor::START, 10 * MESSAGES) else { return Vec::new() };
    let mut bodies = Vec::new();
    for entry in page.entries {
        let body = entry.message.content.body;
        assert_eq!(written.get(entry.message.id.as_str()), Some(&body), "nobody wrote this");
        bodies.push(body);
    }
    bodies
}
