//! A writer is killed at each of its system calls in turn: making a stream, appending, syncing, rotating, and writing again
//! after a failed sync.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{Bus, draft, stream_at};
use run_agent_core::store::Options;
use run_agent_core::{Cursor, Durability};

/// What changes anything on the disk, or frees what others wait for.
const CALLS: [&str; 8] =
    ["mkdir", "pwrite64", "fallocate", "fdatasync", "fsync", "rename", "unlink", "flock"];
/// More calls than one writer makes of a kind.
const STEPS_MAX: usize = 200;

fn options() -> Options {
    Options { rotate_bytes: 700, ..Options::default() }
}

fn post_some(root: &str) {
    let stream = stream_at(root, options());
    for n in 0..8 {
        let durability = if n % 2 == 0 { Durability::Always } else { Durability::None };
        let batch = (0..1 + n % 3).map(|part| draft(&format!("{n}.{part}"))).collect();
        for entry in stream.append(batch, durability).unwrap() {
            std::io::stdout()
                .write_all(format!("\nsaid {}\n", entry.message.content.body).as_bytes())
                .unwrap();
        }
    }
}

/// Kills at the `step`-th such call. What was acknowledged, and whether it lived.
fn run(
    bus: &Bus,
    name: &str,
    variable: &str,
    call: &str,
    step: usize,
    fault: Option<&str>,
) -> (Vec<String>, bool) {
    let plain = bus.again(name, variable);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={}", CALLS.join(","))]);
    command.args(["-e", &format!("inject={call}:signal=SIGKILL:when={step}")]);
    if let Some(fault) = fault {
        command.args(["-e", fault]);
    }
    command.arg(plain.get_program()).args(plain.get_args()).env(variable, bus.root());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.split('\n').filter_map(|line| line.strip_prefix("said ")).map(str::to_owned).collect();
    (said, output.status.success())
}

fn sweep(name: &str, variable: &str, calls: &[&str], fault: Option<&str>) {
    if let Ok(root) = std::env::var(variable) {
        return post_some(&root);
    }
    if Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let mut killed = 0;
    for call in calls {
        for step in 1.. {
            assert!(step < STEPS_MAX, "it never came to an end");
            let bus = Bus::set(&[], options());
            let (said, lived) = run(&bus, name, variable, call, step, fault);
            check(&bus, &said, &format!("killed at {call} {step}"));
            if lived {
                break;
            }
            killed += 1;
        }
    }
    assert!(killed > 50, "killed only {killed} times: nothing was put to the test");
}

fn check(bus: &Bus, said: &[String], what: &str) {
    let before = bus.open().read(Cursor::START, usize::MAX).unwrap();
    assert_eq!(before.damage, [], "{what}");
    let last = bus.open().append(vec![draft("after")], Durability::Always).unwrap().remove(0);
    let bodies = bus.bodies();
    assert_eq!(bodies.last().map(String::as_str), Some("after"), "{what}");
    assert!(bodies.starts_with(said), "{what}: {said:?} were acknowledged, {bodies:?} are there");
    let seen: Vec<_> = before.entries.iter().map(|entry| &entry.message.content.body).collect();
    assert!(bodies.iter().zip(&seen).all(|(now, then)| now == *then), "{what}: what was seen stays");
    assert_eq!(last.at, Cursor::new(bodies.len() as u64 - 1), "{what}");
    let report = bus.open().verify().unwrap();
    assert_eq!((report.entries, report.damage), (bodies.len() as u64, Vec::new()), "{what}");
}

#[test]
fn a_writer_killed_at_any_step_loses_nothing_acknowledged() {
    let name = "a_writer_killed_at_any_step_loses_nothing_acknowledged";
    sweep(name, "RUN_AGENT_TEST_STEPS", &CALLS, None);
}

#[test]
fn a_writer_killed_at_any_step_after_a_failed_sync_loses_nothing_acknowledged() {
    let name = "a_writer_killed_at_any_step_after_a_failed_sync_loses_nothing_acknowledged";
    // One rule holds for a call.
    let calls = CALLS.into_iter().filter(|call| *call != "fdatasync").collect::<Vec<_>>();
    sweep(name, "RUN_AGENT_TEST_STEPS_EIO", &calls, Some("inject=fdatasync:error=EIO:when=2"));
}
