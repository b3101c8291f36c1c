//! Who may ask: the API starts processes, so that no page that a person happens to visit may reach it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::Settings;
use crate::error::{Code, Refused};

/// The greatest body of a request, in bytes.
pub(crate) const BODY_MAX: usize = 1 << 20;
/// The longest path and query.
const URI_MAX: usize = 8 * 1024;

#[derive(Debug)]
pub(crate) struct Guard {
    hosts: Vec<String>,
    api_key: Option<String>,
}

impl Guard {
    pub(crate) fn new(settings: &Settings) -> Self {
        let hosts = settings.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { hosts, api_key: settings.api_key.clone() }
    }

    fn look(&self, request: &Request) -> Result<(), Refused> {
        if request.uri().to_string().len() > URI_MAX {
            let status = StatusCode::URI_TOO_LONG;
            return Err(
                Refused::bad(format!("path and query are longer than {URI_MAX} bytes")).with_status(status)
            );
        }
        let headers = request.headers();
        let host = one(headers, &HOST)?;
        let own = host.and_then(|host| host.parse::<Authority>().ok());
        let own = own.or_else(|| request.uri().authority().cloned());
        let Some(own) = own.filter(|own| self.is_ours(own.host())) else {
            return Err(Refused::new(
                Code::Forbidden,
                "the Host header names another host than this server; name it in server.allowed_hosts if it is right",
            ));
        };
        self.check_key(headers)?;
        if !may_change(request.method()) {
            return Ok(());
        }
        check_origin(headers, &own)
    }

    fn is_ours(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let loopback =
            bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        loopback || self.hosts.contains(&bare)
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let Some(wanted) = &self.api_key else { return Ok(()) };
        let bearer = one(headers, &AUTHORIZATION)?.and_then(|value| value.strip_prefix("Bearer "));
        let given = match bearer {
            Some(key) => Some(key),
            None => headers.get("x-api-key").and_then(|value| value.to_str().ok()),
        };
        let is_it = given.is_some_and(|given| bool::from(given.as_bytes().ct_eq(wanted.as_bytes())));
        if is_it {
            return Ok(());
        }
        let message = "this server wants its API key: `Authorization: Bearer KEY` or `X-API-Key: KEY`";
        Err(Refused::new(Code::Unauthorized, message))
    }
}

/// A header that must not stand twice, since two of them may be read in two ways.
fn one<'a>(headers: &'a HeaderMap, name: &axum::http::HeaderName) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Refused::bad(format!("the header {name} stands there more than once")));
    }
    first
        .map(|value| value.to_str().map_err(|_| Refused::bad(format!("the header {name} is no text"))))
        .transpose()
}

/// Other methods read, or are no path's, which is told where paths are known.
pub(crate) fn may_change(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::DELETE)
}

/// A page of another origin may not change anything.
fn check_origin(headers: &HeaderMap, own: &Authority) -> Result<(), Refused> {
    let Some(origin) = one(headers, &ORIGIN)? else { return Ok(()) };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    if authority.is_some_and(|authority| authority.eq_ignore_ascii_case(own.as_str())) {
        return Ok(());
    }
    Err(Refused::new(Code::Forbidden, "a page of another origin may not do this"))
}

/// Does it come from a page? Browsers say so of each request; programs have no reason to.
pub(crate) fn is_from_page(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN)
        || headers.contains_key("sec-fetch-site")
        || headers.contains_key("sec-fetch-mode")
}

/// Forms of other pages come without being asked for as anything but JSON.
pub(crate) fn check_type(headers: &HeaderMap) -> Result<(), Refused> {
    let given = one(headers, &CONTENT_TYPE)?.unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let refused = Refused::bad("the body must be JSON: say so with `Content-Type: application/json`");
    Err(refused.with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

pub(crate) async fn check(State(guard): State<Arc<Guard>>, request: Request<Body>, next: Next) -> Response {
    let mut response = match guard.look(&request) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}
