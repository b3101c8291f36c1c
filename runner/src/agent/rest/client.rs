//! The client of one run's requests, and the header that has the token in it.

use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Client, Url};

use super::Request;
use crate::http;

pub(super) fn prepare(request: &Request, connect: Duration) -> Result<(Client, HeaderValue), String> {
    let Request { url, token, .. } = request;
    let parsed = Url::parse(url).map_err(|error| format!("{url} is no address: {error}"))?;
    let token = http::bearer(token).ok_or("its token has characters in it that no token has")?;
    Ok((http::client(&parsed, connect)?, token))
}
