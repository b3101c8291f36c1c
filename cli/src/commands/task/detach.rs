//! `--detach`, and the hidden command behind it: a loop that is driven by a process of its own
//! (`docs/supervision.md`, "A loop's driver"). The driver gets what the foreground one would have, and goes the same way.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use run_agent_runner::Tree;
use run_agent_runner::drive::detach::{self, Answer, Reporter};
use run_agent_runner::link;
use run_agent_runner::starting::Starting;
use run_agent_runner::tree::TaskName;
use serde::{Deserialize, Serialize};

use super::{Driving, Prepared, Settings, run_loop};
use crate::args::Global;
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render;

/// Who started a loop.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The run of another task that did.
    pub(crate) parent: Option<link::Origin>,
    pub(crate) depth: u32,
    pub(crate) cause: String,
}

impl Origin {
    pub(crate) fn of_caller(context: &Context, name: &TaskName) -> Result<Self, Failure> {
        let (_, depth) = super::super::job::parent_and_depth(context)?;
        Ok(Self {
            parent: super::super::job::origin(context, name)?,
            depth,
            cause: context.cause().to_string(),
        })
    }
}

/// What a driver is sent on its stdin.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) settings: Settings,
    pub(crate) fresh: bool,
    pub(crate) adopt: bool,
    pub(crate) origin: Origin,
}

/// What it reports, once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reported<F> {
    Driving { pid: u32 },
    Failed(F),
}

/// As `LOOP_START` keeps them: the flags, the folder that they came to, and the configuration where one was named.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    #[serde(flatten)]
    pub(crate) settings: Settings,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<PathBuf>,
}

/// The settings as text for `LOOP_START`.
pub(super) fn kept(context: &Context, settings: &Settings, cwd: &Path) -> String {
    let config = context.config_named().filter(|path| path.is_file()).map(Path::to_owned);
    let settings = Settings { cwd: Some(cwd.to_owned()), ..settings.clone() };
    // A path that is no text cannot be kept: the loop is then adopted with what the configuration says.
    serde_json::to_string(&Kept { settings, config }).unwrap_or_default()
}

/// The report pipe of this process. The first word counts.
#[derive(Debug)]
pub(crate) struct Report(RefCell<Option<Reporter>>);

impl Report {
    pub(super) fn driving(&self) {
        // The loop goes on, whether anybody hears it or not.
        let _ = self.say(&Reported::<()>::Driving { pid: std::process::id() });
    }

    /// True when this was the word that counts, and was heard.
    fn say(&self, what: &Reported<impl Serialize>) -> bool {
        match (self.0.take(), serde_json::to_vec(what)) {
            (Some(reporter), Ok(text)) => reporter.report(&text),
            _ => false,
        }
    }
}

/// Has a process of its own drive the loop of an existing task, and returns when it does.
pub(crate) fn start(context: &Context, name: &TaskName, settings: &Settings, starting: Starting) -> Outcome {
    // What would keep the loop from starting is told before a process is made.
    let prepared = Prepared::new(context, name, settings)?;
    prepared.warn(context)?;
    let order = Order {
        settings: Settings { cwd: Some(prepared.cwd), ..settings.clone() },
        fresh: settings.fresh,
        adopt: false,
        origin: Origin::of_caller(context, name)?,
    };
    let pid = Parcel::pack(context, name, context.config_named(), &order)?.send(Some(starting))?;
    started(context.json, name, Some(pid))
}

/// All that is needed to start a driver, without the context: several are started at once.
#[derive(Debug)]
pub(crate) struct Parcel {
    tree: Tree,
    name: TaskName,
    flags: Vec<OsString>,
    order: Vec<u8>,
    /// For commands that are printed.
    place: String,
}

impl Parcel {
    pub(crate) fn pack(
        context: &Context,
        name: &TaskName,
        config: Option<&Path>,
        order: &Order,
    ) -> Result<Self, Failure> {
        let order = serde_json::to_vec(order)
            .map_err(|e| Failure::new(Exit::Failed, format!("cannot hand the loop of {name} over: {e}")))?;
        Ok(Self {
            tree: context.tree.clone(),
            name: name.clone(),
            flags: flags(context, name, config)?,
            order,
            place: context.flags_for(name),
        })
    }

    /// Starts a driver, which goes on with what is on its way. Returns its pid when it has the loop.
    pub(crate) fn send(&self, starting: Option<Starting>) -> Result<u32, Failure> {
        let answer = detach::start(&self.tree, &self.name, &self.flags, &self.order, starting)
            .map_err(|e| Failure::io(format!("cannot start a driver for {}", self.name), &e))?;
        let report = match answer {
            Answer::Reported(report) => report,
            Answer::Silent(status) => return Err(self.silent(status)),
        };
        match serde_json::from_slice(&report) {
            Ok(Reported::Driving { pid }) => Ok(pid),
            Ok(Reported::<Failure>::Failed(failure)) => Err(failure),
            Err(_) => Err(self.silent(None)),
        }
    }

    /// A driver that died before it could report: what it said last is all there is.
    fn silent(&self, status: Option<ExitStatus>) -> Failure {
        let Self { tree, name, .. } = self;
        let log = tree.task(name).driver_log();
        let how = status.map(|status| format!(" ({status})")).unwrap_or_default();
        Failure::new(
            Exit::Failed,
            format!("the driver of {name} died before it could say that it drives{how}"),
        )
        .hint(format!(
            "see where the task stands with `run-agent status{}`, and what the driver said in {}",
            self.place,
            log.display()
        ))
    }
}

/// The flags by which the driver finds what this command works on.
fn flags(context: &Context, name: &TaskName, config: Option<&Path>) -> Result<Vec<OsString>, Failure> {
    let mut flags: Vec<OsString> = Vec::new();
    // Named only where a flag names it here: commands that the driver prints for people are as long as ours.
    if context.names_root() {
        flags.extend(["--root".into(), context.tree.layout.root().into()]);
    }
    if let Some(config) = config {
        if config.exists() && !config.is_file() {
            return Err(Failure::usage(format!(
                "the configuration {} is no regular file, and the driver has to read it again; write it to a file",
                config.display()
            )));
        }
        flags.extend(["--config".into(), config.into()]);
    }
    for (flag, value) in [("--project", name.project.as_str()), ("--task", name.task.as_str())] {
        flags.extend([flag.into(), value.into()]);
    }
    Ok(flags)
}

/// Says which task is driven.
pub(super) fn started(json: bool, name: &TaskName, pid: Option<u32>) -> Outcome {
    if json {
        render::json(&serde_json::json!({
            "project_id": name.project, "task_id": name.task, "driver_pid": pid,
        }))?;
    } else {
        render::out(&format!("{}\n", name.task))?;
    }
    Ok(Exit::Done)
}

/// The hidden command: drives one loop as its order says.
pub(crate) fn drive(global: &Global) -> Outcome {
    let reporter = Reporter::inherited()
        .map_err(|_| Failure::usage(format!("{} is started by run-agent alone", detach::COMMAND)))?;
    let report = Report(RefCell::new(Some(reporter)));
    match drive_as_ordered(global, &report) {
        // Told by whoever started this: the log is for what nobody hears.
        Err(failure) if report.say(&Reported::Failed(&failure)) => Ok(failure.exit()),
        outcome => outcome,
    }
}

fn drive_as_ordered(global: &Global, report: &Report) -> Outcome {
    let starting = detach::starting();
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text).map_err(|e| Failure::io("cannot read the order", &e))?;
    // Where the starter was killed in the middle, nobody reads this but the log.
    let order: Order = serde_json::from_slice(&text)
        .map_err(|e| Failure::usage(format!("the order to drive a loop is cut short: {e}")))?;
    let context = Context::open_configured(global)?;
    let name = context.required_task()?;
    let settings = Settings { fresh: order.fresh, ..order.settings };
    let driving = Driving {
        origin: Some(order.origin),
        adopt: order.adopt,
        follow: None,
        report: Some(report),
        starting,
    };
    run_loop(&context, &name, &settings, driving)
}

/// A time limit as whole milliseconds.
pub(super) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::ref_option)] // serde's own form
    pub(in super::super) fn serialize<S: Serializer>(
        limit: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        limit.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(Duration::from_millis))
    }
}
