//! What the configuration says of `serve`.

use std::net::IpAddr;
use std::time::Duration;

use super::value::Value;
use super::{Config, home_path, schema};
use crate::error::Failure;

/// The settings of the `server` block, read.
#[derive(Debug)]
pub(crate) struct ServerSettings {
    pub(crate) host: IpAddr,
    /// The port that the file names.
    pub(crate) port: Option<u16>,
    pub(crate) default_port: u16,
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) api_key: Option<String>,
    pub(crate) allow_delete_from_ui: bool,
}

/// The settings of the `webhook` block, read.
#[derive(Debug)]
pub(crate) struct WebhookSettings {
    pub(crate) url: String,
    pub(crate) events: Vec<String>,
    pub(crate) secret: Option<String>,
    pub(crate) timeout: Duration,
}

impl Config {
    /// # Errors
    /// When the address is none, or the key cannot be read: nothing is served with less than was asked for.
    pub(crate) fn server(&self) -> Result<ServerSettings, Failure> {
        let host = self.text("server", "host");
        let host = if host == "localhost" { "127.0.0.1".to_owned() } else { host };
        let host =
            host.parse().map_err(|_| Failure::usage(format!("server.host `{host}` is no IP address")))?;
        let port = |count: u64| u16::try_from(count).unwrap_or_default();
        let given = self.settings.plain.get(&("server", "port")).map(|given| &given.value);
        let default = schema::find("server", "port").and_then(schema::Setting::default_value);
        let as_port = |value: Option<&Value>| match value {
            Some(Value::Count(count)) => Some(port(*count)),
            Some(_) | None => None,
        };
        Ok(ServerSettings {
            host,
            port: as_port(given),
            default_port: as_port(default.as_ref()).unwrap_or_default(),
            allowed_hosts: self.texts("server", "allowed_hosts"),
            api_key: self.api_key()?,
            allow_delete_from_ui: matches!(
                self.value("server", "allow_delete_from_ui"),
                Some(Value::Flag(true))
            ),
        })
    }

    fn api_key(&self) -> Result<Option<String>, Failure> {
        secret(&self.text("server", "api_key_file"), "the API key")
    }

    /// # Errors
    /// When the secret cannot be read.
    pub(crate) fn webhook(&self) -> Result<WebhookSettings, Failure> {
        Ok(WebhookSettings {
            url: self.text("webhook", "url"),
            events: self.texts("webhook", "events"),
            secret: secret(&self.text("webhook", "secret_file"), "the webhook's secret")?,
            timeout: self.span("webhook", "timeout"),
        })
    }
}

/// What a file holds that is named for it; `None` where none is named.
fn secret(file: &str, what: &str) -> Result<Option<String>, Failure> {
    if file.is_empty() {
        return Ok(None);
    }
    let path = home_path(file);
    let text = std::fs::read_to_string(&path).map_err(|error| Failure::unread(&path, &error))?;
    match text.trim() {
        "" => Err(Failure::usage(format!("the file with {what} is empty: {}", path.display()))),
        secret => Ok(Some(secret.to_owned())),
    }
}
