//! The server of another machine, as commands with `--server` ask it. What it answers is shown by the same code as what
//! lies here: a command works on rows, messages and folded tasks, wherever they come from.
//!
//! | question | file |
//! | --- | --- |
//! | what is asked, and how is a refusal told? | this one, `trouble` |
//! | what stands in an answer? | `answer` |
//! | which task or run does a word name there? | `names` |
//! | how is a stream followed over breaks and restarts? | `events`, `sse` |
//! | how does a task stand there, and what happens in it? | `view`, `tasks` |
//!
//! Nothing of a runtime is started before there is something to ask.

pub(crate) mod answer;
pub(crate) mod events;
mod names;
mod sse;
pub(crate) mod tasks;
mod trouble;
pub(crate) mod view;

use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Method, Response, Url};
use run_agent_core::{ProjectId, StreamKey};
use run_agent_runner::blocked::Blocked;
use run_agent_runner::http;
use run_agent_runner::tree::TaskName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{Global, ServerArgs};
use crate::context::{blocks, variable, with_task_split};
use crate::error::{Exit, Failure};
use crate::render;

/// How long a connection may take to come about …
const CONNECT: Duration = Duration::from_secs(10);
/// … and an answer that is no stream.
const ANSWER: Duration = Duration::from_secs(120);
/// The most that an answer may have, so that what is no server of ours fills no memory.
const ANSWER_MAX: usize = 1 << 30;

/// Where a key is looked for that no file holds.
const KEY_VARIABLE: &str = "RUN_AGENT_API_KEY";

#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// Without a slash at its end.
    url: String,
    key: Option<HeaderValue>,
    runtime: Runtime,
    signals: RefCell<Option<[Signal; 2]>>,
    /// What the flags name.
    project: Option<ProjectId>,
    task: Option<String>,
}

/// What came of a wait.
#[derive(Debug)]
pub(crate) enum Waited<T> {
    Came(T),
    TimeUp,
    Interrupted,
}

impl Client {
    /// The server that the flags name, if they name one.
    pub(crate) fn of(global: &Global, args: &ServerArgs) -> Result<Option<Self>, Failure> {
        let Some(text) = &args.server else { return Ok(None) };
        for (flag, given) in [("root", &global.root), ("config", &global.config)] {
            if given.is_some() {
                return Err(Failure::usage(format!(
                    "--{flag} names what lies on this machine, and --server asks another one; leave one of them out"
                )));
            }
        }
        let url = address(text)?;
        let key = key(args.api_key_file.as_deref())?;
        if key.is_some() && url.scheme() == "http" && !http::is_loopback(&url) {
            render::say(&format!(
                "warning: the API key goes to {} in the clear; use https, or a tunnel (ssh -L)",
                url.host_str().unwrap_or_default()
            ));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (project, task) = named(global)?;
        Ok(Some(Self {
            http: http::client(&url, CONNECT).map_err(|why| Failure::new(Exit::Failed, why))?,
            url: url.as_str().trim_end_matches('/').to_owned(),
            key,
            runtime: runtime.map_err(|e| Failure::io("cannot prepare a request", &e))?,
            signals: RefCell::default(),
            project,
            task,
        }))
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Held while a command waits for what happens there: the run that called it counts as waiting here.
    pub(crate) fn blocks(&self) -> Blocked {
        blocks()
    }

    /// As flags of a command that is printed to be called here.
    pub(crate) fn flags(&self) -> String {
        format!(" --server {}", render::quoted_word(&self.url))
    }

    /// As [`Client::flags`], of a command on a task.
    pub(crate) fn flags_for(&self, name: &TaskName) -> String {
        format!("{} --project {} --task {}", self.flags(), name.project, name.task)
    }

    pub(crate) fn project_flag(&self) -> Option<&ProjectId> {
        self.project.as_ref()
    }

    pub(crate) fn task_flag(&self) -> Option<&str> {
        self.task.as_deref()
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &Place) -> Result<T, Failure> {
        self.read(path, &self.bytes(path)?)
    }

    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &Place,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|e| Failure::io("cannot write JSON", &e.into()))?;
        let answer = self
            .runtime
            .block_on(async { self.whole(self.ask(Method::POST, path, Some(body)).await?).await })?;
        self.read(path, &answer)
    }

    pub(crate) fn bytes(&self, path: &Place) -> Result<Vec<u8>, Failure> {
        self.runtime.block_on(async { self.whole(self.ask(Method::GET, path, None).await?).await })
    }

    /// What an event says.
    pub(crate) fn event<T: DeserializeOwned>(&self, data: &str) -> Result<T, Failure> {
        self.read(&Place::new(["events"]), data.as_bytes())
    }

    /// From now on SIGINT and SIGTERM do not end this process but whatever it waits for.
    pub(crate) fn on_interrupt(&self) -> Result<(), Failure> {
        let _entered = self.runtime.enter();
        let cannot = |e| Failure::io("cannot listen for signals", &e);
        let signals =
            [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).map_err(cannot));
        let [interrupt, terminate] = signals;
        self.signals.replace(Some([interrupt?, terminate?]));
        Ok(())
    }

    /// Waits for something, so long at the most, and no longer than until a signal arrives.
    fn wait<T>(&self, what: impl Future<Output = T>, limit: Duration) -> Waited<T> {
        let mut signals = self.signals.borrow_mut();
        let interrupted = async {
            match &mut *signals {
                Some([interrupt, terminate]) => tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                },
                None => std::future::pending().await,
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = interrupted => Waited::Interrupted,
                came = what => Waited::Came(came),
                () = tokio::time::sleep(limit) => Waited::TimeUp,
            }
        })
    }

    /// Sends a request, and takes in the answer's head.
    async fn send(
        &self,
        method: Method,
        path: &Place,
        body: Option<Vec<u8>>,
        last: Option<&str>,
    ) -> Result<Response, reqwest::Error> {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).header(ACCEPT, "*/*");
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.clone());
        }
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        tracing::debug!(%path, ?last, "asks");
        request.send().await
    }

    async fn ask(&self, method: Method, path: &Place, body: Option<Vec<u8>>) -> Result<Response, Failure> {
        let sent = tokio::time::timeout(ANSWER, self.send(method, path, body, None)).await;
        match sent {
            Ok(Ok(response)) if response.status().is_success() => Ok(response),
            Ok(Ok(response)) => Err(self.refused(response).await),
            Ok(Err(error)) => Err(trouble::unreached(&self.url, &error)),
            Err(_) => Err(trouble::silent(&self.url)),
        }
    }

    async fn whole(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        loop {
            let chunk = match tokio::time::timeout(ANSWER, response.chunk()).await {
                Ok(chunk) => chunk.map_err(|error| trouble::unreached(&self.url, &error))?,
                Err(_) => return Err(trouble::silent(&self.url)),
            };
            match chunk {
                Some(chunk) if bytes.len() + chunk.len() <= ANSWER_MAX => bytes.extend_from_slice(&chunk),
                Some(_) => return Err(trouble::strange(&self.url)),
                None => return Ok(bytes),
            }
        }
    }

    async fn refused(&self, response: Response) -> Failure {
        let status = response.status().as_u16();
        match self.whole(response).await {
            Ok(body) => trouble::refused(&self.url, status, &body, self.key.is_some()),
            Err(failure) => failure,
        }
    }

    fn read<T: DeserializeOwned>(&self, path: &Place, body: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(body).map_err(|error| trouble::unread(&self.url, path, body, &error))
    }
}

/// Where something lies below a server's address: its parts are put in as they are, whatever is in them.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    text: String,
    asks: bool,
}

impl Place {
    pub(crate) fn new<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut text = "/api".to_owned();
        for part in parts {
            text.push('/');
            push_encoded(&mut text, part);
        }
        Self { text, asks: false }
    }

    /// Of a task, and what lies below it.
    pub(crate) fn of_task<'a>(name: &'a TaskName, below: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(["projects", name.project.as_str(), "tasks", name.task.as_str()].into_iter().chain(below))
    }

    /// Of what has a stream: a task, or a project itself.
    pub(crate) fn of_stream<'a>(key: &'a StreamKey, below: &[&'a str]) -> Self {
        let task = key.task.as_ref().map(|task| ["tasks", task.as_str()]);
        let parts = ["projects", key.project.as_str()].into_iter().chain(task.into_iter().flatten());
        Self::new(parts.chain(below.iter().copied()))
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.text.push(if std::mem::replace(&mut self.asks, true) { '&' } else { '?' });
        self.text.push_str(name);
        self.text.push('=');
        push_encoded(&mut self.text, &value.to_string());
        self
    }

    pub(crate) fn with_some(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn push_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

fn address(text: &str) -> Result<Url, Failure> {
    let wrong = |why: &str| {
        Failure::usage(format!("--server {}: {why}", render::value(text)))
            .hint("write it as http://127.0.0.1:14355")
    };
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("it is no address of a server"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("a name or password has no place in it; an API key goes into a file"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has more than the place of a server in it"));
    }
    Ok(url)
}

/// The server's key. It never stands on a command line, which others can see.
fn key(file: Option<&Path>) -> Result<Option<HeaderValue>, Failure> {
    let (text, place) = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!("cannot read the API key in {}: {error}", path.display()))
            })?;
            (text, format!("the file {}", path.display()))
        }
        None => match variable(KEY_VARIABLE) {
            Some(text) => (text, KEY_VARIABLE.to_owned()),
            None => return Ok(None),
        },
    };
    match text.trim() {
        "" => Err(Failure::usage(format!("there is no API key in {place}: it is empty"))),
        key => http::bearer(key)
            .map(Some)
            .ok_or_else(|| Failure::usage(format!("what stands in {place} is no API key"))),
    }
}

/// What the flags name. The environment and the working folder tell of this machine, and say nothing of another.
fn named(global: &Global) -> Result<(Option<ProjectId>, Option<String>), Failure> {
    let flags = with_task_split(global, None)?;
    Ok((flags.project.as_deref().map(ProjectId::parse).transpose()?, flags.task))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_a_server_and_nothing_else() {
        for right in ["http://127.0.0.1:14355", "https://swarm.example/below/", "http://[::1]:1"] {
            assert!(address(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "127.0.0.1:14355",
            "localhost:14355",
            "ftp://host",
            "http://",
            "http://a:b@host",
            "http://host?x=1",
        ] {
            assert!(address(wrong).is_err_and(|failure| failure.exit() == Exit::Usage), "{wrong}");
        }
    }

    #[test]
    fn whatever_a_word_has_in_it_stays_in_its_place() {
        let place = Place::new(["projects", "../x", "a/b?c"]).with("q", "1&2=3");
        assert_eq!(place.to_string(), "/api/projects/..%2Fx/a%2Fb%3Fc?q=1%262%3D3");
    }
}
