//! `xai`: the REST interface of xAI.

mod reader;

use run_agent_core::layout::RunPaths;
use serde_json::{Value, json};

use super::rest::{Provider, Trial};
use super::sign_in::{Around, SignIn, Traces};
use super::{AgentError, Backend, Call, Setup, Stream, Work};

pub(crate) use reader::XaiReader;

/// Asked where the configuration names none.
const MODEL: &str = "grok-4.7";
/// Where its token is looked for when the configuration has none.
pub const TOKEN_ENV: &str = "XAI_API_KEY";

const PROVIDER: Provider = Provider {
    name: "xai",
    base_url: "https://api.x.ai/v1",
    model: MODEL,
    token_env: TOKEN_ENV,
    bound: "max_completion_tokens",
    stream: Stream::Xai,
};

#[derive(Debug)]
pub struct Xai(pub Setup);

impl Xai {
    fn fields() -> Value {
        // Without it the last chunk may say nothing of what was used.
        json!({ "stream_options": { "include_usage": true } })
    }
}

impl Backend for Xai {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn has_hands(&self) -> bool {
        false
    }

    fn is_there(&self) -> Result<(), AgentError> {
        PROVIDER.call(&self.0, Self::fields()).map(drop)
    }

    fn sign_in(&self, around: &Around<'_>) -> Option<SignIn> {
        Some(self.0.sign_in(around, &Traces { tokens: &[TOKEN_ENV], others: &[], files: Vec::new() }))
    }

    fn call(&self, _: &RunPaths, _: Work<'_>) -> Result<Call, AgentError> {
        PROVIDER.call(&self.0, Self::fields())
    }

    fn trial(&self) -> Result<Option<Trial>, AgentError> {
        PROVIDER.trial(&self.0, Self::fields()).map(Some)
    }
}
