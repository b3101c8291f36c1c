//! What REST agents have in common: from an agent's settings to the request that its supervisor makes
//! (`A run without a process` in `docs/supervision.md`). `call` makes it with what `client` prepares, `bounds` says how
//! much is read of its answer, `patience` when it is made again, and `trial` makes a small one to see whether there is an answer.

mod bounds;
mod call;
mod client;
mod patience;
mod trial;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub(crate) use call::{Calling, Job, Over};
pub(crate) use patience::Patience;
pub use trial::{Trial, Tried};

use super::setup::address;
use super::{AgentError, Api, Call, Setup, Stream};

/// Where the chat completions of every provider lie below its address.
const PATH: &str = "chat/completions";
/// The fields in which providers take a bound of the answer, in tokens.
const BOUNDS: [&str; 2] = ["max_tokens", "max_completion_tokens"];
/// The bound of a trial's answer.
const TRIAL_TOKENS: u32 = 16;
/// Fields of a request that `args` do not set.
const OWN_FIELDS: [&str; 3] = ["model", "messages", "stream"];

/// A request, but for the prompt. It goes to the supervisor through a pipe, never to a disk.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub url: String,
    pub model: String,
    token: String,
    /// Beside the model and the prompt.
    fields: Map<String, Value>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, model, token: _, fields } = self;
        f.debug_struct("Request")
            .field("url", url)
            .field("model", model)
            .field("token", &"…")
            .field("fields", fields)
            .finish()
    }
}

impl Request {
    /// What is sent.
    fn body(&self, prompt: &str) -> Vec<u8> {
        let mut body = self.fields.clone();
        body.insert("model".to_owned(), json!(self.model));
        body.insert("messages".to_owned(), json!([{ "role": "user", "content": prompt }]));
        body.insert("stream".to_owned(), json!(true));
        Value::Object(body).to_string().into_bytes()
    }

    /// How a start event shows it.
    fn line(&self) -> String {
        format!("POST {} (model {})", self.url, self.model)
    }
}

/// What differs between the providers.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) name: &'static str,
    pub(super) base_url: &'static str,
    pub(super) model: &'static str,
    pub(super) token_env: &'static str,
    /// The field of [`BOUNDS`] that it takes.
    pub(super) bound: &'static str,
    pub(super) stream: Stream,
}

impl Provider {
    pub(super) fn call(&self, setup: &Setup, fields: Value) -> Result<Call, AgentError> {
        let request = self.request(setup, fields)?;
        let api = Api {
            provider: Some(self.name.to_owned()),
            model: Some(request.model.clone()),
            endpoint: Some(request.url.clone()),
        };
        let secrets = vec![request.token.clone()];
        let shown = Some(request.line());
        Ok(Call { stream: Some(self.stream), request: Some(request), api, shown, secrets, ..Call::default() })
    }

    /// The same request with a short answer, unless `args` say how long an answer may be.
    pub(super) fn trial(&self, setup: &Setup, fields: Value) -> Result<Trial, AgentError> {
        let mut request = self.request(setup, fields)?;
        if !BOUNDS.iter().any(|field| request.fields.contains_key(*field)) {
            request.fields.insert(self.bound.to_owned(), json!(TRIAL_TOKENS));
        }
        Ok(Trial { request, stream: self.stream })
    }

    /// The request of an agent with these settings.
    fn request(&self, setup: &Setup, fields: Value) -> Result<Request, AgentError> {
        let wrong = |why: String| AgentError::Settings { agent: setup.name.clone(), why };
        if !setup.env.is_empty() {
            return Err(wrong("env is for agents that have a process; it has none".to_owned()));
        }
        if setup.min_version.is_some() {
            return Err(wrong("min_version is for agents that have a program; it has none".to_owned()));
        }
        let url = endpoint(setup.base_url.as_deref().unwrap_or(self.base_url)).map_err(wrong)?;
        let variable = setup.token_env.as_deref().unwrap_or(self.token_env);
        let token =
            setup.token.as_deref().map(str::trim).filter(|token| !token.is_empty()).ok_or_else(|| {
                AgentError::NoToken { agent: setup.name.clone(), variable: variable.to_owned() }
            })?;
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("its token has characters in it that no token has".to_owned()));
        }
        let mut all = Map::new();
        if let Value::Object(fields) = fields {
            all.extend(fields);
        }
        for arg in &setup.args {
            let (name, value) = field(arg).map_err(wrong)?;
            all.insert(name, value);
        }
        Ok(Request {
            url,
            model: setup.model.clone().unwrap_or_else(|| self.model.to_owned()),
            token: token.to_owned(),
            fields: all,
        })
    }
}

/// Where the interface at `base` takes requests.
fn endpoint(base: &str) -> Result<String, String> {
    let url = address(base)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("base_url is no address of an interface: it has a query or a fragment".to_owned());
    }
    Ok(format!("{}/{PATH}", url.as_str().trim_end_matches('/')))
}

/// `name=value`, with JSON as the value, else a text.
fn field(arg: &str) -> Result<(String, Value), String> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let Some((name, value)) = arg.split_once('=').filter(|(name, _)| is_name(name)) else {
        return Err(format!(
            "args of a REST agent are fields of its request, as \"temperature=0.2\"; `{arg}` is none"
        ));
    };
    if OWN_FIELDS.contains(&name) {
        let how = if name == "model" { "; use the setting model" } else { ", which is fixed" };
        return Err(format!("args set the field `{name}`{how}"));
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests;
