//! Posting events to the operator's address, signed so that it can tell them from others'.

use std::time::Duration;

use ring::hmac;
use run_agent_core::Kind;
use run_agent_runner::http;

use crate::config::WebhookSettings;
use crate::error::Failure;

/// The signature's header: `sha256=` and the HMAC of the body, in hexadecimal digits.
const SIGNATURE: &str = "X-Run-Agent-Signature";

#[derive(Debug)]
pub(super) struct Webhook {
    url: reqwest::Url,
    key: Option<hmac::Key>,
    timeout: Duration,
    client: reqwest::Client,
    pub(super) kinds: Vec<Kind>,
}

impl Webhook {
    /// `None` where nothing is to be posted anywhere.
    ///
    /// # Errors
    /// When the settings cannot be followed: an event that is posted unsigned by mistake would be believed.
    pub(super) fn new(set: WebhookSettings) -> Result<Option<Self>, Failure> {
        if set.url.is_empty() {
            return Ok(None);
        }
        let wrong = |what: &str| Failure::usage(format!("webhook.url `{}` {what}", set.url));
        let url = reqwest::Url::parse(&set.url).map_err(|error| wrong(&format!("is no address: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("must begin with http:// or https://"));
        }
        let kinds = set.events.iter().map(|kind| Kind::parse(kind)).collect::<Result<_, _>>();
        let kinds = kinds.map_err(|error| Failure::usage(format!("webhook.events: {error}")))?;
        let client = http::client(&url, set.timeout)
            .map_err(|error| Failure::new(crate::error::Exit::Failed, format!("webhook.url: {error}")))?;
        let key = set.secret.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
        Ok(Some(Self { url, key, timeout: set.timeout, client, kinds }))
    }

    /// Called on a thread that may wait, of a runtime.
    pub(super) fn deliver(&self, event: &str) -> Result<(), String> {
        let request = self.client.post(self.url.clone()).timeout(self.timeout);
        let mut request = request.header("Content-Type", "application/json").body(event.to_owned());
        if let Some(key) = &self.key {
            request = request.header(SIGNATURE, signature(key, event));
        }
        let answer = tokio::runtime::Handle::current()
            .block_on(request.send())
            .map_err(|error| http::causes(&error))?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(format!("it answers {}", answer.status()))
    }
}

fn signature(key: &hmac::Key, body: &str) -> String {
    use std::fmt::Write as _;
    let mut text = "sha256=".to_owned();
    for byte in hmac::sign(key, body.as_bytes()).as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_hmac_of_the_body() {
        // RFC 4231, test case 2.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        assert_eq!(
            signature(&key, "what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
