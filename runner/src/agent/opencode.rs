//! `opencode`: the CLI for models of many providers.

mod reader;

use run_agent_core::layout::RunPaths;
use serde_json::json;

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

    /// Its settings for this run: unattended, and with the endpoint that was asked for.
    fn config(&self) -> String {
        let mut config = json!({ "autoupdate": false, "share": "disabled", "permission": { "*": "allow" } });
        if let (Some(provider), Some(url)) = (self.provider(), &self.0.base_url) {
            config["provider"] = json!({ provider: { "options": { "baseURL": url } } });
        }
        config.to_string()
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

    fn call(&self, _: &RunPaths, work: Work<'_>) -> Result<Call, AgentError> {
        let setup = &self.0;
        if setup.base_url.is_some() && self.provider().is_none() {
            return Err(AgentError::Settings {
                agent: setup.name.clone(),
                why: "base_url needs a model of the form provider/model, so that it is known whose endpoint it is"
                    .to_owned(),
            });
        }
        let argv = Words::new(&["opencode", "run", "--auto", "--format", "json"])
            // That it tries a request again is told in its log alone.
            .add(&["--print-logs", "--log-level", "ERROR"])
            .flag("-m", setup.model.as_deref())
            .flag("-s", work.session)
            .all(&setup.args)
            .done();
        let env =
            [("OPENCODE_CONFIG_CONTENT", self.config()), ("OPENCODE_DISABLE_AUTOUPDATE", "1".to_owned())];
        let call = setup.call(argv, &[&self.token_variable()], env, Stream::Opencode)?;
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
}
