//! `gemini`: Google's CLI.

mod reader;

use run_agent_core::layout::RunPaths;

use super::setup::Words;
use super::sign_in::{Trace, Traces};
use super::{AgentError, Around, Backend, Call, Program, Setup, SignIn, Stream, Work};

pub use reader::GeminiReader;

#[derive(Debug)]
pub struct Gemini(pub Setup);

/// Variables with which it signs in by other means.
const OTHERS: &[&str] = &[
    "GOOGLE_API_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_GENAI_USE_VERTEXAI",
    "GOOGLE_GENAI_USE_GCA",
    "GOOGLE_GEMINI_BASE_URL",
    "CLOUD_SHELL",
];
/// What its login leaves; one of its own stores each.
const LOGINS: &[&str] = &["oauth_creds.json", "google_accounts.json", "gemini-credentials.json"];
/// What its settings say of signing in by other means, of which some leave no file.
const OTHER_WAYS: &[&str] =
    &["vertex-ai", "compute-default-credentials", "cloud-shell", "gateway", "oauth-personal"];
/// What in a file of variables has to do with signing in.
const VARIABLES: &[&str] = &["GEMINI_", "GOOGLE_"];

impl Backend for Gemini {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn check(&self) -> Result<(), AgentError> {
        self.0.check()
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
        let call = setup.call(argv, &["GEMINI_API_KEY"], env, Stream::Gemini)?;
        Ok(Call { api: setup.api("google", Some("GOOGLE_GEMINI_BASE_URL")), ..call })
    }

    fn sign_in(&self, around: &Around<'_>) -> Option<SignIn> {
        let setup = &self.0;
        let home = around.folder(setup, "GEMINI_CLI_HOME", "");
        let own = home.join(".gemini");
        let mut files: Vec<Trace> = LOGINS
            .iter()
            .map(|name| Trace::file(own.join(name)))
            .chain([Trace::file(own.join(".env"))])
            .collect();
        for folder in [own, around.cwd.join(".gemini"), "/etc/gemini-cli".into()] {
            files.push(Trace::words(folder.join("settings.json"), OTHER_WAYS));
        }
        // It takes variables from the nearest of these.
        for folder in around.cwd.ancestors().chain([home.as_path()]) {
            files.extend([".gemini/.env", ".env"].map(|name| Trace::words(folder.join(name), VARIABLES)));
        }
        Some(setup.sign_in(around, &Traces { tokens: &["GEMINI_API_KEY"], others: OTHERS, files }))
    }

    fn program(&self) -> Option<Program<'_>> {
        Some(Program { name: "gemini", min_version: self.0.min_version.as_deref().unwrap_or("0.1.0") })
    }
}
