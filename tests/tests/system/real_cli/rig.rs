//! The real CLIs from npm, the scripted endpoint that they talk to, and a root that knows them.

use std::fs::File;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use run_agent_core::{Message, RunId};
use run_agent_tests::scripted::Scripted;
use run_agent_tests::{Done, Root, binary};

/// One CLI, at the version that was tried.
#[derive(Debug)]
pub(super) struct Cli {
    pub(super) name: &'static str,
    package: &'static str,
    version: &'static str,
    /// Where below the endpoint its API begins.
    api: &'static str,
    /// What it needs so that it talks to nobody else.
    settings: &'static str,
    /// Another CLI, whose agents are its children.
    pub(super) other: &'static str,
}

pub(super) const CLAUDE: Cli = Cli {
    name: "claude",
    package: "@anthropic-ai/claude-code",
    version: "2.1.329",
    api: "",
    settings: r#"env = { CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC = "1", CLAUDE_CODE_MAX_RETRIES = "2" }"#,
    other: "codex",
};

pub(super) const CODEX: Cli = Cli {
    name: "codex",
    package: "@openai/codex",
    version: "0.169.0",
    api: "/v1",
    settings: r#"args = ["-c", "analytics.enabled=false", "--disable", "plugins"]"#,
    other: "gemini",
};

pub(super) const GEMINI: Cli = Cli {
    name: "gemini",
    package: "@google/gemini-cli",
    version: "0.61.0",
    api: "",
    settings: "",
    other: "opencode",
};

pub(super) const OPENCODE: Cli = Cli {
    name: "opencode",
    package: "opencode-ai",
    version: "1.18.33",
    api: "/v1",
    settings: r#"model = "xai/grok-4.7"
  env = { OPENCODE_DISABLE_MODELS_FETCH = "1", OPENCODE_DISABLE_LSP_DOWNLOAD = "1", OPENCODE_EXPERIMENTAL_BASH_DEFAULT_TIMEOUT_MS = "6000", CLAUDE_CODE_MAX_RETRIES = "2" }"#,
    other: "claude",
};

const ALL: [&Cli; 4] = [&CLAUDE, &CODEX, &GEMINI, &OPENCODE];

/// Signs in with a key, sends nothing but its requests, each three times at the most, and looks for no file that a word
/// with an `@` could mean: those of the scripts would be any that has their word in its name.
const GEMINI_SETTINGS: &str = r#"{"security":{"auth":{"selectedType":"gemini-api-key"}},
"context":{"fileFiltering":{"enableRecursiveFileSearch":false}},
"general":{"enableAutoUpdate":false,"maxAttempts":3},"privacy":{"usageStatisticsEnabled":false}}"#;

/// How long the CLIs' shell tools wait where a test does not want to.
const IMPATIENT_S: u64 = 6;

/// An account that every system has and that owns nothing.
pub(super) const NOBODY: u32 = 65_534;

impl Cli {
    fn block(&self, port: &str) -> String {
        let Self { name, api, settings, .. } = self;
        format!(
            "agent \"{name}\" {{\n  token = \"k\"\n  base_url = \"http://127.0.0.1:{port}{api}\"\n  {settings}\n}}\n"
        )
    }

    fn is_in(&self, modules: &Path) -> bool {
        let text = std::fs::read_to_string(modules.join(self.package).join("package.json"));
        let json = text.ok().and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        json.is_some_and(|json| json["version"] == self.version)
    }
}

/// Where the CLIs are, installed once; a word where they are not to be had.
fn installed() -> Result<PathBuf, String> {
    let target = binary().ancestors().nth(2).unwrap().to_owned();
    let folder = target.join("agent-clis");
    std::fs::create_dir_all(&folder).unwrap();
    // Tests are processes of their own, and npm bears only one of itself in a folder.
    let lock = File::create(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    let modules = folder.join("node_modules");
    if !ALL.iter().all(|cli| cli.is_in(&modules)) {
        let done = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--prefix"])
            .arg(&folder)
            .args(ALL.iter().map(|cli| format!("{}@{}", cli.package, cli.version)))
            .output();
        if !done.is_ok_and(|done| done.status.success()) {
            return Err("npm cannot install the CLIs".to_owned());
        }
    }
    Ok(modules.join(".bin"))
}

/// A root whose agents are the CLIs, and the endpoint.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) cli: &'static Cli,
    pub(super) root: Root,
    endpoint: Scripted,
    programs: PathBuf,
    user: Option<u32>,
    impatient: bool,
}

impl Rig {
    /// `None`, with a word on stderr, where something is not to be had. `more` is added to the configuration.
    pub(super) fn of(cli: &'static Cli, more: &str) -> Option<Self> {
        Self::or_a_word(Self::made(cli, &[cli.name], more))
    }

    /// With an agent after the CLI that says DONE at once.
    pub(super) fn followed(cli: &'static Cli) -> Option<Self> {
        let next = "agent \"next\" {\n  type = \"command\"\n  argv = [\"sh\", \"-c\", \"run-agent done\"]\n}";
        Self::or_a_word(Self::made(cli, &[cli.name, "next"], next))
    }

    fn or_a_word(made: Result<Self, String>) -> Option<Self> {
        match made {
            Ok(rig) => Some(rig),
            Err(why) => {
                eprintln!("skipped: {why}");
                None
            }
        }
    }

    fn made(cli: &'static Cli, order: &[&str], more: &str) -> Result<Self, String> {
        if std::env::var_os("RUN_AGENT_DEEP").is_none() {
            return Err("real agents are part of `cargo xtask deep`".to_owned());
        }
        let endpoint = Scripted::serve()?;
        let programs = installed()?;
        let root = Root::made();
        let gemini = root.scratch().join(".gemini");
        std::fs::create_dir_all(&gemini).unwrap();
        std::fs::write(gemini.join("settings.json"), GEMINI_SETTINGS).unwrap();
        let blocks: String = ALL.iter().map(|cli| cli.block(&endpoint.port)).collect();
        let text =
            format!("agents {{\n  order = {order:?}\n}}\nstop {{\n  grace = \"5s\"\n}}\n{more}\n{blocks}");
        std::fs::write(root.path().join("config.hcl"), text).unwrap();
        Ok(Self { cli, root, endpoint, programs, user: None, impatient: false })
    }

    /// As an ordinary user, whose all of the root is from now on. `None`, with a word, where this process may not become one.
    pub(super) fn owned_by(mut self, user: u32) -> Option<Self> {
        for entry in walk(&self.root.scratch()) {
            if let Err(error) = chown(&entry, Some(user), Some(user)) {
                eprintln!("skipped: cannot become another user: {error}");
                return None;
            }
        }
        self.user = Some(user);
        let reached = |program: PathBuf| {
            Command::new("test")
                .arg("-x")
                .arg(program)
                .uid(user)
                .gid(user)
                .status()
                .is_ok_and(|it| it.success())
        };
        if !reached(binary()) || !reached(self.programs.join(self.cli.name)) {
            eprintln!("skipped: an ordinary user cannot reach the target folder");
            return None;
        }
        Some(self)
    }

    /// With shell tools that wait for seconds instead of minutes, where that can be set.
    pub(super) fn impatient(mut self) -> Self {
        let settings = self.root.scratch().join(".gemini/settings.json");
        let more = format!(r#"{{"tools":{{"shell":{{"inactivityTimeout":{IMPATIENT_S}}}}},"#);
        std::fs::write(settings, GEMINI_SETTINGS.replacen('{', &more, 1)).unwrap();
        self.impatient = true;
        self
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.root.command(args);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.programs.display()));
        if self.impatient {
            let limit_ms = (IMPATIENT_S * 1000).to_string();
            command.env("BASH_DEFAULT_TIMEOUT_MS", &limit_ms);
            command.env("OPENCODE_EXPERIMENTAL_BASH_DEFAULT_TIMEOUT_MS", &limit_ms);
        }
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).output().unwrap(), args)
    }

    pub(super) fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "{done:?}");
        done.stdout.trim_end_matches('\n').to_owned()
    }

    /// A loop over this prompt, to its end.
    pub(super) fn task(&self, prompt: &str) -> Done {
        self.run(&["task", "--project", "p", "--prompt", prompt])
    }

    /// A run that goes on by itself.
    pub(super) fn detached(&self, prompt: &str) -> RunId {
        let args = ["job", "--project", "p", "--agent", self.cli.name, "--prompt", prompt, "--detach"];
        RunId::parse(&self.ok(&args)).unwrap()
    }

    /// A loop that goes on by itself; its task's id.
    pub(super) fn detached_task(&self, prompt: &str) -> String {
        self.ok(&["task", "--project", "p", "--prompt", prompt, "--detach"])
    }

    pub(super) fn stop(&self, task: &str) {
        let _ = self.ok(&["stop", "--project", "p", "--task", task, "--force"]);
    }

    /// A message of this type with these words in it.
    pub(super) fn told(&self, kind: &str, words: &str) -> Option<Message> {
        self.messages()
            .into_iter()
            .find(|m| m.content.kind.as_str() == kind && format!("{m:?}").contains(words))
    }

    /// Waits until [`Rig::told`]. Some CLIs take their time to give up, and to fall silent on a busy machine.
    pub(super) fn hears(&self, kind: &str, words: &str) {
        let deadline = Instant::now() + Duration::from_secs(150);
        while self.told(kind, words).is_none() {
            assert!(Instant::now() < deadline, "no {kind} with `{words}`\n{}", self.state());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        self.root.messages(&self.root.only_task())
    }

    /// That so many answers of the endpoint, with these counts of input, output and cached tokens, are the run's usage.
    pub(super) fn assert_usage(&self, run: &RunId, answers: u64, [input, output, cached]: [u64; 3]) {
        let view = self.root.view(&self.root.only_task());
        let run = view.run(run).unwrap();
        // Gemini asks once more, which model is to do the work.
        let answers = answers + u64::from(run.agent == "gemini");
        // Anthropic counts cached tokens beside the input, the others in it.
        let input = if run.agent == "claude" { input + cached } else { input };
        let told = (run.usage.input_tokens, run.usage.output_tokens, run.usage.cached_tokens);
        assert_eq!(
            told,
            (answers * input, answers * output, answers * cached),
            "{}: {}",
            run.agent,
            self.state()
        );
    }

    /// That the costs of the task are the sum of those in its agents' streams.
    pub(super) fn assert_cost_is_what_it_printed(&self) {
        let name = self.root.only_task();
        let view = self.root.view(&name);
        let lines = view.task().runs.keys().flat_map(|run| {
            let text = std::fs::read_to_string(self.root.tree().run(&name, run).stdout()).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>()
        });
        let printed: f64 = match self.cli.name {
            // Of a session, each run tells what it cost so far.
            "claude" => lines.filter_map(|line| line["total_cost_usd"].as_f64()).fold(0.0, f64::max),
            "opencode" => lines.filter_map(|line| line["part"]["cost"].as_f64()).sum(),
            _ => 0.0,
        };
        assert_eq!(view.task().usage.cost_usd.micros, (printed * 1e6).round() as u64, "{}", self.state());
    }

    /// What there is to see when something went wrong.
    pub(super) fn state(&self) -> String {
        let notes = self.endpoint.notes().join("\n");
        let told = |m: Message| format!("{} {}", m.content.kind, m.content.body);
        let bus: Vec<String> = self.messages().into_iter().map(told).collect();
        format!("{}\n{notes}", bus.join("\n"))
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            all.extend(walk(&entry.path()));
        } else {
            all.push(entry.path());
        }
    }
    all
}
