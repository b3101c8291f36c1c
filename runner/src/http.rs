//! An HTTP client: which rules of redirects, proxies and TLS a request follows, and what lies behind its errors.

use std::error::Error;
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Client, Url, redirect};

/// A client for requests to this address that carry a token.
///
/// # Errors
/// In words, when TLS cannot be prepared.
pub fn client(url: &Url, connect: Duration) -> Result<Client, String> {
    // A second one of this process changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = Client::builder()
        .user_agent(concat!("run-agent/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        // It would carry the token to where nobody meant it to go.
        .redirect(redirect::Policy::none())
        // Between two tries a connection would only be lost unseen.
        .pool_max_idle_per_host(0);
    if is_loopback(url) {
        client = client.no_proxy();
    }
    if url.scheme() == "http" {
        // Without it the system's certificates are read, and must be there.
        client = client.tls_certs_only([]);
    }
    client.build().map_err(|error| format!("cannot prepare the request: {}", causes(&error)))
}

/// The value of `Authorization`, which no log shows; none where the token has characters in it that no token has.
#[must_use]
pub fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What is sent there leaves this machine for no other.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

const LAYERS: [&str; 3] = ["client error (", "dns error", "unexpected error"];

/// What lies behind an error, which itself says little more than the address.
#[must_use]
pub fn causes(error: &reqwest::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut at = error.source();
    while let Some(cause) = at {
        let text = cause.to_string();
        // The layers between name only themselves, and some say again what theirs say.
        let says = !LAYERS.iter().any(|layer| text.starts_with(layer));
        if says && !causes.last().is_some_and(|last| last.contains(&text)) {
            causes.push(text);
        }
        at = cause.source();
    }
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}
