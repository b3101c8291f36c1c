//! Versions of agents' programs: asked aside, kept, told of, and warned of when too old. The programs are stand-ins.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use run_agent_core::RunId;
use run_agent_core::world::RunStatus;
use run_agent_tests::{Done, Root, alive, kill, name, processes_of, supervisor_ends, text_of, until};

/// A root beside a folder of programs that stands first on PATH.
struct Scene {
    root: Root,
    programs: PathBuf,
}

impl Scene {
    /// `version`: what `codex` does when it is asked; `work`: what it does as an agent.
    fn new(version: &str, work: &str) -> Self {
        let root = Root::made();
        let programs = root.scratch().join("programs");
        std::fs::create_dir(&programs).unwrap();
        let scene = Self { root, programs };
        scene.install(version, work);
        scene
    }

    /// Each question leaves a line in `asked`.
    fn install(&self, version: &str, work: &str) {
        let (new, path) = (self.programs.join("new"), self.programs.join("codex"));
        let script = format!(
            "#!/bin/sh\nhere={}\nif [ \"$1\" = --version ]; then\n  echo \"$$ ${{JRUN_ID-none}}\" >>\"$here/asked\"\n  {version}\n  exit\nfi\n{work}\n",
            self.root.scratch().display()
        );
        std::fs::write(&new, script).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.root.command(args);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.programs.display())).env("CODEX_API_KEY", "k");
        command
    }

    fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).output().unwrap(), args)
    }

    /// A run of the stand-in.
    fn job(&self, task: &str) -> RunId {
        let name = name(task);
        let args =
            ["job", "--project", "p", "--task", name.task.as_str(), "--agent", "codex", "--prompt", "x"];
        let done = self.run(&[&args[..], &["--detach"]].concat());
        assert_eq!(done.code, 0, "{done:?}");
        RunId::parse(done.stdout.trim()).unwrap()
    }

    fn ends(&self, task: &str, run: &RunId) -> RunStatus {
        let view = || self.root.view(&name(task)).run(run).map(run_agent_core::world::Run::status);
        let over = |status: &RunStatus| !matches!(status, RunStatus::Queued | RunStatus::Running);
        until("the run ends", || view().filter(over), || format!("{:?}", view()))
    }

    fn version_of(&self, task: &str, run: &RunId) -> Option<String> {
        let view = self.root.view(&name(task));
        view.run(run).and_then(|run| run.agent_version()).map(str::to_owned)
    }

    fn warnings(&self, task: &str) -> Vec<String> {
        let messages = self.root.messages(&name(task)).into_iter();
        let warnings = messages.filter(|message| message.content.kind.as_str() == "WARNING");
        warnings.map(|message| message.content.body).collect()
    }

    fn questions(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.root.scratch().join("asked")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What is kept of answers.
    fn kept(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.root.path().join(".run-agent/versions")).into_iter().flatten();
        let hidden = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
        let files = files.flatten().map(|entry| entry.path());
        files.filter(|path| path.extension().is_none() && !hidden(path)).collect()
    }

    fn is_kept(&self) {
        until("the answer is kept", || self.kept().pop(), || format!("{:?}", self.questions()));
    }

    /// A gate that the stand-in waits at.
    fn gate(&self) -> PathBuf {
        let gate = self.root.scratch().join("gate");
        assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
        gate
    }
}

/// Waits at the gate, without a process more.
const AT_GATE: &str = "read line <\"$here/gate\"";

#[test]
fn the_first_run_has_the_program_asked_and_the_next_one_starts_with_the_answer() {
    let scene = Scene::new("echo codex-cli 0.63.0", AT_GATE);
    let gate = scene.gate();
    let first = scene.job("first");
    scene.is_kept();
    std::fs::write(&gate, "go\n").unwrap();
    scene.ends("first", &first);
    let second = scene.job("first");
    std::fs::write(&gate, "go\n").unwrap();
    scene.ends("first", &second);
    assert_eq!(scene.version_of("first", &first), None);
    assert_eq!(scene.version_of("first", &second).as_deref(), Some("0.63.0"));
    let questions = scene.questions();
    assert_eq!(questions.len(), 1, "{questions:?}");
    assert!(questions[0].ends_with(" none"), "it is no process of the run: {questions:?}");
    let info = std::fs::read_to_string(scene.root.tree().run(&name("first"), &second).info()).unwrap();
    assert!(info.contains("agent_version: \"0.63.0\""), "{info}");
    assert_eq!(scene.warnings("first"), [""; 0]);
    for run in [first, second] {
        let run = scene.root.tree().run(&name("first"), &run);
        let printed = [run.stdout(), run.stderr(), run.supervisor_log()]
            .map(|path| std::fs::read_to_string(path).unwrap());
        assert!(printed.iter().all(|text| !text.contains("codex-cli")), "{printed:?}");
    }
}

#[test]
fn of_many_runs_that_start_at_once_one_asks() {
    // A pipe's one line would be one of many readers' alone, and its end all the others'.
    let at_work = "until [ -e \"$here/work\" ]; do sleep 0.05; done";
    let scene = Scene::new("read line <\"$here/gate\"; echo 0.63.0", at_work);
    let gate = scene.gate();
    let work = scene.root.scratch().join("work");
    let runs: Vec<RunId> = std::thread::scope(|scope| {
        let start = || scope.spawn(|| scene.job("many"));
        let started: Vec<_> = (0..8).map(|_| start()).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    std::fs::write(&gate, "go\n").unwrap();
    scene.is_kept();
    assert_eq!(scene.questions().len(), 1, "{:?}", scene.questions());
    std::fs::write(&work, "").unwrap();
    for run in &runs {
        scene.ends("many", run);
    }
}

#[test]
fn a_program_that_hangs_delays_no_end_and_is_gone_with_the_run() {
    let scene = Scene::new("sleep 600 & echo $! >\"$here/hangs\"; wait", AT_GATE);
    let gate = scene.gate();
    let run = scene.job("hangs");
    let hangs: u32 = text_of(&scene.root.scratch().join("hangs")).parse().unwrap();
    std::fs::write(&gate, "go\n").unwrap();
    scene.ends("hangs", &run);
    supervisor_ends(&run);
    until("what hung is gone", || (!alive(hangs)).then_some(()), String::new);
    let view = scene.root.view(&name("hangs"));
    let (end, _) = view.run(&run).unwrap().end().unwrap();
    assert_eq!(end.left_overs, None, "it was never the run's");
    assert!(scene.kept().is_empty(), "a question that was given up has no answer");
}

#[test]
fn a_killed_supervisor_takes_the_question_along_and_not_the_agent() {
    let scene = Scene::new("echo $$ >\"$here/hangs\"; exec sleep 600", AT_GATE);
    let gate = scene.gate();
    let run = scene.job("lost");
    let hangs: u32 = text_of(&scene.root.scratch().join("hangs")).parse().unwrap();
    let start = scene.root.view(&name("lost")).run(&run).and_then(|run| run.start().cloned()).unwrap();
    kill(start.supervisor_pid, "KILL");
    until("what hung is gone", || (!alive(hangs)).then_some(()), String::new);
    assert!(alive(start.pid), "the agent goes on");
    std::fs::write(&gate, "go\n").unwrap();
    until("the agent ends", || processes_of(&run).is_empty().then_some(()), String::new);
}

#[test]
fn a_program_that_fails_to_answer_is_left_alone_until_it_changes() {
    let scene = Scene::new("echo 9.9.9; exit 3", "read line <\"$here/gate\"");
    let gate = scene.gate();
    let go_through = || {
        let run = scene.job("fails");
        std::fs::write(&gate, "go\n").unwrap();
        scene.ends("fails", &run);
        supervisor_ends(&run);
        run
    };
    let run = scene.job("fails");
    scene.is_kept();
    std::fs::write(&gate, "go\n").unwrap();
    scene.ends("fails", &run);
    let second = go_through();
    assert_eq!((scene.questions().len(), scene.version_of("fails", &second)), (1, None));
    scene.install("echo 0.64.0", AT_GATE);
    let third = scene.job("fails");
    until("it is asked again", || (scene.questions().len() == 2).then_some(()), String::new);
    std::fs::write(&gate, "go\n").unwrap();
    scene.ends("fails", &third);
}

#[test]
fn a_version_that_is_too_old_is_warned_of_once_in_a_task() {
    let scene = Scene::new("echo codex-cli 0.0.9", "echo '{\"type\":\"turn.completed\"}'");
    assert_eq!(scene.run(&["validate", "codex"]).code, 0);
    for task in ["one", "one", "two"] {
        let run = scene.job(task);
        scene.ends(task, &run);
        assert_eq!(scene.version_of(task, &run).as_deref(), Some("0.0.9"));
    }
    let said = scene.warnings("one");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("codex is version 0.0.9, older than 0.1.0"), "{said:?}");
    assert_eq!(scene.warnings("two").len(), 1);
    scene.install("echo codex-cli 0.0.10", "echo '{\"type\":\"turn.completed\"}'");
    assert_eq!(scene.run(&["validate", "codex"]).code, 0);
    let run = scene.job("one");
    scene.ends("one", &run);
    assert_eq!(scene.warnings("one").len(), 2, "another version, another warning");
    scene.install("echo codex-cli 0.1.0", "echo '{\"type\":\"turn.completed\"}'");
    assert_eq!(scene.run(&["validate", "codex"]).code, 0);
    let run = scene.job("one");
    scene.ends("one", &run);
    assert_eq!(scene.warnings("one").len(), 2);
}

#[test]
fn of_many_runs_that_start_at_once_with_an_old_version_one_warns() {
    let scene = Scene::new("echo codex-cli 0.0.9", "echo '{\"type\":\"turn.completed\"}'");
    assert_eq!(scene.run(&["validate", "codex"]).code, 0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let run = scene.job("many");
                scene.ends("many", &run);
            });
        }
    });
    assert_eq!(scene.warnings("many").len(), 1);
}
