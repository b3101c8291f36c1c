//! `run-info.yaml`, version 1: what a run's folder says about it, for people and other tools (spec, section 2). It is
//! a projection of the run's events and can be rebuilt from them.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::event::RunStart;
use crate::id::{ProjectId, RunId, TaskId};
use crate::text::push_quoted;
use crate::world::{Run, RunStatus, UsageRow};

/// The newest version that this program reads.
pub const VERSION: u32 = 1;

/// Field names are the file's keys. Readers ignore unknown keys and accept a missing version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunInfo {
    pub version: u32,
    pub run_id: String,
    pub project_id: String,
    pub task_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_run_id: Option<String>,
    pub agent: String,
    pub process_ownership: String,
    pub pid: u32,
    pub pgid: u32,
    pub start_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    pub exit_code: i32,
    pub status: String,
    pub cwd: String,
    pub prompt_path: String,
    pub output_path: String,
    pub stdout_path: String,
    pub stderr_path: String,
    pub commandline: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_summary: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub supervisor_pid: u32,
    pub machine_id: String,
    pub boot_id: String,
    pub pid_namespace: String,
    pub pid_start_ticks: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageRow>,
}

/// Why a file is not a run-info.
#[derive(Debug, thiserror::Error)]
pub enum RunInfoError {
    #[error(
        "{place}: version {version} is newer than this program knows (it reads up to {VERSION}); update run-agent"
    )]
    TooNew { place: String, version: u32 },
    #[error("{place}: not a run-info file: {why}")]
    Broken { place: String, why: String },
}

impl RunInfo {
    /// The projection of a run's events. `start` is the one of the run, once it has one: the fold of a run that is over
    /// does not hold it any more.
    #[must_use]
    pub fn project(
        project: &ProjectId,
        task: &TaskId,
        id: &RunId,
        run: &Run,
        start: Option<RunStart>,
    ) -> Self {
        let start = start.unwrap_or_default();
        let end = run.end();
        Self {
            version: VERSION,
            run_id: id.to_string(),
            project_id: project.to_string(),
            task_id: task.to_string(),
            parent_run_id: run.parent.as_ref().map(ToString::to_string),
            previous_run_id: run.previous.as_ref().map(ToString::to_string),
            agent: run.agent.clone(),
            process_ownership: if start.process_ownership.is_empty() {
                "managed".to_owned()
            } else {
                start.process_ownership
            },
            pid: start.pid,
            pgid: start.pgid,
            start_time: run.started().unwrap_or(run.made).to_string(),
            end_time: end.map(|(_, at)| at.to_string()),
            exit_code: end.and_then(|(end, _)| end.exit_code).unwrap_or(-1),
            status: run.status().as_str().to_owned(),
            cwd: start.cwd,
            prompt_path: start.prompt_path,
            output_path: start.output_path,
            stdout_path: start.stdout_path,
            stderr_path: start.stderr_path,
            commandline: start.commandline,
            agent_version: start.agent_version,
            backend_provider: start.backend_provider,
            backend_model: start.backend_model,
            backend_endpoint: start.backend_endpoint,
            error_summary: end
                .filter(|_| run.status() == RunStatus::Failed)
                .map(|(end, _)| end.reason.clone()),
            error_class: end.and_then(|(end, _)| end.error_class.clone()),
            retry_at: end.and_then(|(end, _)| end.retry_at).map(|at| at.to_string()),
            key: run.key.as_deref().map(str::to_owned),
            supervisor_pid: start.supervisor_pid,
            machine_id: start.machine_id,
            boot_id: start.boot_id,
            pid_namespace: start.pid_namespace,
            pid_start_ticks: start.pid_start_ticks,
            session_id: run.session_id.as_deref().map(str::to_owned),
            usage: run.usage.row(),
        }
    }

    /// The file's text. Strings are double-quoted, so that every YAML reader takes them for strings.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut out = String::with_capacity(1500);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "version: {}", self.version);
        text(&mut out, "run_id", Some(&self.run_id));
        text(&mut out, "project_id", Some(&self.project_id));
        text(&mut out, "task_id", Some(&self.task_id));
        text(&mut out, "parent_run_id", self.parent_run_id.as_deref());
        text(&mut out, "previous_run_id", self.previous_run_id.as_deref());
        text(&mut out, "agent", Some(&self.agent));
        text(&mut out, "process_ownership", Some(&self.process_ownership));
        let _ = writeln!(out, "pid: {}\npgid: {}", self.pid, self.pgid);
        text(&mut out, "start_time", Some(&self.start_time));
        text(&mut out, "end_time", self.end_time.as_deref());
        let _ = writeln!(out, "exit_code: {}", self.exit_code);
        text(&mut out, "status", Some(&self.status));
        text(&mut out, "cwd", Some(&self.cwd));
        text(&mut out, "prompt_path", Some(&self.prompt_path));
        text(&mut out, "output_path", Some(&self.output_path));
        text(&mut out, "stdout_path", Some(&self.stdout_path));
        text(&mut out, "stderr_path", Some(&self.stderr_path));
        text(&mut out, "commandline", Some(&self.commandline));
        text(&mut out, "agent_version", self.agent_version.as_deref());
        text(&mut out, "backend_provider", self.backend_provider.as_deref());
        text(&mut out, "backend_model", self.backend_model.as_deref());
        text(&mut out, "backend_endpoint", self.backend_endpoint.as_deref());
        text(&mut out, "error_summary", self.error_summary.as_deref());
        text(&mut out, "error_class", self.error_class.as_deref());
        text(&mut out, "retry_at", self.retry_at.as_deref());
        text(&mut out, "key", self.key.as_deref());
        let _ = writeln!(out, "supervisor_pid: {}", self.supervisor_pid);
        text(&mut out, "machine_id", Some(&self.machine_id));
        text(&mut out, "boot_id", Some(&self.boot_id));
        text(&mut out, "pid_namespace", Some(&self.pid_namespace));
        let _ = writeln!(out, "pid_start_ticks: {}", self.pid_start_ticks);
        text(&mut out, "session_id", self.session_id.as_deref());
        if let Some(usage) = &self.usage {
            let _ = writeln!(
                out,
                "usage:\n  input_tokens: {}\n  output_tokens: {}\n  cached_tokens: {}\n  cost_usd: {}\n  cost_incomplete: {}",
                usage.input_tokens,
                usage.output_tokens,
                usage.cached_tokens,
                usage.cost_usd.map_or_else(|| "null".to_owned(), |cost| cost.to_string()),
                usage.cost_incomplete,
            );
            if usage.incomplete {
                out.push_str("  incomplete: true\n");
            }
        }
        out
    }

    /// # Errors
    /// When `yaml` is something else, or of a newer version. `place` is the file, for the message.
    pub fn from_yaml(yaml: &str, place: &str) -> Result<Self, RunInfoError> {
        // The version comes first: a newer one may give known keys other types.
        #[derive(Deserialize)]
        struct Versioned {
            #[serde(default)]
            version: u32,
        }
        let broken = |why: String| RunInfoError::Broken { place: place.to_owned(), why };
        let Versioned { version } = serde_yaml::from_str(yaml).map_err(|e| broken(e.to_string()))?;
        if version > VERSION {
            return Err(RunInfoError::TooNew { place: place.to_owned(), version });
        }
        let info: Self = serde_yaml::from_str(yaml).map_err(|e| broken(e.to_string()))?;
        if info.run_id.is_empty() {
            return Err(RunInfoError::Broken { place: place.to_owned(), why: "it has no run_id".to_owned() });
        }
        Ok(info)
    }
}

fn text(out: &mut String, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.push_str(key);
        out.push_str(": ");
        push_quoted(out, value);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_info_comes_back_from_its_file() {
        let info = RunInfo {
            version: 1,
            run_id: "20261121-0930001234-1-1".to_owned(),
            status: "failed".to_owned(),
            exit_code: -1,
            agent: "no".to_owned(),
            error_summary: Some("exit 1: \"x\"\n- a: b".to_owned()),
            usage: Some(UsageRow {
                input_tokens: 1,
                output_tokens: 2,
                cached_tokens: 3,
                cost_usd: Some(crate::event::Usd { micros: 12_345 }),
                cost_incomplete: true,
                incomplete: true,
            }),
            ..RunInfo::default()
        };
        assert_eq!(RunInfo::from_yaml(&info.to_yaml(), "x").unwrap(), info);
    }

    #[test]
    fn the_golden_file_is_read_and_written_byte_for_byte() {
        let golden = include_str!("../../docs/formats/run-info.golden.yaml");
        let info = RunInfo::from_yaml(golden, "golden").unwrap();
        assert_eq!((info.status.as_str(), info.exit_code, info.pid_start_ticks), ("failed", 3, 123_456));
        assert_eq!(info.to_yaml(), golden);
    }

    #[test]
    fn a_newer_version_is_refused_with_its_file() {
        let error = RunInfo::from_yaml("version: 2\nrun_id: x\npid: null\n", "a/run-info.yaml").unwrap_err();
        assert!(error.to_string().starts_with("a/run-info.yaml: version 2 is newer"));
    }

    #[test]
    fn unknown_keys_and_a_missing_version_are_accepted() {
        let info = RunInfo::from_yaml("run_id: x\nfuture: [1, 2]\n", "x").unwrap();
        assert_eq!((info.run_id.as_str(), info.version), ("x", 0));
    }

    #[test]
    fn a_broken_file_says_so() {
        for broken in ["", "{", "- a\n- b", "run_id: [", "pid: many\nrun_id: x"] {
            assert!(
                RunInfo::from_yaml(broken, "f").unwrap_err().to_string().starts_with("f: "),
                "{broken:?}"
            );
        }
    }
}
