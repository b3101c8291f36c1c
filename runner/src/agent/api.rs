//! Whose model an agent asks, and where, as far as its settings say. A run's start tells it: no secret may be in it.

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::Setup;

/// What an agent asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Api {
    /// Who made the model, or passes on what others made.
    pub provider: Option<String>,
    /// None: the agent's own choice.
    pub model: Option<String>,
    /// None: the provider's own, or what the agent's own settings say.
    pub endpoint: Option<String>,
}

impl Setup {
    /// That of an agent which takes its address from this variable, if from any: the operator may set that one, too.
    pub(super) fn api(&self, provider: &str, variable: Option<&str>) -> Api {
        let url = variable.and_then(|name| self.env.get(name)).or(self.base_url.as_ref());
        Api {
            provider: Some(provider.to_owned()),
            model: self.model.clone(),
            endpoint: url.and_then(|url| without_secrets(url)),
        }
    }
}

/// An address without the name, password, query and fragment that it may have. None: it is no address, and what it holds
/// instead is not known.
fn without_secrets(url: &str) -> Option<String> {
    let mut url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    Some(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_what_may_be_a_secret() {
        for (url, told) in [
            ("https://api.example.org/v1/", Some("https://api.example.org/v1")),
            (
                "https://me:pass@api.example.org:8443/v1?key=pass#pass",
                Some("https://api.example.org:8443/v1"),
            ),
            ("http://pass@[::1]:80", Some("http://[::1]")),
            ("https://me:p\"a\\ss@h/v1", None),
            ("me:pass@example.org/v1", None),
            ("pass", None),
            ("", None),
        ] {
            assert_eq!(without_secrets(url).as_deref(), told, "{url}");
        }
    }

    #[test]
    fn what_the_operator_sets_for_the_agent_wins() {
        let env = [("A_URL".to_owned(), "http://b".to_owned())].into();
        let setup = Setup { base_url: Some("http://a".to_owned()), env, ..Setup::default() };
        let endpoint = |variable| setup.api("p", variable).endpoint;
        assert_eq!(endpoint(Some("A_URL")).as_deref(), Some("http://b"));
        assert_eq!(
            [endpoint(Some("B_URL")), endpoint(None)],
            [Some("http://a".to_owned()), Some("http://a".to_owned())]
        );
    }
}
