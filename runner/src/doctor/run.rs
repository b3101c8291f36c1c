//! One run held against its folder. [`judge`] is pure; [`look`] gathers what it needs.

use std::path::Path;

use run_agent_core::layout::RunPaths;
use run_agent_core::run_info::{RunInfo, RunInfoError};
use run_agent_core::world::Run;
use run_agent_core::{RunId, Stream, Timestamp};

use super::finding::RunFinding;
use crate::supervise::close::{self, Life};
use crate::tree::{TaskName, Tree};
use crate::view::start_at;

/// What a look at a run that nobody is at work on finds.
#[derive(Debug)]
pub(super) struct Look {
    /// Of an active run.
    pub(super) life: Option<Life>,
    pub(super) folder: bool,
    pub(super) info: Info,
    pub(super) output: bool,
    pub(super) doorbell: bool,
    /// Of a run that is over, where its cgroup is still there: how many processes are in it.
    pub(super) cgroup: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Info {
    Missing,
    Broken(String),
    Newer(String),
    Read(Box<RunInfo>),
}

/// Gathers.
pub(super) fn look(
    tree: &Tree,
    name: &TaskName,
    id: &RunId,
    run: &Run,
    stream: &dyn Stream,
) -> std::io::Result<Look> {
    let paths = tree.run(name, id);
    let life = if run.is_active() { Some(close::life(tree, name, id, run)?) } else { None };
    let cgroup = || close::left_cgroup(tree, name, id, || start_at(stream, run));
    let there = |path: &Path| path.symlink_metadata().is_ok();
    Ok(Look {
        life,
        folder: paths.folder().is_dir(),
        info: info(tree, &paths),
        output: there(&paths.output()),
        doorbell: there(&paths.doorbell()) || there(&paths.socket()),
        cgroup: if run.is_active() { None } else { cgroup() },
    })
}

fn info(tree: &Tree, paths: &RunPaths) -> Info {
    let path = paths.info();
    match tree.read_text(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Info::Missing,
        Err(error) => Info::Broken(format!("run-info.yaml cannot be read: {error}")),
        Ok(text) => match RunInfo::from_yaml(&text, "run-info.yaml") {
            Ok(info) => Info::Read(Box::new(info)),
            Err(error @ RunInfoError::TooNew { .. }) => Info::Newer(error.to_string()),
            Err(error @ RunInfoError::Broken { .. }) => Info::Broken(first_line(&error.to_string())),
        },
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// What is wrong with it.
pub(super) fn judge(run: &Run, id: &RunId, look: &Look) -> Vec<RunFinding> {
    let mut found = Vec::new();
    match &look.life {
        Some(Life::Supervised) => return found,
        Some(Life::Foreign) => return vec![RunFinding::Foreign],
        // Closing it brings its files up to date too.
        Some(Life::Dead(_)) => return vec![RunFinding::Dead],
        Some(Life::AgentAlone(agent)) => found.push(RunFinding::AgentAlone { pid: agent.pid }),
        None => {}
    }
    let ended = !run.is_active();
    found.extend(look.cgroup.map(|processes| RunFinding::LeftCgroup { processes }));
    if !look.folder {
        if ended {
            found.push(RunFinding::FolderMissing);
        }
        return found;
    }
    found.extend(judge_info(run, id, &look.info));
    if ended && !look.output {
        found.push(RunFinding::OutputMissing);
    }
    if ended && look.doorbell {
        found.push(RunFinding::StaleDoorbell);
    }
    found
}

/// Only what the stream decides is compared: a file of another tool of the family says more than we would write.
fn judge_info(run: &Run, id: &RunId, info: &Info) -> Option<RunFinding> {
    let info = match info {
        Info::Missing => return Some(RunFinding::InfoMissing),
        Info::Broken(why) => return Some(RunFinding::InfoBroken { why: why.clone() }),
        Info::Newer(why) => return Some(RunFinding::InfoNewer { why: why.clone() }),
        Info::Read(info) => info,
    };
    if info.run_id != id.as_str() {
        return Some(RunFinding::InfoBehind {
            said: format!("run {}", info.run_id),
            is: format!("run {id}"),
        });
    }
    let words = |status: &str, code: Option<i32>| match code {
        Some(code) => format!("{status} with exit code {code}"),
        None => status.to_owned(),
    };
    let is = run.status().as_str();
    let code = run.end().and_then(|(end, _)| end.exit_code);
    let same_code = code.is_none_or(|code| code == info.exit_code);
    if info.status == is && same_code {
        return None;
    }
    let said_code = run.end().is_some().then_some(info.exit_code).filter(|_| !same_code);
    Some(RunFinding::InfoBehind {
        said: words(&info.status, said_code),
        is: words(is, code.filter(|_| !same_code)),
    })
}

/// Made longer ago than a starter takes from the folder to its lock.
pub(super) fn is_settled(path: &Path, seconds: u64) -> bool {
    let Ok(modified) = path.symlink_metadata().and_then(|meta| meta.modified()) else { return false };
    Timestamp::try_from(modified).is_ok_and(|at| {
        let age = Timestamp::now().as_second().saturating_sub(at.as_second());
        u64::try_from(age).is_ok_and(|age| age >= seconds)
    })
}

#[cfg(test)]
mod tests {
    use run_agent_core::cause::Cause;
    use run_agent_core::event::{Event, RunEnd, RunIntent, RunOutcome, Scope};
    use run_agent_core::{Cursor, Message, MsgId, ProjectId, StreamKey, TaskId, World};

    use super::*;

    fn run(ended: bool) -> (RunId, Run) {
        let id = RunId::parse("20261121-0930001234-1-1").unwrap();
        let task = TaskId::parse("task-20261121-093000-x").unwrap();
        let key = StreamKey::task(ProjectId::parse("p").unwrap(), task.clone());
        let scope = Scope { project: key.project.clone(), task: Some(task.clone()), run: Some(id.clone()) };
        let mut world = World::new();
        let mut events = vec![Event::RunIntent(RunIntent::default())];
        if ended {
            let end = RunEnd { status: RunOutcome::Failed, exit_code: Some(3), ..RunEnd::default() };
            events.push(Event::RunEnd(end));
        }
        for (at, event) in (1..).zip(events) {
            let content = event.draft(&scope, &Cause::Timer("x".to_owned()), "");
            let id = MsgId::parse(&format!("m{at}")).unwrap();
            world.apply(&key, Cursor::new(at), &Message { id, ts: Timestamp::UNIX_EPOCH, content });
        }
        let run = world.task(&key.project, &task).unwrap().runs[&id].clone();
        (id, run)
    }

    fn whole(id: &RunId, run: &Run) -> Look {
        let project = ProjectId::parse("p").unwrap();
        let info =
            RunInfo::project(&project, &TaskId::parse("task-20261121-093000-x").unwrap(), id, run, None);
        Look {
            life: None,
            folder: true,
            info: Info::Read(Box::new(info)),
            output: true,
            doorbell: false,
            cgroup: None,
        }
    }

    #[test]
    fn a_run_that_ended_is_held_against_its_folder() {
        let (id, run) = run(true);
        let names = |look: &Look| judge(&run, &id, look).iter().map(RunFinding::name).collect::<Vec<_>>();
        assert_eq!(names(&whole(&id, &run)), [""; 0]);
        assert_eq!(names(&Look { folder: false, ..whole(&id, &run) }), ["run_folder_missing"]);
        let unseen = Look { folder: false, cgroup: Some(1), ..whole(&id, &run) };
        assert_eq!(names(&unseen), ["left_cgroup", "run_folder_missing"]);
        let bare = Look { info: Info::Missing, output: false, doorbell: true, ..whole(&id, &run) };
        assert_eq!(names(&bare), ["run_info_missing", "output_missing", "stale_doorbell"]);
        let broken = Look { info: Info::Broken("x".to_owned()), ..whole(&id, &run) };
        assert_eq!(names(&broken), ["run_info_broken"]);
        for wrong in [
            RunInfo {
                status: "running".to_owned(),
                exit_code: -1,
                run_id: id.to_string(),
                ..RunInfo::default()
            },
            RunInfo {
                status: "failed".to_owned(),
                exit_code: 0,
                run_id: id.to_string(),
                ..RunInfo::default()
            },
            RunInfo {
                status: "failed".to_owned(),
                exit_code: 3,
                run_id: "other".to_owned(),
                ..RunInfo::default()
            },
        ] {
            let look = Look { info: Info::Read(Box::new(wrong)), ..whole(&id, &run) };
            assert_eq!(names(&look), ["run_info_behind"]);
        }
    }

    #[test]
    fn an_active_run_is_judged_by_who_lives() {
        let (id, run) = run(false);
        let look = |life| Look { life: Some(life), info: Info::Missing, output: false, ..whole(&id, &run) };
        assert_eq!(judge(&run, &id, &look(Life::Supervised)), []);
        assert_eq!(judge(&run, &id, &look(Life::Foreign)), [RunFinding::Foreign]);
        assert_eq!(judge(&run, &id, &look(Life::Dead(Box::default()))), [RunFinding::Dead]);
    }
}
