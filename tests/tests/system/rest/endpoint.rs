//! A provider of chat completions in the test's own process, scripted by a line of the prompt, or by the model's name:
//! `@answer TEXT`, `@hold TEXT` (says TEXT, then nothing until it is let go on), `@refuse STATUS TIMES TEXT` (then answers),
//! `@page TEXT` (which is no answer), `@accuse` (says the token again, and that it is wrong).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use run_agent_tests::until;
use serde_json::{Value, json};

/// Tokens that an answer says it used: so many before its text, and so many in the end.
pub(super) const INPUT: u64 = 1200;
pub(super) const OUTPUT: u64 = 34;
pub(super) const OUTPUT_BEFORE: u64 = 3;

#[derive(Default)]
struct State {
    requests: usize,
    /// Held open just now, and the most that ever were at once.
    open: usize,
    most: usize,
    refused: BTreeMap<String, u32>,
    let_go: bool,
    last: Option<(String, Value)>,
}

pub(super) struct Endpoint {
    port: u16,
    shared: Arc<Mutex<State>>,
}

impl Endpoint {
    pub(super) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Mutex::new(State::default()));
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Self { port, shared }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    pub(super) fn requests(&self) -> usize {
        self.shared.lock().unwrap().requests
    }

    /// The most that were held at once.
    pub(super) fn most(&self) -> usize {
        self.shared.lock().unwrap().most
    }

    /// Head and body of the last request.
    pub(super) fn last(&self) -> (String, Value) {
        self.shared.lock().unwrap().last.clone().unwrap()
    }

    /// What is held comes to its end.
    pub(super) fn let_go(&self) {
        self.shared.lock().unwrap().let_go = true;
    }

    /// Waits until so many are held open.
    pub(super) fn holds(&self, wanted: usize) {
        let open = || self.shared.lock().unwrap().open;
        until("requests are held", || (open() == wanted).then_some(()), || format!("{} are", open()));
    }
}

fn serve(stream: TcpStream, shared: &Mutex<State>) -> std::io::Result<()> {
    let (head, body) = read(&stream)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let asked = text(&body["model"]) + "\n" + &text(&body["messages"][0]["content"]);
    {
        let mut state = shared.lock().unwrap();
        state.requests += 1;
        state.last = Some((head.clone(), body));
    }
    let mut words = asked.lines().rev().find(|line| line.starts_with('@')).unwrap_or_default().splitn(2, ' ');
    match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
        ("@refuse", how) => refuse(&stream, shared, how),
        ("@page", text) => page(&stream, "200 OK", text),
        ("@accuse", _) => page(&stream, "401 No", head.lines().find(|line| line.contains("Bearer")).unwrap()),
        ("@hold", text) => hold(stream, shared, text),
        (_, text) => answer(&stream, text),
    }
}

fn read(stream: &TcpStream) -> std::io::Result<(String, Value)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let from = head.len();
        if reader.read_line(&mut head)? == 0 || head[from..].trim().is_empty() {
            break;
        }
        if let Some(value) = head[from..].to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((head, serde_json::from_slice(&body).unwrap_or_default()))
}

fn begin(mut stream: &TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
    event(
        stream,
        &json!({
            "model": "scripted",
            "choices": [{ "delta": { "content": text } }],
            "usage": { "prompt_tokens": INPUT, "completion_tokens": OUTPUT_BEFORE },
        }),
    )
}

fn finish(mut stream: &TcpStream) -> std::io::Result<()> {
    event(
        stream,
        &json!({
            "choices": [{ "delta": {}, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": INPUT, "completion_tokens": OUTPUT },
            "citations": ["https://example.org/a"],
        }),
    )?;
    stream.write_all(b"data: [DONE]\n\n")
}

fn event(mut stream: &TcpStream, data: &Value) -> std::io::Result<()> {
    stream.write_all(format!("data: {data}\n\n").as_bytes())
}

fn answer(stream: &TcpStream, text: &str) -> std::io::Result<()> {
    begin(stream, text)?;
    finish(stream)
}

fn refuse(stream: &TcpStream, shared: &Mutex<State>, how: &str) -> std::io::Result<()> {
    let mut words = how.splitn(3, ' ');
    let status = words.next().unwrap_or_default();
    let times: u32 = words.next().and_then(|times| times.parse().ok()).unwrap_or(u32::MAX);
    let text = words.next().unwrap_or_default();
    let refused = {
        let mut state = shared.lock().unwrap();
        let refused = state.refused.entry(how.to_owned()).or_default();
        *refused += 1;
        *refused <= times
    };
    if !refused {
        return answer(stream, text);
    }
    page(stream, &format!("{status} No"), &json!({ "error": { "message": text } }).to_string())
}

/// A whole answer that is no stream.
fn page(mut stream: &TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let head = format!("content-length: {}\r\nconnection: close", body.len());
    stream.write_all(format!("HTTP/1.1 {status}\r\n{head}\r\n\r\n{body}").as_bytes())
}

/// Ends when it is let go on, or the other side closes.
fn hold(stream: TcpStream, shared: &Mutex<State>, text: &str) -> std::io::Result<()> {
    {
        let mut state = shared.lock().unwrap();
        state.open += 1;
        state.most = state.most.max(state.open);
    }
    let begun = begin(&stream, text);
    // The other side sends nothing more: what ends this read is that it closes.
    let closed = Arc::new(Mutex::new(false));
    let mut reading = stream.try_clone()?;
    let noted = Arc::clone(&closed);
    std::thread::spawn(move || {
        let _ = reading.read(&mut [0]);
        *noted.lock().unwrap() = true;
    });
    until(
        "it is let go on, or closed",
        || (shared.lock().unwrap().let_go || *closed.lock().unwrap()).then_some(()),
        String::new,
    );
    let finished = finish(&stream);
    let _ = stream.shutdown(std::net::Shutdown::Both);
    shared.lock().unwrap().open -= 1;
    begun.and(finished)
}
