#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::super::{Backend, Claude, Codex, Gemini, Opencode};
use super::*;

struct Scene {
    folder: tempfile::TempDir,
    variables: BTreeMap<String, String>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home").display().to_string();
        std::fs::create_dir_all(folder.path().join("work")).unwrap();
        Self { folder, variables: BTreeMap::from([("HOME".to_owned(), home)]) }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn look(&self, agent: &dyn Backend) -> SignIn {
        let variable = |name: &str| self.variables.get(name).cloned();
        let cwd = self.folder.path().join("work");
        agent.sign_in(&Around { variable: &variable, cwd: &cwd }).unwrap()
    }
}

fn agents() -> [(Box<dyn Backend>, &'static str); 4] {
    let setup = Setup::default;
    let opencode = Setup { model: Some("xai/grok-4".to_owned()), ..setup() };
    [
        (Box::new(Claude(setup())), "ANTHROPIC_API_KEY"),
        (Box::new(Codex(setup())), "CODEX_API_KEY"),
        (Box::new(Gemini(setup())), "GEMINI_API_KEY"),
        (Box::new(Opencode(opencode)), "XAI_API_KEY"),
    ]
}

#[test]
fn where_nothing_is_a_token_is_missing_and_its_variable_is_named() {
    for (agent, variable) in agents() {
        assert_eq!(Scene::new().look(agent.as_ref()), SignIn::Missing(vec![variable.to_owned()]));
        let scene = Scene::new().with(variable, " ");
        assert_eq!(scene.look(agent.as_ref()), SignIn::Missing(vec![variable.to_owned()]), "a blank is none");
        let scene = Scene::new().with(variable, "secret");
        assert_eq!(scene.look(agent.as_ref()), SignIn::Variable(variable.to_owned()));
    }
}

#[test]
fn what_the_cli_keeps_of_its_own_login_is_found() {
    for (agent, path, text) in [
        (0, "home/.claude/.credentials.json", "{}"),
        (0, "home/.claude.json", r#"{"oauthAccount":{}}"#),
        (0, "home/.claude/settings.json", r#"{"apiKeyHelper":"x"}"#),
        (0, "work/.claude/settings.local.json", r#"{"env":{"ANTHROPIC_AUTH_TOKEN":"x"}}"#),
        (1, "home/.codex/auth.json", "{}"),
        (1, "home/.codex/config.toml", "model_provider = \"own\"\n"),
        (2, "home/.gemini/oauth_creds.json", "{}"),
        (2, "home/.gemini/google_accounts.json", "{}"),
        (2, "home/.gemini/settings.json", r#"{"security":{"auth":{"selectedType":"vertex-ai"}}}"#),
        (2, "home/.env", "GEMINI_API_KEY=x\n"),
        (2, "work/.env", "GOOGLE_API_KEY=x\n"),
        (2, ".env", "GEMINI_API_KEY=x\n"),
        (3, "home/.local/share/opencode/auth.json", r#"{"xai":{"type":"api","key":"x"}}"#),
        (3, "home/.config/opencode/opencode.json", r#"{"provider":{"xai":{"options":{"apiKey":"x"}}}}"#),
        (3, "work/opencode.jsonc", r#"{"provider":{"xai":{}}}"#),
    ] {
        let scene = Scene::new().file(path, text);
        let found = scene.look(agents()[agent].0.as_ref());
        assert_eq!(found, SignIn::File(scene.folder.path().join(path)), "{path}");
    }
}

#[test]
fn a_file_that_says_nothing_of_signing_in_is_no_login() {
    for (agent, path, text) in [
        (0, "home/.claude.json", r#"{"numStartups":3}"#),
        (0, "home/.claude/settings.json", r#"{"theme":"dark"}"#),
        (0, "home/.claude/.credentials.json", ""),
        (1, "home/.codex/config.toml", "model = \"gpt-5\"\n"),
        (2, "work/.env", "DATABASE=x\n"),
        (2, "home/.gemini/settings.json", r#"{"security":{"auth":{"selectedType":"gemini-api-key"}}}"#),
        (3, "home/.local/share/opencode/auth.json", r#"{"openai":{"type":"api","key":"x"}}"#),
    ] {
        let found = Scene::new().file(path, text).look(agents()[agent].0.as_ref());
        assert!(matches!(found, SignIn::Missing(_)), "{path}: {found:?}");
    }
}

#[test]
fn folders_that_a_variable_moves_are_looked_at_where_they_are() {
    for (agent, variable, file) in [
        (0, "CLAUDE_CONFIG_DIR", ".credentials.json"),
        (1, "CODEX_HOME", "auth.json"),
        (2, "GEMINI_CLI_HOME", ".gemini/oauth_creds.json"),
    ] {
        let scene = Scene::new().file(&format!("moved/{file}"), "{}");
        let moved = scene.folder.path().join("moved").display().to_string();
        let found = scene.with(variable, &moved).look(agents()[agent].0.as_ref());
        assert!(matches!(found, SignIn::File(_)), "{variable}: {found:?}");
    }
}

#[test]
fn what_the_configuration_says_counts_and_an_endpoint_of_ones_own_may_ask_for_nothing() {
    let of = |setup: Setup| Scene::new().look(&Claude(setup));
    assert_eq!(of(Setup { token: Some("x".to_owned()), ..Setup::default() }), SignIn::Token);
    let env = BTreeMap::from([("CLAUDE_CODE_USE_BEDROCK".to_owned(), "1".to_owned())]);
    assert_eq!(of(Setup { env, ..Setup::default() }), SignIn::Variable("CLAUDE_CODE_USE_BEDROCK".to_owned()));
    let base_url = Some("http://127.0.0.1:1".to_owned());
    assert!(matches!(of(Setup { base_url, ..Setup::default() }), SignIn::Unknown(_)));
    let args = vec!["-c".to_owned(), "model_provider=own".to_owned()];
    let found = Scene::new().look(&Codex(Setup { args, ..Setup::default() }));
    assert!(matches!(found, SignIn::Unknown(_)));
}

#[test]
fn opencode_needs_no_token_where_its_provider_may_need_none() {
    for model in [None, Some("ollama/llama"), Some("opencode/big-pickle"), Some("no-provider")] {
        let setup = Setup { model: model.map(str::to_owned), ..Setup::default() };
        let found = Scene::new().look(&Opencode(setup));
        assert!(matches!(found, SignIn::Unknown(_)), "{model:?}: {found:?}");
    }
}
