//! A writer is killed at each of its system calls in turn: making a stream, appending, syncing, rotating, and writing again
//! after a failed sync.

use std::io::Write;
use std::process::Command;

use run_agent_core::store::Stream;
use run_agent_core::{Cursor, Draft, Durability, Kind};

use super::{Scene, strace_is_here};

/// More calls than one writer makes of a kind.
const STEPS_MAX: usize = 200;

fn draft(stream: &dyn Stream, body: &str) -> Draft {
    let key = stream.key().clone();
    Draft::new(Kind::FACT, key.project, key.task, body)
}

/// For a child: appends, and says what was acknowledged.
pub fn post_some(stream: &dyn Stream) {
    for n in 0..8 {
        let durability = if n % 2 == 0 { Durability::Always } else { Durability::None };
        let batch = (0..1 + n % 3).map(|part| draft(stream, &format!("{n}.{part}"))).collect();
        for entry in stream.append(batch, durability).unwrap() {
            std::io::stdout()
                .write_all(format!("\nsaid {}\n", entry.message.content.body).as_bytes())
                .unwrap();
        }
    }
}

/// Kills at the `step`-th such call. What was acknowledged, and whether it lived.
fn run(scene: &Scene<'_>, call: &str, step: usize, fault: Option<&str>) -> (Vec<String>, bool) {
    let plain = scene.again();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call},fdatasync")]);
    command.args(["-e", &format!("inject={call}:signal=SIGKILL:when={step}")]);
    if let Some(fault) = fault {
        command.args(["-e", fault]);
    }
    command.arg(plain.get_program()).args(plain.get_args()).env(scene.variable, &scene.root);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.split('\n').filter_map(|line| line.strip_prefix("said ")).map(str::to_owned).collect();
    (said, output.status.success())
}

/// Kills a writer at each of these system calls in turn, each time on a new stream that `scene` makes.
pub fn sweep<'a>(scene: impl Fn() -> Scene<'a>, calls: &[&str], fault: Option<&str>) {
    if !strace_is_here() {
        return;
    }
    let mut killed = 0;
    for call in calls {
        for step in 1.. {
            assert!(step < STEPS_MAX, "it never came to an end");
            let scene = scene();
            let (said, lived) = run(&scene, call, step, fault);
            check(&scene, &said, &format!("killed at {call} {step}"));
            if lived {
                break;
            }
            killed += 1;
        }
    }
    assert!(killed > 50, "killed only {killed} times: nothing was put to the test");
}

fn check(scene: &Scene<'_>, said: &[String], what: &str) {
    let bodies = || -> Vec<String> {
        let page = scene.stream().read(Cursor::START, usize::MAX).unwrap();
        assert_eq!(page.damage, [], "{what}");
        page.entries.into_iter().map(|entry| entry.message.content.body).collect()
    };
    let before = bodies();
    let stream = scene.stream();
    stream.append(vec![draft(&*stream, "after")], Durability::Always).unwrap();
    let after = bodies();
    assert_eq!(after.last().map(String::as_str), Some("after"), "{what}");
    assert!(after.starts_with(said), "{what}: {said:?} were acknowledged, {after:?} are there");
    assert!(after.starts_with(&before), "{what}: {before:?} were seen, {after:?} are there");
    let report = stream.verify().unwrap();
    let damage: Vec<_> = report.damage.into_iter().filter(|damage| damage.at != damage.next).collect();
    assert_eq!((report.entries, damage), (after.len() as u64, Vec::new()), "{what}");
}
