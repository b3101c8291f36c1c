//! What of the projections outlives the process: a file a project, a line a stream, each with a checksum of its own
//! (`docs/server.md`). Never the truth: a line holds while the stream looks as it did, or still has the entry
//! that was folded last; a line that does not, or is damaged, costs the reading of its stream.

use std::fs::{DirBuilder, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use run_agent_core::world::{Project, Task, WORLD_VERSION};
use run_agent_core::{ProjectId, StreamKey, TaskId};
use serde::{Deserialize, Serialize};

use super::{Live, Place};

/// Raised when a line has other fields.
const FORMAT: u32 = 1;
const LINE_MAX: u64 = 256 << 20;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    kind: String,
    format: u32,
    world: u32,
}

impl Header {
    fn own() -> Self {
        Self { kind: "projection".to_owned(), format: FORMAT, world: WORLD_VERSION }
    }
}

/// Has either a project, without its tasks, or a task.
#[derive(Serialize)]
struct LineRef<'a> {
    place: &'a Place,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<&'a Project>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<(&'a TaskId, &'a Task)>,
}

#[derive(Deserialize)]
struct Line {
    place: Place,
    project: Option<Box<Project>>,
    task: Option<(TaskId, Box<Task>)>,
}

impl Live {
    /// Takes in what was kept. What is doubtful is passed over; the look at all streams that follows makes it good.
    pub(super) fn load(&self) {
        let folder = self.layout.projections();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let project = entry.file_name().to_str().and_then(|name| ProjectId::parse(name).ok());
            if let Some(project) = project.filter(|project| self.layout.project(project).is_dir())
                && let Err(error) = self.load_project(&project, &entry.path())
            {
                tracing::debug!(%project, %error, "what was kept of a project cannot be read");
            }
        }
    }

    fn load_project(&self, project: &ProjectId, path: &Path) -> std::io::Result<()> {
        let mut lines = Lines(BufReader::with_capacity(1 << 18, self.work.open(path)?));
        let header = lines.next()?.and_then(|line| serde_json::from_slice::<Header>(text(&line)).ok());
        if header != Some(Header::own()) {
            return Ok(());
        }
        // Reading a line takes next to nothing beside making sense of it.
        let lines = Mutex::new(lines);
        let next = || lines.lock().unwrap_or_else(PoisonError::into_inner).next();
        let take_all = || -> std::io::Result<()> {
            while let Some(line) = next()? {
                if let Ok(line) = serde_json::from_slice::<Line>(text(&line)) {
                    self.take(project, line);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            for _ in 1..std::thread::available_parallelism().map_or(1, usize::from) {
                // What cannot be read is seen by this thread as well.
                scope.spawn(|| take_all().is_ok());
            }
            take_all()
        })
    }

    fn take(&self, project: &ProjectId, line: Line) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let kept = state.world.projects.entry(project.clone()).or_default();
        let key = match (line.project, line.task) {
            (Some(own), _) => {
                let tasks = std::mem::take(&mut kept.tasks);
                *kept = *own;
                kept.tasks = tasks;
                StreamKey::project(project.clone())
            }
            (None, Some((id, task))) => {
                kept.tasks.insert(id.clone(), task);
                StreamKey::task(project.clone(), id)
            }
            (None, None) => return,
        };
        let is_new = state.set_place(&key, line.place);
        drop(state);
        if is_new {
            self.counters().entry(self.work.counter(&key)).or_default().push(key);
        }
    }

    /// Writes down what is known. Failing costs time at the next start, and nothing else.
    pub(super) fn keep(&self) {
        let projects: Vec<ProjectId> = self.state().world.projects.keys().cloned().collect();
        for project in projects {
            if let Err(error) = self.keep_project(&project) {
                tracing::debug!(%project, %error, "a projection cannot be kept");
            }
        }
    }

    fn keep_project(&self, project: &ProjectId) -> std::io::Result<()> {
        let path = self.layout.projection(project);
        // What agents said is for their owner alone.
        DirBuilder::new().recursive(true).mode(0o700).create(self.layout.projections())?;
        let new = path.with_extension(format!("{}.new", std::process::id()));
        // Whatever lies there is not written through.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        let mut out = BufWriter::with_capacity(1 << 18, file);
        write_line(&mut out, &Header::own())?;
        let own = StreamKey::project(project.clone());
        let tasks: Vec<TaskId> = {
            let state = self.state();
            let Some(found) = state.world.project(project) else { return std::fs::remove_file(new) };
            if let Some(place) = state.place(&own) {
                let own = found.without_tasks();
                write_line(&mut out, &LineRef { place, project: Some(&own), task: None })?;
            }
            found.tasks.keys().cloned().collect()
        };
        for id in tasks {
            // The lock is held for one task at a time.
            let state = self.state();
            let key = StreamKey::task(project.clone(), id.clone());
            if let (Some(place), Some(task)) = (state.place(&key), state.world.task(project, &id)) {
                write_line(&mut out, &LineRef { place, project: None, task: Some((&id, task)) })?;
            }
        }
        out.flush()?;
        std::fs::rename(new, path)
    }
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> std::io::Result<()> {
    let text = serde_json::to_vec(line)?;
    write!(out, "{:08x} ", crc32fast::hash(&text))?;
    out.write_all(&text)?;
    out.write_all(b"\n")
}

/// The lines of a file that are as they were written.
struct Lines(BufReader<File>);

impl Lines {
    fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            let mut line = Vec::new();
            if (&mut self.0).take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            let is_whole = line.len() > 10
                && line.ends_with(b"\n")
                && line.starts_with(format!("{:08x} ", crc32fast::hash(text(&line))).as_bytes());
            if is_whole {
                return Ok(Some(line));
            }
        }
    }
}

/// What a line holds behind its checksum.
fn text(line: &[u8]) -> &[u8] {
    line.get(9..line.len() - 1).unwrap_or_default()
}
