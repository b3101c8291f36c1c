//! What can be wrong, as values: each with a name, a place, what it means, and the way out of it.

use std::path::PathBuf;

use run_agent_core::store::Damage;
use run_agent_core::{RunId, StreamKey};

use crate::tree::TaskName;

/// Something that is not as it should be (`docs/housekeeping.md`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    RootOpenToOthers { path: PathBuf, mode: u32 },
    StoreFileMissing { path: PathBuf },
    StoreFileBroken { path: PathBuf, why: String },
    ConfigBroken { path: PathBuf, why: String },
    Link { path: PathBuf },
    Unreadable { place: String, why: String },
    Damaged { key: StreamKey, kind: DamageKind, damage: Box<Damage> },
    EmptyStream { name: TaskName, path: PathBuf },
    HalfMadeTask { name: TaskName, path: PathBuf },
    DeletedTask { name: TaskName, path: PathBuf },
    UnfinishedStop { name: TaskName },
    LoopWithoutDriver { name: TaskName },
    UnfinishedLink { name: TaskName, child: String },
    MarkerDisagrees { name: TaskName, path: PathBuf, present: bool },
    MarkerNotAFile { name: TaskName, path: PathBuf },
    Run { name: TaskName, run: RunId, path: PathBuf, what: RunFinding },
    StrayFile { path: PathBuf },
    StrayTrash { path: PathBuf },
    StaleCache { path: PathBuf, why: &'static str },
    DeadTicket { path: PathBuf },
    FewOpenFiles { limit: u64, wanted: u64 },
    FewWatches { path: PathBuf, limit: u64, wanted: u64 },
    NoLinger { user: String },
}

/// How a stream is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageKind {
    TornTail,
    CutShort,
    Entry,
    StrayRescue,
    Frame,
    CutOff,
}

/// What is wrong with one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunFinding {
    Dead,
    AgentAlone {
        pid: u32,
    },
    Foreign,
    /// No message names it. `own`: nothing is in its folder but what a starter puts there.
    HalfMade {
        own: bool,
    },
    Deleted,
    FolderMissing,
    InfoMissing,
    InfoBroken {
        why: String,
    },
    InfoBehind {
        said: String,
        is: String,
    },
    InfoNewer {
        why: String,
    },
    OutputMissing,
    StaleDoorbell,
    /// How many processes of the run are in it.
    LeftCgroup {
        processes: usize,
    },
}

/// The way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayOut {
    /// `--repair` does this.
    Repair(&'static str),
    /// A person decides.
    Person(String),
    /// It is only told: nothing has to be done, or not here.
    Note(&'static str),
}

impl Finding {
    /// For programs. Stable.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RootOpenToOthers { .. } => "root_open_to_others",
            Self::StoreFileMissing { .. } => "store_file_missing",
            Self::StoreFileBroken { .. } => "store_file_broken",
            Self::ConfigBroken { .. } => "config_broken",
            Self::Link { .. } => "link",
            Self::Unreadable { .. } => "unreadable",
            Self::Damaged { kind, .. } => match kind {
                DamageKind::TornTail => "torn_tail",
                DamageKind::CutShort => "cut_short",
                DamageKind::Entry => "damaged_entry",
                DamageKind::StrayRescue => "stray_rescue",
                DamageKind::Frame => "damaged_frame",
                DamageKind::CutOff => "cut_off",
            },
            Self::EmptyStream { .. } => "empty_stream",
            Self::HalfMadeTask { .. } => "half_made_task",
            Self::DeletedTask { .. } => "deleted_task",
            Self::UnfinishedStop { .. } => "unfinished_stop",
            Self::LoopWithoutDriver { .. } => "loop_without_driver",
            Self::UnfinishedLink { .. } => "unfinished_link",
            Self::MarkerDisagrees { .. } => "marker_disagrees",
            Self::MarkerNotAFile { .. } => "marker_not_a_file",
            Self::Run { what, .. } => what.name(),
            Self::StrayFile { .. } => "stray_file",
            Self::StrayTrash { .. } => "stray_trash",
            Self::StaleCache { .. } => "stale_cache",
            Self::DeadTicket { .. } => "dead_ticket",
            Self::FewOpenFiles { .. } => "few_open_files",
            Self::FewWatches { .. } => "few_watches",
            Self::NoLinger { .. } => "no_linger",
        }
    }

    /// Where it is: a stream, a task, a run, or a path.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::RootOpenToOthers { path, .. }
            | Self::StoreFileMissing { path }
            | Self::StoreFileBroken { path, .. }
            | Self::ConfigBroken { path, .. }
            | Self::Link { path }
            | Self::StrayFile { path }
            | Self::StrayTrash { path }
            | Self::StaleCache { path, .. }
            | Self::DeadTicket { path }
            | Self::FewWatches { path, .. } => path.display().to_string(),
            Self::Unreadable { place, .. } => place.clone(),
            Self::Damaged { damage, .. } => damage.place.clone(),
            Self::EmptyStream { name, .. }
            | Self::HalfMadeTask { name, .. }
            | Self::DeletedTask { name, .. }
            | Self::UnfinishedStop { name }
            | Self::LoopWithoutDriver { name }
            | Self::UnfinishedLink { name, .. }
            | Self::MarkerDisagrees { name, .. }
            | Self::MarkerNotAFile { name, .. } => name.to_string(),
            Self::Run { name, run, .. } => format!("{name}/{run}"),
            Self::FewOpenFiles { .. } | Self::NoLinger { .. } => "this system".to_owned(),
        }
    }

    /// What it is and what it means, in one sentence.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::RootOpenToOthers { mode, .. } => {
                format!(
                    "other users may look into the storage folder (mode {mode:04o}, and it should be 0700)"
                )
            }
            Self::StoreFileMissing { .. } => "the file that says what this root is is gone".to_owned(),
            Self::StoreFileBroken { why, .. } | Self::ConfigBroken { why, .. } => why.clone(),
            Self::Link { .. } => {
                "it is a link, and links below the storage folder are not followed".to_owned()
            }
            Self::Unreadable { why, .. } => format!("it cannot be looked at: {why}"),
            Self::Damaged { damage, .. } => damage.what.clone(),
            Self::EmptyStream { .. } => {
                "the task has a prompt or runs, and its message bus holds not one message".to_owned()
            }
            Self::HalfMadeTask { .. } => "who made it was killed before there was anything in it".to_owned(),
            Self::DeletedTask { .. } => "its deletion was posted and not finished".to_owned(),
            Self::UnfinishedStop { .. } => {
                "a stop was asked for, nothing runs any more, and nobody is left to say so".to_owned()
            }
            Self::LoopWithoutDriver { .. } => "its loop is open, and the driver is gone".to_owned(),
            Self::UnfinishedLink { child, .. } => {
                format!(
                    "{child}, which a run of it started elsewhere, works no more, and nobody was left to say so"
                )
            }
            Self::MarkerDisagrees { present: true, .. } => {
                "a DONE file lies there, and the stream does not know of it".to_owned()
            }
            Self::MarkerDisagrees { present: false, .. } => {
                "the stream says DONE, and no such file lies there".to_owned()
            }
            Self::MarkerNotAFile { .. } => "DONE is not a regular file".to_owned(),
            Self::Run { what, .. } => what.what(),
            Self::StrayFile { .. } => "a temporary file whose writer is dead".to_owned(),
            Self::StrayTrash { .. } => "it was deleted, and is not removed yet".to_owned(),
            Self::StaleCache { why, .. } => format!("a cache that is of no use: {why}"),
            Self::DeadTicket { .. } => "a place in a queue whose owner is dead".to_owned(),
            Self::FewOpenFiles { limit, wanted } => {
                format!("a process may open {limit} files; {wanted} are better where many tasks are followed")
            }
            Self::FewWatches { limit, wanted, .. } => format!(
                "the system allows {limit}, and {wanted} are better; without a watch it is looked again now and then"
            ),
            Self::NoLinger { user } => format!(
                "what {user} runs may be ended by the system at logout: `loginctl enable-linger {user}` keeps it"
            ),
        }
    }

    #[must_use]
    pub fn way_out(&self) -> WayOut {
        match self {
            Self::RootOpenToOthers { .. } => WayOut::Repair("takes the permissions of others away"),
            Self::StoreFileMissing { .. } => WayOut::Repair("writes it, as every other command would"),
            Self::StoreFileBroken { .. } => {
                person("mend it, or remove it: the next command writes it anew from the configuration")
            }
            Self::ConfigBroken { .. } => {
                person("mend it; `run-agent config validate` shows all that is wrong")
            }
            Self::Link { .. } => person("put the folder itself there, or remove the link"),
            Self::Unreadable { .. } => person("see to its permissions and to the disk"),
            Self::Damaged { kind, .. } => match kind {
                DamageKind::TornTail => WayOut::Repair("moves it to a file beside the bus"),
                DamageKind::CutShort => {
                    WayOut::Repair("goes on from where it ends now; what was cut off does not come back")
                }
                DamageKind::Entry => WayOut::Repair(
                    "seals an entry that was edited by hand anew, and moves text that is no entry away; old bytes are kept beside the bus, and what neither mends is left to `run-agent bus edit`",
                ),
                DamageKind::StrayRescue => WayOut::Repair(
                    "uses it, or removes it when the stream holds all of it, or keeps it aside",
                ),
                DamageKind::Frame => person("nothing mends it; what stands around it is read"),
                DamageKind::CutOff => person("look at what it holds, then delete the file"),
            },
            Self::EmptyStream { .. } => person(
                "bring the bus back from a copy, go on with `run-agent task`, or `run-agent task delete` it",
            ),
            Self::HalfMadeTask { .. } => WayOut::Repair("removes the folder"),
            Self::DeletedTask { .. } => WayOut::Repair("finishes the deletion"),
            Self::UnfinishedStop { .. } => WayOut::Repair("ends the stop"),
            Self::LoopWithoutDriver { .. } => {
                person("`run-agent adopt` goes on with it, `run-agent stop` ends it; a start costs money")
            }
            Self::UnfinishedLink { .. } => WayOut::Repair("says so"),
            Self::MarkerDisagrees { present: true, .. } => WayOut::Repair("posts DONE"),
            Self::MarkerDisagrees { present: false, .. } => WayOut::Repair("posts DONE_CLEARED"),
            Self::MarkerNotAFile { .. } => person("remove it"),
            Self::Run { what, .. } => what.way_out(),
            Self::StrayFile { .. } | Self::StrayTrash { .. } | Self::DeadTicket { .. } => {
                WayOut::Repair("removes it")
            }
            Self::StaleCache { .. } => WayOut::Repair("removes it; it is made again when it is needed"),
            Self::FewOpenFiles { .. } => WayOut::Note("`ulimit -n` raises it"),
            Self::FewWatches { .. } => WayOut::Note("the administrator raises it with sysctl"),
            Self::NoLinger { .. } => WayOut::Note("runs that are to outlive a logout need it"),
        }
    }

    /// A note does not count: the root is healthy with it.
    #[must_use]
    pub fn is_note(&self) -> bool {
        matches!(self.way_out(), WayOut::Note(_))
    }
}

fn person(how: &str) -> WayOut {
    WayOut::Person(how.to_owned())
}

impl RunFinding {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Dead => "dead_run",
            Self::AgentAlone { .. } => "agent_alone",
            Self::Foreign => "foreign_run",
            Self::HalfMade { .. } => "half_made_run",
            Self::Deleted => "deleted_run",
            Self::FolderMissing => "run_folder_missing",
            Self::InfoMissing => "run_info_missing",
            Self::InfoBroken { .. } => "run_info_broken",
            Self::InfoBehind { .. } => "run_info_behind",
            Self::InfoNewer { .. } => "run_info_newer",
            Self::OutputMissing => "output_missing",
            Self::StaleDoorbell => "stale_doorbell",
            Self::LeftCgroup { .. } => "left_cgroup",
        }
    }

    fn what(&self) -> String {
        match self {
            Self::Dead => {
                "it is active in the stream, and neither its agent nor a supervisor lives".to_owned()
            }
            Self::AgentAlone { pid } => {
                format!("its supervisor is lost, and the agent (process {pid}) works on")
            }
            Self::Foreign => "it belongs to another machine or container, and is left alone".to_owned(),
            Self::HalfMade { own: true } => {
                "who started it was killed before any message named it".to_owned()
            }
            Self::HalfMade { own: false } => "no message of the task names it".to_owned(),
            Self::Deleted => "its deletion was posted and not finished".to_owned(),
            Self::FolderMissing => "it has ended, and its folder is gone".to_owned(),
            Self::InfoMissing => "run-info.yaml is missing".to_owned(),
            Self::InfoBroken { why } | Self::InfoNewer { why } => why.clone(),
            Self::InfoBehind { said, is } => {
                format!("run-info.yaml says {said}, and the stream says {is}")
            }
            Self::OutputMissing => "it has ended, and output.md is missing".to_owned(),
            Self::StaleDoorbell => "it has ended, and its doorbell or socket lies there".to_owned(),
            Self::LeftCgroup { processes: 0 } => "it has ended, and its empty cgroup is there".to_owned(),
            Self::LeftCgroup { processes } => {
                format!("it has ended, and its cgroup holds what it left running (processes: {processes})")
            }
        }
    }

    fn way_out(&self) -> WayOut {
        match self {
            Self::Dead => WayOut::Repair("posts its end, once"),
            Self::AgentAlone { .. } => {
                person("it is closed when the agent ends; `run-agent stop --run` ends it now")
            }
            Self::Foreign => WayOut::Note("it is closed where it was started"),
            Self::HalfMade { own: true } => WayOut::Repair("removes the folder"),
            Self::HalfMade { own: false } => {
                person("what lies in it may be worth keeping: move it away or remove it")
            }
            Self::Deleted => WayOut::Repair("finishes the deletion"),
            Self::FolderMissing => {
                WayOut::Repair("makes the folder again with what the stream knows; the run's output is gone")
            }
            Self::InfoMissing | Self::InfoBroken { .. } | Self::InfoBehind { .. } => {
                WayOut::Repair("writes it from the stream")
            }
            Self::InfoNewer { .. } => person("a newer run-agent wrote it: update this one"),
            Self::OutputMissing => WayOut::Repair("makes it from what the run printed"),
            Self::StaleDoorbell => WayOut::Repair("removes it"),
            Self::LeftCgroup { processes: 0 } => WayOut::Repair("removes it"),
            Self::LeftCgroup { .. } => WayOut::Repair("ends them as the run's own end would, and removes it"),
        }
    }
}
