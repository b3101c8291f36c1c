//! What differs from run to run, under names that stay: `[ROOT]`, `[TIME]`, and for each id one of its own.
//!
//! Dates before 2020 are a transcript's own, and stay as they are.
//!
//! The runs of a root are `[RUN_A]`, `[RUN_B]` … in order of their ids, which is the order of their starts; messages are
//! `[MSG_A]`, `[MSG_B]` … in the order in which they come to the screen. A command may name them: `--parent [MSG_A]`.

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;
use run_agent_tests::Root;
use snapbox::Redactions;

/// What a pattern finds goes by the name: the group `redacted` of it, or all of it.
const PATTERNS: &[(&str, &str)] = &[
    ("[TIME]", r"\b20[2-9][0-9]-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z?"),
    ("[TIME]", r"(?m)^ *(?<redacted>[0-9]{2}:[0-9]{2}:[0-9]{2})"),
    ("[DATE]", r"\b20[2-9][0-9]-[0-9]{2}-[0-9]{2}\b"),
    ("[STAMP]", r"\b20[2-9][0-9]{5}-[0-9]{6}([0-9]{4}-[0-9]+-[0-9]+)?\b"),
    ("[TOOK]", r"\b(after|for|in) (?<redacted>[0-9.]+ ?(ms|s))\b"),
    ("[TOOK]", r"(\]|shell) +(?<redacted>[0-9.]+ ?(ms|s))\b"),
    ("[PID]", r#"(pid|pgid)"?:? ?"?(?<redacted>[0-9]+)"#),
    ("[PID]", r"\bprocess (?<redacted>[0-9]+)"),
    ("[TICKS]", r#"_ticks"?: ?"?(?<redacted>[0-9]+)"#),
    ("[MACHINE]", r#"(machine_id|boot_id|pid_namespace)"?: ?"(?<redacted>[^"]+)"#),
    ("[MILLIS]", r#""duration_ms":"?(?<redacted>[0-9]+)"#),
    ("[USER]", r"(person:|user |DONE, says )(?<redacted>[a-z_][-a-z0-9_]*)"),
    ("[BYTES]", r#"(at byte |"(freed_)?bytes":)(?<redacted>[0-9]+)"#),
    ("[BYTES]", r"\((?<redacted>[0-9]+) bytes\)"),
    ("[SIZE]", r"(?m)^(task|run|leftover|cache|rotation) .*?  (?<redacted>[0-9.]+ [KM]?i?B)  "),
    ("[SIZE]", r"(freed |free |deleted \()(?<redacted>[0-9.]+ [KM]?i?B)"),
    ("[BYTES]", r"\.damaged-\[STAMP\]-(?<redacted>[0-9]+)"),
    ("[CRC]", r#"crc32: "(?<redacted>[0-9a-f]+)"#),
    ("[SHORT_MSG]", r"[^-](?<redacted>PID[0-9]+-[0-9]{4})\b"),
    ("[VERSION]", r#"run-agent (?<redacted>[0-9]+\.[0-9]+\.[0-9]+[^"\n]*)"#),
];

pub(crate) struct Names {
    redactions: Redactions,
    /// Name and id, for commands that use a name.
    ids: Vec<(&'static str, String)>,
    runs: usize,
    messages: usize,
    message: Regex,
    /// What varies in width pushes the rest of its line about.
    padding: Regex,
}

impl Names {
    pub(crate) fn new(root: &Root) -> Self {
        let mut redactions = Redactions::new();
        redactions.insert("[ROOT]", root.path()).unwrap();
        redactions.insert("[HOME]", root.scratch()).unwrap();
        for (name, pattern) in PATTERNS {
            redactions.insert(name, Regex::new(pattern).unwrap()).unwrap();
        }
        Self {
            redactions,
            ids: Vec::new(),
            runs: 0,
            messages: 0,
            message: Regex::new(r"MSG-20[2-9][0-9]{5}-[0-9]{6}-[0-9]{9}-PID[0-9]+-[0-9]{4}").unwrap(),
            padding: Regex::new(r"(\[(RUN|MSG|SHORT)_[A-Z]+\]|\[TOOK\]) {2,}").unwrap(),
        }
    }

    /// A command with the ids that its names stand for.
    pub(crate) fn filled(&self, command: &str) -> String {
        self.ids.iter().fold(command.to_owned(), |text, (name, id)| text.replace(name, id))
    }

    /// Gives names to the runs that are there by now.
    pub(crate) fn meet_runs(&mut self, root: &Path) {
        let mut ids = BTreeSet::new();
        for project in entries(root) {
            for task in entries(&project) {
                ids.extend(entries(&task.join("runs")).into_iter().map(|run| name_of(&run)));
            }
        }
        for id in ids.into_iter().skip(self.runs) {
            let letters = letters(self.runs);
            self.runs += 1;
            // What the screen shows of a run: its process and counter.
            let short = id.splitn(3, '-').nth(2).unwrap().to_owned();
            let named_so = Regex::new(&format!(r"\brun (?<redacted>{short})\b")).unwrap();
            let name = named(format!("[SHORT_{letters}]"));
            self.redactions.insert(name, format!("[{short}]")).unwrap();
            self.redactions.insert(name, named_so).unwrap();
            self.give(format!("[RUN_{letters}]"), id);
        }
    }

    /// The text with names for what differs from run to run.
    pub(crate) fn redact(&mut self, text: &str) -> String {
        let new: Vec<String> = self.message.find_iter(text).map(|id| id.as_str().to_owned()).collect();
        for id in new {
            if self.ids.iter().all(|(_, known)| *known != id) {
                let letters = letters(self.messages);
                self.messages += 1;
                self.give(format!("[MSG_{letters}]"), id);
            }
        }
        self.padding.replace_all(&self.redactions.redact(text), "$1  ").into_owned()
    }

    fn give(&mut self, name: String, id: String) {
        let name = named(name);
        self.redactions.insert(name, id.clone()).unwrap();
        self.ids.push((name, id));
    }
}

/// The names live as long as the test, which is all of its process.
fn named(name: String) -> &'static str {
    Box::leak(name.into_boxed_str())
}

/// `A` … `Z`, `AA`, `AB` …: a name of snapbox has no digits.
fn letters(n: usize) -> String {
    let last = char::from(b'A' + u8::try_from(n % 26).unwrap());
    if n < 26 { last.to_string() } else { format!("{}{last}", letters(n / 26 - 1)) }
}

fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    let hidden = |path: &std::path::PathBuf| name_of(path).starts_with('.');
    let all = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    all.filter(|path| path.is_dir() && !hidden(path)).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
