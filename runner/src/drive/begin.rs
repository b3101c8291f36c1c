//! Taking a loop: its lock, and what a driver posts first.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::time::{Duration, Instant};

use run_agent_core::Draft;
use run_agent_core::cause::Cause;
use run_agent_core::event::{Event, LoopStart, SupervisorRestart};
use run_agent_core::policy::budget::Spent;

use super::{DriveError, Loop};
use crate::supervise::os::{self, Machine};
use crate::tree::Tree;
use crate::view::TaskView;
use crate::{adopt, files};

/// One loop a task: the lock is held for as long as its driver lives.
pub(super) fn take_lock(tree: &Tree, view: &TaskView, flags: &str) -> Result<File, DriveError> {
    let path = tree.task(&view.name).loop_lock();
    let error = |source| DriveError::Lock { path: path.display().to_string(), source };
    let locked =
        |holder: String| DriveError::Locked { task: view.name.clone(), holder, flags: flags.to_owned() };
    // An agent may have removed the file under a driver that lives.
    let ralph = &view.task().ralph;
    if let Some(driver) = ralph.driver.as_ref().filter(|_| ralph.is_open() && !path.exists())
        && adopt::is_alive(driver)
    {
        return Err(locked(format!("process {}", driver.driver_pid)));
    }
    let mut lock = files::open_lock(&path).map_err(error)?;
    let deadline = Instant::now() + LOCK_FREE_WITHIN;
    while !files::try_lock_for_good(&lock).map_err(error)? {
        let mut holder = String::new();
        let _ = lock.rewind().and_then(|()| lock.read_to_string(&mut holder));
        if is_gone(holder.trim()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        }
        // Whoever has just taken the lock has not written its name yet, and a lock that is not ours may have none.
        let holder = Some(holder.trim()).filter(|holder| !holder.is_empty()).unwrap_or("another process");
        return Err(locked(holder.to_owned()));
    }
    lock.set_len(0).map_err(error)?;
    lock.write_all(format!("process {}\n", std::process::id()).as_bytes()).map_err(error)?;
    Ok(lock)
}

/// How long the lock of a driver that was killed may stay held: by its last thread, or by a child that it was just
/// starting.
const LOCK_FREE_WITHIN: Duration = Duration::from_secs(2);

/// True when the holder that a lock names does not live.
fn is_gone(holder: &str) -> bool {
    let pid = holder.strip_prefix("process ").and_then(|pid| pid.parse().ok());
    pid.is_some_and(|pid| os::ProcessId::now(pid).is_none())
}

/// What a driver posts when it takes the loop; first of all that one was lost, if the loop is open.
/// `base`: what the tree had used when the counters are set back.
pub(super) fn opening(view: &TaskView, what: &Loop<'_>, active_ms: u64, base: Option<Spent>) -> Vec<Draft> {
    let (here, own) = (Machine::here(), os::ProcessId::own());
    let scope = view.name.scope(None);
    let mut batch = Vec::new();
    let ralph = &view.task().ralph;
    if ralph.is_open() {
        let previous_pid = ralph.driver.as_ref().map(|driver| driver.driver_pid);
        let reason = "driver lost".to_owned();
        let restart = SupervisorRestart { reason, previous_pid, ..SupervisorRestart::default() };
        let before = previous_pid.map(|pid| format!(", process {pid},")).unwrap_or_default();
        let line = format!("the loop's driver{before} is gone; process {} goes on", own.pid);
        let cause = Cause::Process("driver lost".to_owned());
        batch.push(Event::SupervisorRestart(restart).draft(&scope, &cause, line));
    }
    let start = LoopStart {
        driver_pid: own.pid,
        driver_start_ticks: own.start_ticks,
        machine_id: here.machine_id.clone(),
        boot_id: here.boot_id.clone(),
        pid_namespace: here.pid_namespace.clone(),
        fresh: what.fresh,
        active_ms,
        settings: Some(what.settings.to_owned()).filter(|text| text.len() <= SETTINGS_MAX),
        parent_run_id: what.origin.map(|origin| origin.run.clone()),
        parent_project_id: what.origin.map(|origin| origin.name.project.clone()),
        parent_task_id: what.origin.map(|origin| origin.name.task.clone()),
        depth: what.depth,
        base_tokens: base.map(|base| base.tokens),
        base_cost_usd: base.map(|base| base.cost),
    };
    let line = if what.fresh { "loop taken up again, counters set back" } else { "loop started" };
    batch.push(Event::LoopStart(start).draft(&scope, what.cause, line));
    batch
}

/// What `LOOP_START` keeps of the settings, in bytes: its fields have a bound. Larger ones are left out, and the loop
/// is adopted with what the configuration says.
const SETTINGS_MAX: usize = 16 * 1024;
