//! The supervisor's first part: from an order to an agent that runs (steps 6 to 9 of starting).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use run_agent_core::cause::Cause;
use run_agent_core::decide::{self, Refusal};
use run_agent_core::event::{Event, RunStart};
use run_agent_core::text;
use run_agent_core::world::Task;

use super::super::os::{self, Cgroup, Detach, Gate, Machine, NotExecuted, ProcessId};
use super::super::record::{self, Note, Terms};
use super::super::{Streams, close, ownership, start};
use super::slot::{self, Taken};
use super::{Starter, Supervisor, Wake, ears, reap};
use crate::agent::Api;
use crate::agent::rest::{Calling, Job, Patience, Request};
use crate::failpoint;
use crate::output::{Counted, Writer};
use crate::sync_clock;
use crate::view::{Proposed, ViewError};

/// What an event tells of a command line, in bytes: its fields have a bound.
const COMMANDLINE_MAX: usize = 4096;

pub(super) enum Begun {
    Running { pid: u32 },
    Refused(Refusal),
}

/// An agent that exists, or is prepared, and is not let go.
enum Held {
    Shim(ProcessId, Gate),
    Request(Box<Job>),
}

pub(super) struct StartFailure {
    pub(super) why: String,
    pub(super) class: &'static str,
}

impl Supervisor<'_> {
    /// Steps 6 to 9.
    pub(super) fn start(&mut self, starter: &mut Starter) -> Result<Begun, StartFailure> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| StartFailure { why: format!("{what}: {error}"), class: "crash" }
        };
        let prints = self.launch.streams != Streams::Terminal;
        let ears = ears::listen(&self.run, self.wake.clone()).map_err(failed("cannot listen for stops"))?;
        let parked = match self.take_slot(starter)? {
            Taken::Slot { parked } => parked,
            Taken::Refused(refusal) => return Ok(Begun::Refused(refusal)),
        };
        // Systems give a user only so many watches: one that waits for a slot takes none.
        sync_clock::keep_synced(self.tree, &self.view.name.key());
        if prints {
            ears.watch_output(&self.run);
        }
        let held = match self.launch.request.take() {
            Some(request) => Held::Request(Box::new(self.prepare(request)?)),
            None => {
                self.make_cgroup();
                let (agent, gate) = self.spawn_shim()?;
                self.agent = Some(agent);
                reap(self.wake.clone(), self.launch.streams == Streams::Terminal);
                record::note(&self.lock, &Note::Agent(agent))
                    .map_err(failed("cannot note the agent's process"))?;
                Held::Shim(agent, gate)
            }
        };
        failpoint::here("supervisor.shim");
        match self.post_start(&held, parked) {
            Ok(None) => {}
            Ok(Some(refusal)) => return Ok(Begun::Refused(refusal)),
            Err(error) => return Err(StartFailure { why: error.to_string(), class: "crash" }),
        }
        failpoint::here("supervisor.posted");
        close::project_info(self.tree, &self.view, &self.launch.run);
        self.began = Instant::now();
        // Here and not at the first look: a supervisor may be halted before it comes to one.
        self.silence.begin(self.began);
        let terms = Terms { launch: self.launch.for_a_successor(), began_ms: os::clock_ms() };
        // Without it nobody could take over: then who looks waits for the agent's end, and says that it was not seen.
        let _ = record::note(&self.lock, &Note::Terms(Box::new(terms)));
        let pid = held.pid();
        match held {
            Held::Shim(_, gate) => let_go(gate)?,
            Held::Request(job) => {
                let wake = self.wake.clone();
                // A supervisor that is gone needs no news.
                let calling = Calling::begin(*job, move |over| drop(wake.send(Wake::Asked(over))));
                self.calling = Some(calling.map_err(failed("cannot make the request"))?);
            }
        }
        failpoint::here("supervisor.let_go");
        Ok(Begun::Running { pid })
    }

    /// What the request needs of the run's files.
    fn prepare(&mut self, request: Request) -> Result<Job, StartFailure> {
        let path = self.run.prompt();
        let prompt = std::fs::read_to_string(&path).map_err(|e| cannot_open(&path, &e))?;
        let (stdout, stderr) = (output_file(&self.run.stdout())?, output_file(&self.run.stderr())?);
        // A provider may say the token again.
        let (stdout, stderr) =
            (self.secrets.writer(Counted::new(stdout)), self.secrets.writer(Counted::new(stderr)));
        let output = Box::new(Writer::new(stdout, stderr, self.marker.another()));
        Ok(Job { request, prompt, output, patience: Patience::USUAL })
    }

    /// The agent's process before it is the agent: it waits until its identity is recorded. It ends without the agent's
    /// program when this process dies, or drops the gate.
    fn spawn_shim(&mut self) -> Result<(ProcessId, Gate), StartFailure> {
        let crash = |why: String| StartFailure { why, class: "crash" };
        let (program, args) =
            self.launch.argv.split_first().ok_or_else(|| crash("its command line is empty".to_owned()))?;
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.launch.cwd);
        let streams = self.streams(&mut command)?;
        command.envs(&self.launch.env);
        let folder = self.cgroup.as_ref().and_then(|cgroup| cgroup.open().ok());
        let started = os::spawn_held(&os::Start {
            command: &command,
            streams: streams.as_ref().map(|files| files.each_ref().map(AsFd::as_fd)),
            fds: &[],
            detach: if streams.is_some() { Detach::Group } else { Detach::No },
            into: folder.as_ref().map(AsFd::as_fd),
        });
        let (spawned, gate) = started.map_err(|e| crash(format!("cannot make the agent's process: {e}")))?;
        if let Some(cgroup) = &self.cgroup
            && !spawned.in_cgroup
            && cgroup.enter(spawned.pid).is_err()
        {
            cgroup.remove();
            self.cgroup = None;
        }
        match ProcessId::now(spawned.pid) {
            Some(agent) => Ok((agent, gate)),
            // It is gone already, and said why.
            None => Err(let_go(gate).err().unwrap_or_else(|| crash("the new process vanished".to_owned()))),
        }
    }

    /// The run's own cgroup, where it can have one. Noted first: whoever finds the run dead knows what to remove.
    fn make_cgroup(&mut self) {
        if self.launch.streams != Streams::Terminal
            && let Some(cgroup) = Cgroup::for_run(&self.launch.run)
            && record::note(&self.lock, &Note::Cgroup(cgroup.path().to_owned())).is_ok()
            && cgroup.make().is_ok()
        {
            self.cgroup = Some(cgroup);
            failpoint::here("supervisor.cgroup");
        }
    }

    /// What the agent reads from and writes to; `None` where it keeps the terminal.
    fn streams(&mut self, command: &mut Command) -> Result<Option<[File; 3]>, StartFailure> {
        if self.launch.streams == Streams::Terminal {
            // This process is no supervisor of its own: its variables are those of who called it.
            start::set_environment(command, self.tree, &self.launch);
            return Ok(None);
        }
        let input = match self.stdin.take() {
            Some(given) => given,
            None => {
                let prompt = self.run.prompt();
                let nothing = self.launch.streams == Streams::Nothing;
                let path = if nothing { Path::new("/dev/null") } else { prompt.as_path() };
                File::open(path).map_err(|e| cannot_open(path, &e))?
            }
        };
        Ok(Some([input, output_file(&self.run.stdout())?, output_file(&self.run.stderr())?]))
    }

    /// Step 8. A refusal means that a stop came first.
    fn post_start(&mut self, held: &Held, parked: bool) -> Result<Option<Refusal>, ViewError> {
        let here = Machine::here();
        let path = |path: std::path::PathBuf| path.display().to_string();
        let (ownership, pgid) = match (held, self.launch.streams) {
            (Held::Request(_), _) => (ownership::EXTERNAL, ownership::NO_PROCESS),
            (Held::Shim(agent, _), Streams::Prompt | Streams::CallerInput | Streams::Nothing) => {
                (ownership::MANAGED, agent.pid)
            }
            (Held::Shim(..), Streams::Terminal) => {
                (ownership::EXTERNAL, u32::try_from(nix::unistd::getpgrp().as_raw()).unwrap_or(0))
            }
        };
        let did = match held {
            Held::Shim(agent, _) => format!("started, pid {}", agent.pid),
            Held::Request(job) => format!("is asked, model {}", job.request.model),
        };
        let Api { provider, model, endpoint } = self.launch.api.clone();
        let start = RunStart {
            agent: self.launch.agent.clone(),
            agent_version: self.launch.program.as_ref().and_then(|program| program.version.clone()),
            attempt: self.launch.attempt,
            parent_run_id: self.launch.parent.clone(),
            previous_run_id: self.launch.previous.clone(),
            process_ownership: ownership.to_owned(),
            pid: held.pid(),
            pgid,
            pid_start_ticks: held.start_ticks(),
            supervisor_pid: std::process::id(),
            supervisor_start_ticks: ProcessId::own().start_ticks,
            machine_id: here.machine_id.clone(),
            boot_id: here.boot_id.clone(),
            pid_namespace: here.pid_namespace.clone(),
            cwd: path(self.launch.cwd.clone()),
            commandline: text::head(&self.launch.commandline, COMMANDLINE_MAX).to_owned(),
            prompt_path: path(self.run.prompt()),
            output_path: path(self.run.output()),
            stdout_path: path(self.run.stdout()),
            stderr_path: path(self.run.stderr()),
            stream: self.launch.stream.map(|stream| stream.to_string()),
            backend_provider: provider,
            backend_model: model,
            backend_endpoint: endpoint,
        };
        let id = self.launch.run.clone();
        let line = format!("{} {did}", self.launch.agent);
        let scope = self.view.name.scope(Some(self.launch.run.clone()));
        let mut batch = Vec::new();
        if parked {
            batch.push(slot::unparked(&scope));
        }
        let started = Cause::Process("started".to_owned());
        batch.push(Event::RunStart(Box::new(start)).draft(&scope, &started, line));
        if let Some((version, warning)) = self.too_old() {
            let with_warning = batch.iter().cloned().chain([warning]).collect();
            let warn = |task: &Task| {
                decide::may_start_run(task, &id)?;
                decide::may_warn_of_version(task, &self.launch.agent, &version)
            };
            if let Proposed::Appended(_) = self.view.propose(with_warning, warn)? {
                return Ok(None);
            }
        }
        match self.view.propose(batch, |task| decide::may_start_run(task, &id))? {
            Proposed::Appended(_) => Ok(None),
            Proposed::Refused(refusal) => Ok(Some(refusal)),
        }
    }
}

impl Held {
    fn pid(&self) -> u32 {
        match self {
            Self::Shim(agent, _) => agent.pid,
            Self::Request(_) => ownership::NO_PROCESS,
        }
    }

    fn start_ticks(&self) -> u64 {
        match self {
            Self::Shim(agent, _) => agent.start_ticks,
            Self::Request(_) => 0,
        }
    }
}

fn cannot_open(path: &Path, error: &io::Error) -> StartFailure {
    StartFailure { why: format!("cannot open {}: {error}", path.display()), class: "crash" }
}

fn output_file(path: &Path) -> Result<File, StartFailure> {
    let open = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    open.map_err(|error| cannot_open(path, &error))
}

/// Trying again does not help: there is none, or it is none.
fn is_no_program(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let lasting = [Errno::ENOENT, Errno::ENOTDIR, Errno::EACCES, Errno::ENOEXEC, Errno::ELOOP, Errno::EISDIR];
    error.raw_os_error().is_some_and(|number| lasting.contains(&Errno::from_raw(number)))
}

/// Step 9: lets the shim go, and hears whether it became the agent.
fn let_go(gate: Gate) -> Result<(), StartFailure> {
    gate.let_go().map_err(|error| StartFailure {
        why: error.to_string(),
        class: match &error {
            NotExecuted::Program { error, .. } if is_no_program(error) => "not_found",
            NotExecuted::Program { .. } => "crash",
            NotExecuted::Gone => "killed",
            NotExecuted::Folder { .. } | NotExecuted::Process(_) => "crash",
        },
    })
}
