//! The limits of a loop run on its driver's own time: while driver and supervisors do not run, nothing comes due. Each
//! clock is tried without a halt as well, where it does come due.

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use run_agent_core::event::{Event, LoopEnd};
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, kill, name, shell_args, until};

/// More than a halt may count for at the most (the longest sleep, a quarter more and a little), with room for a busy machine.
const LIMIT: &str = "12s";
const HALT: Duration = Duration::from_secs(13);

struct Clock {
    name: &'static str,
    config: fn(limit: &str) -> String,
    prompt: &'static str,
    /// The loop has come to where the clock runs.
    runs: fn(&Root, &TaskName) -> bool,
    came_due: fn(&Root, &TaskName) -> bool,
}

const ASKS: &str = "run-agent bus post --type QUESTION --blocking --body 'which way?'";
const HAS_A_CHILD: &str = "run-agent job --agent shell --detach --prompt 'sleep 1000'; run-agent done";

const CLOCKS: [Clock; 5] = [
    Clock {
        name: "question_timeout",
        config: |limit| format!("loop {{ question_timeout = \"{limit}\" }}\n"),
        prompt: ASKS,
        runs: |root, task| root.count(task, "LOOP_WAITING") == 1,
        came_due: |root, task| root.count(task, "LOOP_RESTART") > 0,
    },
    Clock {
        name: "child_wait_timeout",
        config: |limit| format!("loop {{ child_wait_timeout = \"{limit}\" }}\n"),
        prompt: HAS_A_CHILD,
        runs: |root, task| root.count(task, "LOOP_WAITING") == 1,
        came_due: |root, task| ended(root, task).is_some_and(|end| end.reason == "children"),
    },
    Clock {
        name: "cooldown",
        config: |limit| format!("breaker {{\n  failures = 1\n  cooldown = \"{limit}\"\n}}\n"),
        prompt: "exit 1",
        runs: |root, task| root.count(task, "LOOP_BREAKER") == 1,
        came_due: |root, task| root.count(task, "LOOP_RESTART") > 0,
    },
    Clock {
        name: "restart_delay",
        config: |limit| format!("loop {{ restart_delay = \"{limit}\" }}\n"),
        prompt: "true",
        runs: |root, task| root.count(task, "RUN_STOP") == 1,
        came_due: |root, task| root.count(task, "LOOP_RESTART") > 0,
    },
    // Looked at when the root run is over, which is after the halt.
    Clock {
        name: "max_wall_time",
        config: |limit| format!("loop {{ max_wall_time = \"{limit}\" }}\n"),
        prompt: "while [ ! -e \"$JRUN_TASK_FOLDER/go\" ]; do sleep 0.1; done",
        runs: |root, task| root.count(task, "RUN_START") == 1,
        came_due: |root, task| ended(root, task).is_some_and(|end| end.reason == "exhausted"),
    },
];

fn ended(root: &Root, task: &TaskName) -> Option<LoopEnd> {
    root.messages(task).iter().find_map(|message| match Event::read(message) {
        Ok(Event::LoopEnd(end)) => Some(end),
        _ => None,
    })
}

/// A loop in a root of its own, whose clock runs.
struct Running {
    clock: &'static Clock,
    root: Root,
    task: TaskName,
    driver: Child,
}

impl Running {
    fn begin(clock: &'static Clock, limit: &str) -> Self {
        let root = Root::made();
        std::fs::write(root.path().join("config.hcl"), (clock.config)(limit)).unwrap();
        let task = name("clock");
        let told = File::create(root.scratch().join("told")).unwrap();
        let mut command = root.command(&shell_args("task", &task, clock.prompt, &[]));
        command.env("PATH", path()).stdout(Stdio::null()).stderr(told);
        let driver = command.spawn().unwrap();
        let running = Self { clock, root, task, driver };
        let there = || {
            let there = running.root.bus(&running.task).exists();
            (there && (clock.runs)(&running.root, &running.task)).then_some(())
        };
        until(clock.name, there, || running.told());
        running
    }

    /// The driver and the supervisors of what runs.
    fn processes(&self) -> Vec<u32> {
        let view = self.root.view(&self.task);
        let starts = view.task().active().filter_map(|(_, run)| run.start());
        starts.map(|start| start.supervisor_pid).chain([self.driver.id()]).collect()
    }

    fn signal(&self, signal: &str) {
        self.processes().into_iter().for_each(|pid| kill(pid, signal));
    }

    fn told(&self) -> String {
        std::fs::read_to_string(self.root.scratch().join("told")).unwrap_or_default()
    }

    /// Returns when the driver has looked at all there is, and has done what followed.
    fn looks(&self) {
        for post in ["first look", "second look"] {
            let _ = self.root.ok(&["bus", "post", "--task", "p/clock", "--type", "FACT", "--body", post]);
            until(post, || (self.told().contains(post) || self.came_due()).then_some(()), || self.told());
        }
    }

    fn go(&self) {
        std::fs::write(self.root.tree().task(&self.task).folder().join("go"), "").unwrap();
    }

    fn came_due(&self) -> bool {
        (self.clock.came_due)(&self.root, &self.task)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What is halted hears nothing else.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn path() -> String {
    let binary = run_agent_tests::binary();
    let own = std::env::var("PATH").unwrap_or_default();
    format!("{}:{own}", binary.parent().unwrap().display())
}

fn passes(time: Duration) {
    let began = Instant::now();
    until("time passes", || (began.elapsed() > time).then_some(()), String::new);
}

#[test]
fn time_in_which_driver_and_supervisor_did_not_run_makes_no_loop_late() {
    let running: Vec<Running> = CLOCKS
        .iter()
        .map(|clock| {
            let running = Running::begin(clock, LIMIT);
            running.signal("STOP");
            running
        })
        .collect();
    passes(HALT);
    running.iter().for_each(|running| running.signal("CONT"));
    running.iter().for_each(Running::looks);
    let due: Vec<_> = running.iter().filter(|running| running.came_due()).collect();
    assert!(due.is_empty(), "{:#?}", due.iter().map(|due| (due.clock.name, due.told())).collect::<Vec<_>>());
    for running in &running {
        let clock = running.clock.name;
        assert_eq!(
            running.root.count(&running.task, "RUN_CRASH"),
            usize::from(clock == "cooldown"),
            "{clock}"
        );
    }
    let wall_time = running.iter().find(|running| running.clock.name == "max_wall_time").unwrap();
    wall_time.go();
    let goes_on = || (wall_time.root.count(&wall_time.task, "LOOP_RESTART") > 0).then_some(());
    until("the loop goes on", goes_on, || wall_time.told());
    assert!(!wall_time.came_due());
}

#[test]
fn without_a_halt_each_clock_comes_due() {
    let running: Vec<Running> = CLOCKS.iter().map(|clock| Running::begin(clock, "1s")).collect();
    passes(Duration::from_secs(1));
    running.iter().for_each(Running::go);
    for running in &running {
        until(running.clock.name, || running.came_due().then_some(()), || running.told());
    }
}
