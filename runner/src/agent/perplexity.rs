//! `perplexity`: the REST interface of Perplexity.

mod reader;

use run_agent_core::layout::RunPaths;
use serde_json::Value;

use super::rest::{Provider, Trial};
use super::sign_in::{Around, SignIn, Traces};
use super::{AgentError, Backend, Call, Setup, Stream, Work};

pub(crate) use reader::PerplexityReader;

/// Asked where the configuration names none.
const MODEL: &str = "sonar-pro";
/// Where its token is looked for when the configuration has none.
pub const TOKEN_ENV: &str = "PERPLEXITY_API_KEY";

const PROVIDER: Provider = Provider {
    name: "perplexity",
    base_url: "https://api.perplexity.ai",
    model: MODEL,
    token_env: TOKEN_ENV,
    bound: "max_tokens",
    stream: Stream::Perplexity,
};

#[derive(Debug)]
pub struct Perplexity(pub Setup);

impl Backend for Perplexity {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn tells_cost(&self) -> bool {
        true
    }

    fn has_hands(&self) -> bool {
        false
    }

    fn is_there(&self) -> Result<(), AgentError> {
        PROVIDER.call(&self.0, Value::Null).map(drop)
    }

    fn sign_in(&self, around: &Around<'_>) -> Option<SignIn> {
        Some(self.0.sign_in(around, &Traces { tokens: &[TOKEN_ENV], others: &[], files: Vec::new() }))
    }

    fn call(&self, _: &RunPaths, _: Work<'_>) -> Result<Call, AgentError> {
        PROVIDER.call(&self.0, Value::Null)
    }

    fn trial(&self) -> Result<Option<Trial>, AgentError> {
        PROVIDER.trial(&self.0, Value::Null).map(Some)
    }
}
