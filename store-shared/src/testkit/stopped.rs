//! A leader that is stopped by a signal in the middle of its sync, and goes on later.

use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use run_agent_core::{Cursor, Draft, Durability, Kind};

use super::{Scene, kills};

/// After so long a test says what it saw instead.
const DEADLINE: Duration = Duration::from_secs(60);

/// Ended in any case: a stopped process would stay for ever.
struct Leader(Child);

impl Leader {
    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }

    /// Returns once it has stopped.
    fn stop(&self) {
        kill(self.pid(), Signal::SIGSTOP).unwrap();
        let stopped = waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    }

    /// Nobody let it go on since it was stopped.
    fn is_stopped(&self) -> bool {
        let any = WaitPidFlag::WCONTINUED | WaitPidFlag::WNOHANG;
        waitpid(self.pid(), Some(any)).unwrap() == WaitStatus::StillAlive
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whose child posts for ever ([`kills::post_for_ever`]). `is_syncing`: the page tells of a leader.
pub fn holds_nobody_up(scene: &Scene<'_>, is_syncing: impl Fn() -> bool) {
    let mut child = scene.again();
    let mut leader = Leader(child.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap());
    let out = std::io::BufReader::new(leader.0.stdout.take().unwrap());
    let acknowledged = std::thread::spawn(|| kills::acknowledged(out));
    let deadline = Instant::now() + DEADLINE;
    loop {
        assert!(Instant::now() < deadline, "it was never caught in a sync");
        if !is_syncing() {
            std::thread::yield_now();
            continue;
        }
        leader.stop();
        // It may have come to the end of its sync before the signal came.
        if is_syncing() {
            break;
        }
        kill(leader.pid(), Signal::SIGCONT).unwrap();
        assert!(!leader.is_stopped());
    }

    let (tell, told) = mpsc::channel();
    let others: Vec<_> = (0..3)
        .map(|n| {
            let (stream, tell) = (scene.stream(), tell.clone());
            std::thread::spawn(move || {
                let key = stream.key().clone();
                let draft = Draft::new(Kind::FACT, key.project, key.task, format!("of another {n}"));
                let posted = stream.append(vec![draft], Durability::Always);
                tell.send(posted.unwrap().remove(0).message.id.to_string()).unwrap();
            })
        })
        .collect();
    let posted: Vec<String> =
        others.iter().map(|_| told.recv_timeout(DEADLINE).expect("they wait for who is stopped")).collect();
    assert!(leader.is_stopped(), "the others came first");
    others.into_iter().for_each(|other| other.join().unwrap());

    // It goes on where it was: with the message that it waited for, and more.
    let stream = scene.stream();
    let end = stream.end().unwrap();
    kill(leader.pid(), Signal::SIGCONT).unwrap();
    while stream.read(end, 1).unwrap().entries.is_empty() {
        assert!(Instant::now() < deadline + DEADLINE, "it does not go on");
        stream.wait(end, Duration::from_secs(1)).unwrap();
    }
    drop(leader);
    let page = stream.read(Cursor::START, usize::MAX).unwrap();
    assert_eq!(page.damage, []);
    let ids: Vec<&str> = page.entries.iter().map(|entry| entry.message.id.as_str()).collect();
    for id in posted.iter().chain(&acknowledged.join().unwrap()) {
        assert!(ids.contains(&id.as_str()), "{id} was acknowledged");
    }
}
