//! SIGKILL and SIGSTOP at random moments: posters, jobs, drivers, supervisors and agents. Whatever is hit and whenever,
//! nothing that was acknowledged is lost or doubled, no run starts twice, and every run has exactly one end.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use run_agent_core::RunId;
use run_agent_runner::TaskView;
use run_agent_runner::supervise::os::ProcessId;
use run_agent_runner::supervise::record;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, alive, kill, name, shell_args, until};

/// Roots that are swept at the same time.
const LANES: u64 = 3;

/// The ordinary suite ends here, however many moments it came to.
const ORDINARY: Duration = Duration::from_secs(50);

/// In which time `status` must say what the processes are.
const TRUE_WITHIN: Duration = Duration::from_secs(2);

/// Leaves a line for each start, says two things, and is done.
const AGENT: &str = r#"
echo "$JRUN_ID" >> "$JRUN_TASK_FOLDER/starts"
for n in 1 2; do
    id=$(run-agent bus post --type PROGRESS --body "$JRUN_ID said $n") && echo "$id" >> "$JRUN_TASK_FOLDER/acknowledged"
    sleep 0.02
done
run-agent done
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Poster,
    Job,
    Task,
    Supervisor,
    Agent,
}

const VICTIMS: [Victim; 5] = [Victim::Poster, Victim::Job, Victim::Task, Victim::Supervisor, Victim::Agent];

/// The same numbers for the same seed, on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn moment(&mut self, below_ms: u64) -> Duration {
        Duration::from_micros(self.below(below_ms * 1000))
    }
}

#[test]
fn kills_and_halts_at_random_moments_lose_nothing_and_double_nothing() {
    let deep = std::env::var_os("RUN_AGENT_DEEP").is_some();
    let moments: u64 = if deep { 2000 } else { 300 };
    let until = (!deep).then(|| Instant::now() + ORDINARY);
    let seed: u64 =
        std::env::var("RUN_AGENT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_121);
    println!("seed {seed} (RUN_AGENT_SEED), {moments} moments in {LANES} lanes");
    let done: u64 = std::thread::scope(|scope| {
        let lane = |lane| {
            scope.spawn(move || {
                let root = Root::new();
                let mut done = 0;
                while done < moments.div_ceil(LANES) && until.is_none_or(|until| Instant::now() < until) {
                    let seed = seed ^ (lane << 32) ^ done;
                    let victim = VICTIMS[usize::try_from(done).unwrap() % VICTIMS.len()];
                    round(&root, &name(&format!("l{lane}-n{done:04}")), victim, seed);
                    done += 1;
                }
                let left = root.run(&["doctor"]);
                assert!(!left.stdout.contains("left_cgroup"), "lane {lane}: {left:?}");
                done
            })
        };
        let lanes: Vec<_> = (0..LANES).map(lane).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    println!("{done} moments");
    assert!(done >= 5, "each kind at least once");
}

fn round(root: &Root, task: &TaskName, victim: Victim, seed: u64) {
    let mut chance = Chance(seed);
    let command = if victim == Victim::Job { "job" } else { "task" };
    let mut starter = root.command(&shell_args(command, task, AGENT, &[]));
    let mut starter = starter.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(chance.moment(150));
    let mut poster = (victim == Victim::Poster).then(|| post(root, task)).flatten();
    if poster.is_some() {
        std::thread::sleep(chance.moment(8));
    }
    let pid = match (victim, &poster) {
        (Victim::Poster, Some(poster)) => Some(poster.id()),
        (Victim::Supervisor | Victim::Agent, _) => noted(root, task, victim),
        (Victim::Poster | Victim::Job | Victim::Task, _) => None,
    };
    let hit = pid.unwrap_or(starter.id());
    let what = format!("seed {seed}: {victim:?}, process {hit}, {task}");
    if chance.below(3) == 0 {
        kill(hit, "STOP");
        std::thread::sleep(chance.moment(60));
        kill(hit, ["CONT", "KILL"][usize::try_from(chance.below(2)).unwrap()]);
    } else {
        kill(hit, "KILL");
    }
    kill(hit, "CONT");
    let posted = poster.take().and_then(acknowledged);
    if hit == starter.id() {
        let _ = starter.wait();
    }
    if TaskView::open(&root.tree(), task).is_err() {
        let _ = starter.wait();
        return;
    }
    status_is_true(root, task, &what);
    heal(root, task, starter, command, &what);
    check(root, task, posted, &what);
}

/// A message from outside, by a process of its own.
fn post(root: &Root, task: &TaskName) -> Option<Child> {
    if TaskView::open(&root.tree(), task).is_err() {
        return None;
    }
    let args = [
        "bus",
        "post",
        "--project",
        "p",
        "--task",
        task.task.as_str(),
        "--type",
        "FACT",
        "--body",
        "from outside",
    ];
    root.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()
}

/// The id that a poster printed, if it came to that.
fn acknowledged(poster: Child) -> Option<String> {
    let text = String::from_utf8(poster.wait_with_output().unwrap().stdout).unwrap();
    text.strip_suffix('\n').map(str::to_owned)
}

/// The supervisor or agent of the task's newest run, as soon as it is noted.
fn noted(root: &Root, task: &TaskName, victim: Victim) -> Option<u32> {
    let runs = root.tree().task(task).runs();
    let newest = std::fs::read_dir(runs).ok()?.flatten().map(|entry| entry.path()).max()?;
    let notes = record::notes(&newest.join("supervisor.lock")).ok()?;
    let process = if victim == Victim::Agent { notes.agent } else { notes.supervisor };
    process.filter(|process| process.is_alive()).map(|process| process.pid)
}

/// Every run that is shown as active has a process, and every one that is not has none.
fn status_is_true(root: &Root, task: &TaskName, what: &str) {
    let deadline = Instant::now() + TRUE_WITHIN;
    loop {
        let status = root.json(&["status", "--task", task.task.as_str(), "--project", "p", "--json"]);
        let wrong: Vec<String> =
            status["runs"].as_array().unwrap().iter().filter_map(|run| lie(root, task, run)).collect();
        if wrong.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {wrong:?}: {status}");
    }
}

fn lie(root: &Root, task: &TaskName, run: &serde_json::Value) -> Option<String> {
    let id = RunId::parse(run["run_id"].as_str().or(run["id"].as_str())?).ok()?;
    let status = run["status"].as_str()?.to_owned();
    let notes = record::notes(&root.tree().run(task, &id).supervisor_lock()).unwrap();
    let lives = [notes.supervisor, notes.agent].into_iter().flatten().any(ProcessId::is_alive);
    // Before its supervisor is there a run is its starter's; while it ends its agent is gone already.
    let true_to_it = match status.as_str() {
        "running" => lives,
        "queued" => true,
        _ => notes.agent.is_none_or(|agent| !agent.is_alive()),
    };
    (!true_to_it).then(|| format!("{id} is {status}, {notes:?}"))
}

/// What a person does afterwards, until nothing is left to do.
fn heal(root: &Root, task: &TaskName, mut starter: Child, command: &str, what: &str) {
    let id = task.task.as_str();
    if command == "job" {
        let _ = starter.wait();
        until(
            "every run ends",
            || {
                let status = root.json(&["status", "--project", "p", "--task", id, "--json"]);
                let runs = status["runs"].as_array().unwrap();
                let active =
                    runs.iter().find(|run| matches!(run["status"].as_str(), Some("running" | "queued")));
                let Some(active) = active else { return Some(()) };
                let run = active["run_id"].as_str().or(active["id"].as_str()).unwrap();
                let _ = root.run(&["wait", run, "--wait", "20s"]);
                None
            },
            || what.to_owned(),
        );
        return;
    }
    let code =
        until("the driver ends", || starter.try_wait().unwrap(), || format!("{what}\n{}", state(root, task)));
    if code.code() != Some(0) && root.tree().task(task).prompt().exists() {
        let again = root.run(&["task", "--project", "p", "--task", id, "--agent", "shell"]);
        assert_eq!(again.code, 0, "{what}: {again:?}\n{}", state(root, task));
    }
}

fn state(root: &Root, task: &TaskName) -> String {
    root.run(&["status", "--project", "p", "--task", task.task.as_str()]).stdout
}

fn check(root: &Root, task: &TaskName, posted: Option<String>, what: &str) {
    let messages = root.messages(task);
    assert!(
        messages.is_sorted_by(|a, b| a.id < b.id || by_process(a.id.as_str()) != by_process(b.id.as_str())),
        "{what}"
    );
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for message in &messages {
        *times.entry(message.id.as_str()).or_default() += 1;
    }
    let folder = root.tree().task(task).folder().to_owned();
    let text = std::fs::read_to_string(folder.join("acknowledged")).unwrap_or_default();
    for id in text.lines().map(str::to_owned).chain(posted) {
        assert_eq!(times.get(id.as_str()), Some(&1), "{what}: {id} was acknowledged");
    }
    let starts = std::fs::read_to_string(folder.join("starts")).unwrap_or_default();
    let count = |run: &RunId, kinds: &[&str]| {
        let of = |m: &&run_agent_core::Message| {
            m.content.run.as_ref() == Some(run) && kinds.contains(&m.content.kind.as_str())
        };
        messages.iter().filter(of).count()
    };
    for run in root.view(task).task().runs.keys() {
        assert_eq!(
            count(run, &["RUN_STOP", "RUN_CRASH"]),
            1,
            "{what}: {run} has exactly one end\n{}",
            state(root, task)
        );
        assert!(count(run, &["RUN_START"]) <= 1, "{what}: {run}");
        let started = starts.lines().filter(|line| *line == run.as_str()).count();
        assert!(started <= 1, "{what}: {run} was started {started} times");
        let agent = root.view(task).start_of(run).map(|start| start.pid);
        assert!(agent.is_none_or(|pid| !alive(pid)), "{what}: {run} has ended, its agent has not");
    }
}

/// Which process gave an id.
fn by_process(id: &str) -> &str {
    id.rsplit('-').nth(1).unwrap_or(id)
}
