//! Stand-ins for the programs of real agents: a script under the program's own name, which the configuration's types find
//! on PATH, and which prints what the real one would print, with pauses that the test ends.
//!
//! ```ignore
//! let root = Root::made();
//! StandIn::of(&root, "claude")
//!     .starts(Script::new().prints(&claude::text("at work")).waits_for("go"))
//!     .starts(Script::new().prints(&claude::result("done", 1200, 34, 0.005)).exits(0))
//!     .install();
//! ```

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Root;

/// A program that stands in for another one.
#[derive(Debug)]
#[must_use]
pub struct StandIn {
    bin: PathBuf,
    /// Where its starts are counted, and where pauses look for what ends them.
    folder: PathBuf,
    program: String,
    starts: Vec<Script>,
}

impl StandIn {
    pub fn of(root: &Root, program: &str) -> Self {
        Self { bin: root.bin(), folder: root.scratch(), program: program.to_owned(), starts: Vec::new() }
    }

    /// What its next start does. The last script given is that of every later start, too.
    pub fn starts(mut self, script: Script) -> Self {
        self.starts.push(script);
        self
    }

    /// Puts it on the PATH of every command of the root.
    pub fn install(self) {
        let Self { bin, folder, program, starts } = self;
        std::fs::create_dir_all(&bin).unwrap();
        let count = quoted(&folder.join(format!("{program}.starts")));
        let last = starts.len();
        let cases: String = starts
            .iter()
            .zip(1..)
            .map(|(script, n)| {
                let which = if n == last { "*".to_owned() } else { n.to_string() };
                format!("{which})\n{}\n;;\n", script.text)
            })
            .collect();
        let text = format!(
            "#!/bin/sh\nif [ \"$1\" = --version ]; then echo '99.0.0 (stand-in)'; exit; fi\ncat > /dev/null\nhere={}\n\
             echo x >> {count}\ncase $(wc -l < {count} | tr -d ' ') in\n{cases}esac\n",
            quoted(&folder)
        );
        let path = bin.join(&program);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// What one start does, in order; it ends with 0 unless it says otherwise.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Script {
    text: String,
}

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lines on stdout, each with its end.
    pub fn prints(self, lines: &str) -> Self {
        let lines = quoted(lines);
        self.does(&format!("printf '%s\\n' {lines}"))
    }

    /// As they are, without an end.
    pub fn prints_part(self, text: &str) -> Self {
        let text = quoted(text);
        self.does(&format!("printf '%s' {text}"))
    }

    /// Lines on stderr.
    pub fn says(self, lines: &str) -> Self {
        let lines = quoted(lines);
        self.does(&format!("printf '%s\\n' {lines} >&2"))
    }

    /// A whole recording.
    pub fn plays(self, recording: &Path) -> Self {
        let recording = quoted(recording);
        self.does(&format!("cat {recording}"))
    }

    /// Until the test makes a file of this name in the root's scratch folder.
    pub fn waits_for(self, name: &str) -> Self {
        self.does(&format!("until [ -e \"$here/{name}\" ]; do sleep 0.02; done"))
    }

    /// Any words of a shell.
    pub fn does(mut self, command: &str) -> Self {
        self.text.push_str(command);
        self.text.push('\n');
        self
    }

    /// The agent's own way to say that the work is finished.
    pub fn says_done(self) -> Self {
        self.does("run-agent done")
    }

    pub fn exits(self, code: u8) -> Self {
        self.does(&format!("exit {code}"))
    }
}

fn quoted(text: impl AsRef<std::ffi::OsStr>) -> String {
    format!("'{}'", text.as_ref().to_string_lossy().replace('\'', "'\\''"))
}

/// Lines as `claude -p --output-format stream-json` prints them, cut to what is read.
pub mod claude {
    use serde_json::json;

    pub const SESSION: &str = "bdf0922d-fb2c-4821-903b-d0d6c811fc3d";

    #[must_use]
    pub fn init() -> String {
        json!({ "type": "system", "subtype": "init", "session_id": SESSION, "model": "claude-opus-5-5" })
            .to_string()
    }

    #[must_use]
    pub fn text(text: &str) -> String {
        let content = json!([{ "type": "text", "text": text }]);
        json!({ "type": "assistant", "message": { "content": content }, "session_id": SESSION }).to_string()
    }

    /// A call of its shell, which went well.
    #[must_use]
    pub fn tool(command: &str) -> String {
        let id = "toolu_1";
        let used = json!([{ "type": "tool_use", "id": id, "name": "Bash", "input": { "command": command } }]);
        let ended = json!([{ "type": "tool_result", "tool_use_id": id, "content": "", "is_error": false }]);
        [("assistant", used), ("user", ended)]
            .map(|(kind, content)| {
                json!({ "type": kind, "message": { "content": content }, "session_id": SESSION }).to_string()
            })
            .join("\n")
    }

    /// A request that failed with this status, and is tried again.
    #[must_use]
    pub fn retry(attempt: u32, status: u16, word: &str) -> String {
        json!({
            "type": "system", "subtype": "api_retry", "attempt": attempt, "max_retries": 10, "retry_delay_ms": 2000,
            "error_status": status, "error": word, "session_id": SESSION,
        })
        .to_string()
    }

    /// The last line of a run that went well.
    #[must_use]
    pub fn result(text: &str, input: u64, output: u64, cost_usd: f64) -> String {
        json!({
            "type": "result", "subtype": "success", "is_error": false, "result": text, "session_id": SESSION,
            "total_cost_usd": cost_usd, "usage": { "input_tokens": input, "output_tokens": output },
        })
        .to_string()
    }

    /// The last lines of a run whose request was refused for good.
    #[must_use]
    pub fn refused(status: u16, word: &str, text: &str) -> String {
        let content = json!([{ "type": "text", "text": text }]);
        let message = json!({ "model": "<synthetic>", "content": content });
        let said =
            json!({ "type": "assistant", "message": message, "error": word, "is_api_error_message": true });
        let end = json!({
            "type": "result", "subtype": "success", "is_error": true, "api_error_status": status, "result": text,
            "session_id": SESSION, "total_cost_usd": 0, "usage": { "input_tokens": 0, "output_tokens": 0 },
        });
        format!("{said}\n{end}")
    }

    /// The account's limit is reached until that second of the epoch; [`refused`] follows it.
    #[must_use]
    pub fn limited(until: i64) -> String {
        json!({ "type": "rate_limit_event", "rate_limit_info": { "status": "rejected", "resetsAt": until } })
            .to_string()
    }
}
