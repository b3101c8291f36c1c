//! Loops that are open and that nobody drives: whose driver died without saying so. Found here, for `adopt` to take up
//! and for the inbox to tell of; nothing is started here.

use std::io;

use run_agent_core::decide;
use run_agent_core::event::LoopStart;
use run_agent_core::world::TaskStatus;
use run_agent_core::{ProjectId, Timestamp};

use crate::supervise::os::{Machine, ProcessId};
use crate::tree::{TaskName, Tree};
use crate::view::{TaskView, ViewError};
use crate::{files, roster};

/// Who drives a task's loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverLife {
    /// The loop is not open: there is nothing to drive.
    NotOpen,
    Alive,
    /// Dead, without a word. Whoever takes the loop goes on in the same place.
    Lost,
    /// Nobody here can tell: the driver is of another machine or pid namespace.
    Foreign,
}

/// Looks whether an open loop is driven. The lock decides first. What the view has not folded may tell of the loop's
/// end: [`TaskView::driver`] looks at that too.
pub(crate) fn driver_life(tree: &Tree, name: &TaskName, driver: Option<&LoopStart>) -> DriverLife {
    let lock = tree.task(name).loop_lock();
    // What cannot be looked at is left to whoever holds it.
    if files::is_locked(&lock).unwrap_or(true) {
        return DriverLife::Alive;
    }
    let Some(driver) = driver else { return DriverLife::Lost };
    if place_of(driver).is_foreign() {
        return DriverLife::Foreign;
    }
    if !lock.exists() && is_alive(driver) { DriverLife::Alive } else { DriverLife::Lost }
}

/// The very process that posted this start lives. Asked only where an agent has removed the lock file.
pub(crate) fn is_alive(driver: &LoopStart) -> bool {
    process(driver).is_some_and(ProcessId::is_alive)
}

/// The driver's process, where its pid means something here.
pub(crate) fn process(driver: &LoopStart) -> Option<ProcessId> {
    let here = Machine::here();
    let same_boot = driver.machine_id == here.machine_id && driver.boot_id == here.boot_id;
    let process = ProcessId { pid: driver.driver_pid, start_ticks: driver.driver_start_ticks };
    (same_boot && !place_of(driver).is_foreign()).then_some(process)
}

fn place_of(driver: &LoopStart) -> Machine {
    Machine {
        machine_id: driver.machine_id.clone(),
        boot_id: driver.boot_id.clone(),
        pid_namespace: driver.pid_namespace.clone(),
    }
}

/// An open loop that nobody here drives.
#[derive(Debug, Clone)]
pub struct Driverless {
    pub name: TaskName,
    pub title: String,
    pub status: TaskStatus,
    pub last_activity: Option<Timestamp>,
    /// What the driver before posted; a stream that a hand wrote may have none.
    pub driver: Option<LoopStart>,
    /// Of another machine or pid namespace: told, and left alone.
    pub foreign: bool,
}

impl Driverless {
    /// The task's loop, if it has lost its driver and may go on: neither ended nor stopped.
    #[must_use]
    pub fn of(tree: &Tree, view: &TaskView) -> Option<Self> {
        let task = view.task();
        decide::may_adopt_loop(task).ok()?;
        let foreign = match view.driver(tree) {
            DriverLife::NotOpen | DriverLife::Alive => return None,
            DriverLife::Lost => false,
            DriverLife::Foreign => true,
        };
        Some(Self {
            name: view.name.clone(),
            title: task.title().to_owned(),
            status: task.status(),
            last_activity: task.thread.last_activity,
            driver: task.ralph.driver.as_deref().cloned(),
            foreign,
        })
    }

    /// How many runs stand above the loop.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.driver.as_ref().map_or(0, |driver| driver.depth)
    }
}

/// What a look over projects finds.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order in which they are to be adopted: a loop that another task's run started comes before that task's.
    pub loops: Vec<Driverless>,
    /// Tasks that cannot be read.
    pub unreadable: Vec<(TaskName, ViewError)>,
}

/// All driverless loops of these projects. Cheap where nothing is open: tasks at rest are known from the roster.
///
/// # Errors
/// When a project's folder cannot be read.
pub fn driverless(tree: &Tree, projects: &[ProjectId]) -> io::Result<Found> {
    let mut found = Found::default();
    for project in projects {
        for listed in roster::list(tree, project)? {
            let name = TaskName { project: project.clone(), task: listed.task };
            let opened = match listed.row {
                Ok(row) if !row.active => continue,
                Ok(_) => TaskView::open(tree, &name),
                Err(error) => Err(error),
            };
            match opened {
                Ok(view) => found.loops.extend(Driverless::of(tree, &view)),
                Err(error) => found.unreadable.push((name, error)),
            }
        }
    }
    found.loops.sort_by_key(|lost| std::cmp::Reverse(lost.depth()));
    Ok(found)
}
