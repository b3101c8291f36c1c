//! `gemini`: Google's CLI.

mod reader;

use run_agent_core::layout::RunPaths;

use super::setup::Words;
use super::{AgentError, Backend, Call, Program, Setup, Stream, Work};

pub use reader::GeminiReader;

#[derive(Debug)]
pub struct Gemini(pub Setup);

impl Backend for Gemini {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn call(&self, _: &RunPaths, work: Work<'_>) -> Result<Call, AgentError> {
        let setup = &self.0;
        let argv = Words::new(&["gemini", "--approval-mode", "yolo", "--skip-trust"])
            .add(&["--output-format", "stream-json"])
            .flag("-m", setup.model.as_deref())
            .flag("--resume", work.session)
            .all(&setup.args)
            .done();
        // Its launcher would be one more process, which ignores SIGTERM.
        let mut env = vec![("GEMINI_CLI_NO_RELAUNCH", "true".to_owned())];
        env.extend(setup.base_url.clone().map(|url| ("GOOGLE_GEMINI_BASE_URL", url)));
        setup.call(argv, &["GEMINI_API_KEY"], env, Stream::Gemini)
    }

    fn program(&self) -> Option<Program<'_>> {
        Some(Program { name: "gemini", min_version: self.0.min_version.as_deref().unwrap_or("0.1.0") })
    }
}
