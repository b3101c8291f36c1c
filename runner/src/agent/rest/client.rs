//! The HTTP client: which rules of redirects, proxies and TLS a request follows, and what lies behind its errors.

use std::error::Error;
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Client, Url, redirect};

use super::Request;

/// The client of one run's requests, and the header that has the token in it.
pub(super) fn prepare(request: &Request, connect: Duration) -> Result<(Client, HeaderValue), String> {
    let Request { url, token, .. } = request;
    let parsed = Url::parse(url).map_err(|error| format!("{url} is no address: {error}"))?;
    let mut token = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "its token has characters in it that no token has".to_owned())?;
    token.set_sensitive(true);
    let mut client = Client::builder()
        .user_agent(concat!("run-agent/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        // It would carry the token to where nobody meant it to go.
        .redirect(redirect::Policy::none())
        // Between two tries a connection would only be lost unseen.
        .pool_max_idle_per_host(0);
    if is_loopback(&parsed) {
        client = client.no_proxy();
    }
    if parsed.scheme() == "http" {
        // Without it the system's certificates are read, and must be there.
        client = client.tls_certs_only([]);
    }
    let client = client.build().map_err(|error| format!("cannot prepare the request: {}", causes(&error)))?;
    Ok((client, token))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

const LAYERS: [&str; 3] = ["client error (", "dns error", "unexpected error"];

/// What lies behind an error, which itself says little more than the address.
pub(super) fn causes(error: &reqwest::Error) -> String {
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
