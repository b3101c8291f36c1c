//! `opencode`: the CLI for models of many providers.

mod reader;

use run_agent_core::layout::RunPaths;
use serde_json::{Map, Value, json};

use super::setup::Words;
use super::sign_in::{Trace, Traces};
use super::{AgentError, Api, Around, Backend, Call, Program, Setup, SignIn, Stream, Work};

pub use reader::OpencodeReader;

#[derive(Debug)]
pub struct Opencode(pub Setup);

impl Opencode {
    /// The provider in `provider/model`.
    fn provider(&self) -> Option<&str> {
        self.0.model.as_deref()?.split_once('/').map(|(provider, _)| provider)
    }

    /// The provider's own name of the model is what stands behind its name.
    fn api(&self) -> Api {
        let both = self.0.model.as_deref().and_then(|model| model.split_once('/'));
        match both {
            Some((provider, model)) => Api { model: Some(model.to_owned()), ..self.0.api(provider, None) },
            None => Api { model: self.0.model.clone(), ..Api::default() },
        }
    }

    /// The variable in which the provider's key is looked for.
    fn token_variable(&self) -> String {
        match self.provider() {
            Some("google") => "GOOGLE_GENERATIVE_AI_API_KEY".to_owned(),
            Some("opencode" | "zen") | None => "OPENCODE_API_KEY".to_owned(),
            Some(provider) => format!("{}_API_KEY", provider.to_uppercase().replace('-', "_")),
        }
    }

    /// Its settings for this run: unattended, and with the endpoint and the token that were asked for. They lie over those
    /// that the caller's environment has, and below those of the agent's own `env`, as its other variables do.
    fn config(&self, around: Option<&str>) -> Result<String, AgentError> {
        let setup = &self.0;
        let mut own = json!({ "autoupdate": false, "share": "disabled", "permission": { "*": "allow" } });
        if let Some(provider) = self.provider() {
            let variable = self.token_variable();
            // Which variable it knows by itself differs from provider to provider.
            let token =
                setup.token.as_ref().and_then(|_| setup.token_variables(&[&variable]).first().copied());
            let mut options = Map::new();
            options.extend(setup.base_url.clone().map(|url| ("baseURL".to_owned(), json!(url))));
            options.extend(token.map(|name| ("apiKey".to_owned(), json!(format!("{{env:{name}}}")))));
            if !options.is_empty() {
                own["provider"] = json!({ provider: { "options": options } });
            }
        }
        let read = |text: &str| match serde_json::from_str(text) {
            Ok(Value::Object(config)) => Ok(Value::Object(config)),
            Ok(_) | Err(_) => Err(setup.wrong(format!(
                "{CONFIG} is no JSON object, so that what an unattended run needs cannot be added to it"
            ))),
        };
        let mut config = around.map_or_else(|| Ok(json!({})), read)?;
        lay_over(&mut config, own);
        if let Some(given) = setup.env.get(CONFIG) {
            lay_over(&mut config, read(given)?);
        }
        Ok(config.to_string())
    }
}

/// The variable with settings that win over those of its files.
const CONFIG: &str = "OPENCODE_CONFIG_CONTENT";

/// What the caller's environment says there.
fn around() -> Option<String> {
    std::env::var(CONFIG).ok().filter(|text| !text.trim().is_empty())
}

/// Objects are joined field by field; of two other values the upper one counts.
fn lay_over(lower: &mut Value, upper: Value) {
    match (lower, upper) {
        (Value::Object(lower), Value::Object(upper)) => {
            for (name, value) in upper {
                lay_over(lower.entry(name).or_insert(Value::Null), value);
            }
        }
        (lower, upper) => *lower = upper,
    }
}

/// Providers that are known to ask for a token, in a variable that is named after them.
const WITH_TOKENS: &[&str] = &[
    "anthropic",
    "openai",
    "google",
    "xai",
    "openrouter",
    "groq",
    "mistral",
    "deepseek",
    "cerebras",
    "perplexity",
];

impl Backend for Opencode {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn check(&self) -> Result<(), AgentError> {
        let setup = &self.0;
        setup.check()?;
        if setup.base_url.is_some() && self.provider().is_none() {
            return Err(setup.wrong(
                "base_url needs a model of the form provider/model, so that it is known whose endpoint it is"
                    .to_owned(),
            ));
        }
        self.config(around().as_deref()).map(drop)
    }

    fn call(&self, _: &RunPaths, work: Work<'_>) -> Result<Call, AgentError> {
        let setup = &self.0;
        let argv = Words::new(&["opencode", "run", "--auto", "--format", "json"])
            // That it tries a request again is told in its log alone.
            .add(&["--print-logs", "--log-level", "ERROR"])
            .flag("-m", setup.model.as_deref())
            .flag("-s", work.session)
            .all(&setup.args)
            .done();
        let env = [("OPENCODE_DISABLE_AUTOUPDATE", "1".to_owned())];
        let mut call = setup.call(argv, &[&self.token_variable()], env, Stream::Opencode)?;
        call.env.insert(CONFIG.to_owned(), self.config(around().as_deref())?);
        Ok(Call { api: self.api(), ..call })
    }

    fn sign_in(&self, around: &Around<'_>) -> Option<SignIn> {
        let setup = &self.0;
        // Without a model it is the agent's own choice, and some of its models ask for nothing.
        let Some(provider) = self.provider().filter(|provider| WITH_TOKENS.contains(provider)) else {
            return Some(SignIn::Unknown("its provider may ask for nothing"));
        };
        let data = around.folder(setup, "XDG_DATA_HOME", ".local/share").join("opencode");
        let config = around.folder(setup, "XDG_CONFIG_HOME", ".config").join("opencode");
        let logins = Trace::naming(data.join("auth.json"), provider);
        let folders = [config.as_path()].into_iter().chain(around.cwd.ancestors());
        let settings =
            folders.flat_map(|folder| ["opencode.json", "opencode.jsonc"].map(|name| folder.join(name)));
        let files =
            std::iter::once(logins).chain(settings.map(|path| Trace::naming(path, provider))).collect();
        let (variable, others) = (self.token_variable(), ["OPENCODE_CONFIG", "OPENCODE_AUTH_CONTENT"]);
        let mut tokens = vec![variable.as_str()];
        if provider == "google" {
            tokens.push("GEMINI_API_KEY");
        }
        Some(setup.sign_in(around, &Traces { tokens: &tokens, others: &others, files }))
    }

    fn tells_cost(&self) -> bool {
        true
    }

    fn program(&self) -> Option<Program<'_>> {
        Some(Program { name: "opencode", min_version: self.0.min_version.as_deref().unwrap_or("") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_stands_before_its_own_name_of_the_model() {
        let api = |model: Option<&str>| {
            Opencode(Setup { model: model.map(str::to_owned), ..Setup::default() }).api()
        };
        let both = |provider: &str, model: &str| Api {
            provider: Some(provider.to_owned()),
            model: Some(model.to_owned()),
            endpoint: None,
        };
        assert_eq!(api(Some("xai/grok-4.7")), both("xai", "grok-4.7"));
        assert_eq!(api(Some("openrouter/anthropic/opus")), both("openrouter", "anthropic/opus"));
        assert_eq!(api(Some("opus")), Api { model: Some("opus".to_owned()), ..Api::default() });
        assert_eq!(api(None), Api::default());
    }

    fn config(setup: &Setup, around: Option<&str>) -> Value {
        let text = Opencode(setup.clone()).config(around).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn with_env(setup: Setup, given: &str) -> Setup {
        Setup { env: [(CONFIG.to_owned(), given.to_owned())].into(), ..setup }
    }

    fn setup() -> Setup {
        Setup {
            model: Some("togetherai/x".to_owned()),
            base_url: Some("http://127.0.0.1:1/v1".to_owned()),
            token: Some("secret".to_owned()),
            ..Setup::default()
        }
    }

    #[test]
    fn settings_of_the_agents_own_env_are_added_to_ours_and_win() {
        let given = r#"{"share":"manual","permission":{"bash":"deny"},"provider":{"togetherai":{"models":{"x":{}}}}}"#;
        let wanted = json!({
            "autoupdate": false,
            "share": "manual",
            "permission": { "*": "allow", "bash": "deny" },
            "provider": { "togetherai": {
                "models": { "x": {} },
                "options": { "baseURL": "http://127.0.0.1:1/v1", "apiKey": "{env:TOGETHERAI_API_KEY}" },
            } },
        });
        assert_eq!(config(&with_env(setup(), given), None), wanted);
    }

    #[test]
    fn settings_of_the_callers_environment_are_kept_where_ours_say_nothing() {
        let around = r#"{"permission":{"*":"ask","edit":"deny"},"theme":"dark"}"#;
        let found = config(&Setup::default(), Some(around));
        let permission = json!({ "*": "allow", "edit": "deny" });
        assert_eq!((&found["permission"], &found["theme"]), (&permission, &json!("dark")));
    }

    #[test]
    fn the_token_is_read_from_the_variable_that_it_is_given_in() {
        let key = |setup: &Setup| config(setup, None)["provider"]["togetherai"]["options"]["apiKey"].clone();
        let own = Setup { token_env: Some("MY_TOKEN".to_owned()), ..setup() };
        assert_eq!(key(&own), json!("{env:MY_TOKEN}"));
        assert_eq!(key(&Setup { token: None, ..setup() }), Value::Null, "it signs in by itself");
    }

    #[test]
    fn settings_with_which_no_run_could_start_are_told_before_one_is_made() {
        let refused = |setup: Setup| Opencode(setup).check().unwrap_err().to_string();
        for model in [None, Some("x".to_owned())] {
            let why = refused(Setup { model, ..setup() });
            assert!(why.contains("base_url needs a model"), "{why}");
        }
        let why = refused(with_env(setup(), "[]"));
        assert!(why.contains("OPENCODE_CONFIG_CONTENT is no JSON object"), "{why}");
        assert!(Opencode(setup()).check().is_ok());
    }
}
