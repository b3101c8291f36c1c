//! A server of a test's own, and the little of HTTP and of server-sent events that tests speak with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use run_agent_tests::Root;
use serde_json::Value;

/// A server on a root; ended with it.
pub(crate) struct Server {
    child: Child,
    /// Kept, so that the server can print.
    _out: BufReader<ChildStdout>,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(root: &Root) -> Self {
        let mut command = root.command(&["serve", "--port", "0", "--json"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        let address = said["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
        Self { child, _out: out, address }
    }

    /// Status and body of a request with these headers besides `Host`.
    pub(crate) fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        // A server that refuses may have closed before all is sent.
        let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").unwrap_or_default().1.to_owned())
    }

    pub(crate) fn ask(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.ask_with("GET", path, &[], "");
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let kind = [("Content-Type", "application/json")];
        let (status, body) = self.ask_with("POST", path, &kind, &body.to_string());
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Follows a stream of events, behind an id.
    pub(crate) fn follow(&self, path: &str, last: Option<&str>) -> Events {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let header = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let host = &self.address;
        write!(stream, "GET {path} HTTP/1.1\r\nConnection: close\r\nHost: {host}\r\n{header}\r\n").unwrap();
        Events { lines: BufReader::new(stream), id: last.unwrap_or_default().to_owned() }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    pub(crate) fn end(mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        status.code().unwrap_or(-1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stream of events, as it comes.
pub(crate) struct Events {
    lines: BufReader<TcpStream>,
    /// The last id that was told.
    pub(crate) id: String,
}

#[derive(Debug)]
pub(crate) struct Event<T = Value> {
    pub(crate) name: String,
    /// The last id that was told, with it or before.
    pub(crate) id: String,
    pub(crate) data: T,
}

impl Events {
    /// The next event; `None` at the stream's end. Heartbeats are passed over.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let Event { name, id, data } = self.next_text()?;
        Some(Event { name, id, data: serde_json::from_str(&data).unwrap_or(Value::Null) })
    }

    /// As [`Events::next`], with the data as it is. What frames the pieces of the answer is no line of an event.
    pub(crate) fn next_text(&mut self) -> Option<Event<String>> {
        let (mut name, mut data) = ("message".to_owned(), None::<String>);
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end_matches(['\r', '\n']);
            match (line.split_once(": "), &mut data) {
                (Some(("event", value)), _) => name = value.to_owned(),
                (Some(("id", value)), _) => self.id = value.to_owned(),
                (Some(("data", value)), Some(data)) => data.push_str(&format!("\n{value}")),
                (Some(("data", value)), none) => *none = Some(value.to_owned()),
                (None, Some(_)) if line.is_empty() && name == "heartbeat" => {
                    (name, data) = ("message".to_owned(), None);
                }
                (None, Some(data)) if line.is_empty() => {
                    return Some(Event { name, id: self.id.clone(), data: std::mem::take(data) });
                }
                (Some(_) | None, _) => {}
            }
        }
    }
}
