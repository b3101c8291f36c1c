//! `why` with real processes and real kills: it must name what truly happened. The situations are tables, of runs and of
//! loops: each row sets one up, and says with which causes the answer about its task begins.

mod agents;
mod loops;
mod runs;

use std::cell::RefCell;
use std::process::{Child, Command, Stdio};

use run_agent_core::layout::RunPaths;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, name, shell_args, text_of, until};
use serde_json::Value;

/// Writes its pid, and goes on for as long as nobody ends it.
const AT_WORK: &str = r#"echo $$ > "$JRUN_TASK_FOLDER/pid"; while :; do sleep 0.05; done"#;

/// A table of situations, each a test of its own: how it is set up, and what `why` must say of it: the status, the type
/// of the message that is named for the first cause ("": none is), the words of the first causes in order. What follows
/// `and` is asked of the answer besides.
macro_rules! situations {
    ($(
        fn $name:ident($stage:ident) $set_up:block
        says $status:literal $kind:literal [$($words:literal),+ $(,)?] $(and($answer:ident) $and:block)?
    )+) => {$(
        #[test]
        fn $name() {
            let $stage = crate::why::Stage::new();
            $set_up
            #[allow(unused_variables)]
            let answer = $stage.says($status, $kind, &[$($words),+]);
            $({ let $answer = &answer; $and })?
        }
    )+};
}
use situations;

/// Where a situation is set up: a root of its own, with one task that is asked about.
struct Stage {
    root: Root,
    task: TaskName,
    drivers: RefCell<Vec<Child>>,
}

impl Stage {
    fn new() -> Self {
        Self { root: Root::made(), task: name("asked"), drivers: RefCell::default() }
    }

    fn config(&self, text: &str) {
        std::fs::write(self.root.path().join("config.hcl"), text).unwrap();
    }

    /// As the test kit's, with `run-agent` on the PATH of the agents.
    fn command(&self, args: &[&str]) -> Command {
        let binary = run_agent_tests::binary();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = self.root.command(args);
        command.env("PATH", format!("{}:{path}", binary.parent().unwrap().display()));
        command
    }

    /// A job that goes on by itself; gives its run.
    fn job(&self, prompt: &str, more: &[&str]) -> String {
        let args = shell_args("job", &self.task, prompt, more);
        let done = self.command(&[&args[..], &["--detach"]].concat()).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// A job, to its end; gives its run.
    fn job_ends(&self, prompt: &str, more: &[&str]) -> String {
        let run = self.job(prompt, more);
        let _ = self.root.run(&["wait", &run]);
        run
    }

    /// A loop, whose driver goes on.
    fn drive(&self, prompt: &str, more: &[&str]) {
        self.spawn_driver(self.command(&shell_args("task", &self.task, prompt, more)));
    }

    fn spawn_driver(&self, mut command: Command) {
        let driver = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.drivers.borrow_mut().push(driver);
        self.until_told("LOOP_START");
    }

    /// A loop, to its end.
    fn drive_to_its_end(&self, prompt: &str, more: &[&str]) {
        self.drive(prompt, more);
        self.driver_ends();
    }

    fn driver(&self) -> u32 {
        self.drivers.borrow().last().unwrap().id()
    }

    fn driver_ends(&self) {
        self.drivers.borrow_mut().last_mut().unwrap().wait().unwrap();
    }

    fn kill_driver(&self) {
        self.drivers.borrow_mut().last_mut().unwrap().kill().unwrap();
        self.driver_ends();
    }

    /// The agent's, as it wrote it.
    fn pid(&self) -> u32 {
        text_of(&self.root.tree().task(&self.task).folder().join("pid")).parse().unwrap()
    }

    fn only_run(&self) -> RunPaths {
        let runs = self.root.tree().runs(&self.task).unwrap();
        assert_eq!(runs.len(), 1);
        self.root.tree().run(&self.task, &runs[0])
    }

    fn supervisor(&self) -> u32 {
        self.root.view(&self.task).task().runs.values().next().unwrap().start().unwrap().supervisor_pid
    }

    /// A root run of the loop that was asked for last.
    fn root_run(&self) -> String {
        self.root.view(&self.task).task().ralph.last_root.clone().unwrap().to_string()
    }

    fn until_told(&self, kind: &str) {
        let told = || {
            let there = self.root.bus(&self.task).exists();
            (there && self.root.count(&self.task, kind) > 0).then_some(())
        };
        until(kind, told, || format!("{:?}", self.root.run(&["status"])));
    }

    fn why(&self) -> Value {
        self.root.json(&["why", self.task.task.as_str(), "--json"])
    }

    /// Waits until the answer begins with these causes; it must name a message of that type for the first.
    fn says(&self, status: &str, kind: &str, wanted: &[&str]) -> Value {
        let mut last = Value::Null;
        let look = || {
            last = self.why();
            let told = causes(&last);
            let begins = told.len() >= wanted.len()
                && told.iter().zip(wanted).all(|(text, words)| text.contains(words));
            (begins && last["status"] == status).then(|| last.clone())
        };
        let why = until("the answer says so", look, || format!("{wanted:#?}\n{:#}", self.why()));
        let first = &why["causes"][0];
        assert_eq!(first["type"].as_str().unwrap_or_default(), kind, "{first:#}");
        if let Some(id) = first["msg_id"].as_str() {
            let messages = self.root.messages(&self.task);
            let message = messages.iter().find(|message| message.id.as_str() == id).unwrap();
            assert_eq!(message.content.kind.as_str(), kind);
            assert_eq!(why["evidence"][0], id);
        }
        why
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for driver in self.drivers.get_mut() {
            let _ = driver.kill();
            let _ = driver.wait();
        }
    }
}

/// The nearest causes, in order.
fn causes(why: &Value) -> Vec<&str> {
    why["causes"].as_array().unwrap().iter().map(|cause| cause["text"].as_str().unwrap()).collect()
}

fn commands(why: &Value) -> Vec<&str> {
    let changes = why["changes"].as_array().unwrap();
    changes.iter().filter_map(|change| change["command"].as_str()).collect()
}
