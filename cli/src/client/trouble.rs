//! What is said where a server does not answer as it is asked, and with which exit code.

use run_agent_runner::http::causes;
use serde::Deserialize;

use super::Place;
use crate::error::{Code, Exit, Failure};
use crate::render;

#[derive(Deserialize)]
struct Body {
    error: Told,
}

#[derive(Deserialize)]
struct Told {
    code: String,
    message: String,
    #[serde(default)]
    details: Details,
}

/// What the command line said there.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    hint: Option<String>,
    candidates: Vec<String>,
}

/// What every server of ours says of a path that it does not have.
const UNKNOWN_PATH: &str = "there is nothing at this path";

/// Nobody answered, or not to the end.
pub(super) fn unreached(url: &str, error: &reqwest::Error) -> Failure {
    let what = if error.is_connect() { "no server answers at" } else { "there was no whole answer from" };
    Failure::new(Exit::Failed, format!("{what} {url}: {}", causes(error)))
        .code(Code::Unreached)
        .hint("see that `run-agent serve` runs there, and that the tunnel to it is open")
}

pub(super) fn silent(url: &str) -> Failure {
    Failure::new(Exit::Failed, format!("the server at {url} takes too long to answer"))
        .code(Code::Unreached)
        .hint("see how it does with `run-agent doctor` there")
}

/// A refusal: the server's own words, and what can be done here.
pub(super) fn refused(url: &str, status: u16, body: &[u8], with_key: bool) -> Failure {
    let Ok(Body { error }) = serde_json::from_slice(body) else { return strange(url) };
    let message = render::safe_line(&error.message);
    let failure = |exit| Failure::new(exit, format!("the server at {url} refuses: {message}"));
    let Details { hint, candidates } = error.details;
    let failed = match status {
        401 if with_key => {
            Failure::usage(format!("the server at {url} has another API key than the one that it was given"))
                .hint("compare the file with the one that server.api_key_file names there")
        }
        401 => Failure::usage(format!("the server at {url} wants its API key"))
            .hint("name a file with it: --api-key-file FILE, or set RUN_AGENT_API_KEY"),
        403 => failure(Exit::Failed).code(Code::Refused),
        404 if message.starts_with(UNKNOWN_PATH) => other_version(url, "what is asked for is not there"),
        405 => other_version(url, &message),
        404 => Failure::not_found(format!("{message} (asked at {url})")),
        409 => failure(Exit::Locked).code(Code::Refused),
        500.. => Failure::new(Exit::Failed, format!("the server at {url} failed: {message}")),
        _ if error.code == "BAD_REQUEST" => failure(Exit::Usage),
        _ => failure(Exit::Failed),
    };
    let failed = failed.candidates(candidates);
    match hint {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}

/// An answer that cannot be read: of another version, if it is one of ours at all.
pub(super) fn unread(url: &str, path: &Place, body: &[u8], error: &serde_json::Error) -> Failure {
    if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() {
        return strange(url);
    }
    other_version(url, &format!("its answer to {path} has another form: {error}"))
}

pub(crate) fn other_version(url: &str, why: &str) -> Failure {
    let ours = env!("RUN_AGENT_VERSION");
    Failure::new(
        Exit::Failed,
        format!("the server at {url} is of another version than this program ({ours}): {why}"),
    )
    .hint(format!("{url}/api/v1/version tells which; have the same one at both ends"))
}

/// Somebody else answers.
pub(super) fn strange(url: &str) -> Failure {
    Failure::new(Exit::Failed, format!("what answers at {url} is no `run-agent serve`"))
        .hint("compare the port with the one that `run-agent serve` prints, and the tunnel's")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, code: &str, message: &str, with_key: bool) -> Failure {
        let body = serde_json::json!({ "error": { "code": code, "message": message } });
        refused("http://s", status, body.to_string().as_bytes(), with_key)
    }

    #[test]
    fn each_refusal_has_its_code_and_says_what_to_do() {
        let exit = |status, code| told(status, code, "words", false).exit();
        assert_eq!(exit(400, "BAD_REQUEST"), Exit::Usage);
        assert_eq!(exit(401, "UNAUTHORIZED"), Exit::Usage);
        assert_eq!(exit(403, "FORBIDDEN"), Exit::Failed);
        assert_eq!(exit(404, "NOT_FOUND"), Exit::NotFound);
        assert_eq!(exit(409, "CONFLICT"), Exit::Locked);
        assert_eq!(exit(429, "TOO_MANY_REQUESTS"), Exit::Failed);
        assert_eq!(exit(500, "INTERNAL"), Exit::Failed);
        assert!(told(401, "UNAUTHORIZED", "", true).text().contains("another API key"));
        assert!(told(401, "UNAUTHORIZED", "", false).text().contains("wants its API key"));
        assert!(told(404, "NOT_FOUND", UNKNOWN_PATH, false).text().contains("another version"));
        assert!(refused("http://s", 502, b"<html>", false).text().contains("no `run-agent serve`"));
    }
}
