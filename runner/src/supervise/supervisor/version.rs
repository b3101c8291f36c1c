//! The version of the agent's program: warned of when it is too old, asked for when it is not known.

use run_agent_core::policy::versions;
use run_agent_core::{Draft, Kind};

use super::Supervisor;
use crate::versions::ask_aside;

impl Supervisor<'_> {
    /// The version, and the warning of it, when it is known to be too old.
    pub(super) fn too_old(&self) -> Option<(String, Draft)> {
        let program = self.launch.program.as_ref()?;
        let version = program.version.clone()?;
        if !versions::is_older(&version, &program.min_version) {
            return None;
        }
        let (agent, name) = (&self.launch.agent, &self.view.name);
        let text = format!(
            "{agent} is version {version}, older than {}: what it says may not be understood; update {}",
            program.min_version,
            program.path.display()
        );
        Some((version, Draft::new(Kind::WARNING, name.project.clone(), Some(name.task.clone()), text)))
    }

    /// Has the program asked where nobody knows. Nothing waits for the answer: the next run starts with it.
    pub(super) fn ask_version(&mut self) {
        let Some(program) = &self.launch.program else { return };
        match ask_aside(&self.tree.layout, &program.path) {
            Ok(asking) => self.asking = asking,
            Err(error) => {
                tracing::info!(program = %program.path.display(), %error, "cannot ask for the version");
            }
        }
    }
}
