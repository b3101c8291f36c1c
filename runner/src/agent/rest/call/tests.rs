//! The engine against a small server in this process, which says what the test says: whole answers by hand, so that they
//! can break anywhere.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use tempfile::TempDir;

use super::*;
use crate::agent::Stream;
use crate::agent::secrets::Secrets;
use crate::agent::stream::{Exit, Heard, Told};
use crate::output::{Counted, Marker, Writer};

/// So that no test waits long for what is to pass, and none of them for ever.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(20),
    silence: Duration::from_secs(20),
    progress: Duration::from_secs(15),
    retries: 3,
    first_wait: Duration::from_millis(2),
    longest_wait: Duration::from_secs(2),
    ..Patience::USUAL
};
/// How long a test waits for what must happen.
const DEADLINE: Duration = Duration::from_secs(60);

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
const HI: &str = "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"Hi.\"}}]}\n\n";
const END: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";

/// What the server does on one connection.
#[derive(Clone)]
enum Say {
    Text(String),
    /// Nothing more, until the other side closes.
    Nothing,
}

/// One element a connection; further ones are refused.
struct Server {
    port: u16,
    /// Head and body of each request, and a word when the other side closed one that was kept open.
    seen: Receiver<String>,
}

impl Server {
    fn that_says(connections: Vec<Vec<Say>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (send, seen) = channel();
        std::thread::spawn(move || {
            for says in connections {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let _ = send.send(request_of(&stream));
                for say in says {
                    match say {
                        Say::Text(text) => drop(stream.write_all(text.as_bytes())),
                        Say::Nothing => {
                            let _ = stream.read(&mut [0]);
                            let _ = send.send("closed".to_owned());
                        }
                    }
                }
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Self { port, seen }
    }

    fn next(&self) -> String {
        self.seen.recv_timeout(DEADLINE).unwrap()
    }
}

fn request_of(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let from = text.len();
        if reader.read_line(&mut text).unwrap_or(0) == 0 || text[from..].trim().is_empty() {
            break;
        }
        if let Some(value) = text[from..].to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    text + std::str::from_utf8(&body).unwrap()
}

fn text(parts: &[&str]) -> Vec<Say> {
    vec![Say::Text(parts.concat())]
}

fn refusal_with(status: &str, headers: &str, body: &str) -> Vec<Say> {
    text(&[&format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )])
}

/// A request on its way, and its files.
struct Run {
    folder: TempDir,
    calling: Calling,
    over: Receiver<Over>,
}

impl Run {
    fn begin(port: u16, patience: Patience) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file =
            |name| Secrets::default().writer(Counted::new(File::create(folder.path().join(name)).unwrap()));
        let request = Request {
            url: format!("http://127.0.0.1:{port}/v1/chat/completions"),
            model: "m".to_owned(),
            token: "secret".to_owned(),
            fields: serde_json::Map::new(),
        };
        let marker = Marker::at(folder.path().join("marks"));
        let output = Box::new(Writer::new(file("out"), file("err"), marker));
        let job = Job { request, prompt: "Say hi.".to_owned(), output, patience };
        let (send, over) = channel();
        let calling = Calling::begin(job, move |over| {
            let _ = send.send(over);
        })
        .unwrap();
        Self { folder, calling, over }
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    fn over(&self) -> Over {
        self.over.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("not over: {}", self.text("err")))
    }

    /// What a reader makes of the files when the request is over.
    fn heard(&self, exit: i32) -> (Vec<Heard>, Told) {
        let (mut listener, mut heard) = (Stream::Xai.listener(None), Vec::new());
        // The order in which a supervisor comes to read them is not known: this is the harder one.
        listener.stdout(self.text("out").as_bytes(), &mut heard);
        listener.stderr(self.text("err").as_bytes(), &mut heard);
        let told = listener.end(Exit::Code(exit), &mut heard);
        (heard, told)
    }

    fn failure(&self) -> (ErrorClass, String) {
        let failure = self.heard(1).1.failure.unwrap();
        (failure.class, failure.message)
    }
}

fn retries(heard: &[Heard]) -> Vec<(Option<u16>, ErrorClass, u32)> {
    let of = |heard: &Heard| match heard {
        Heard::Retrying(retry) => Some((retry.status, retry.class, retry.attempt)),
        _ => None,
    };
    heard.iter().filter_map(of).collect()
}

#[test]
fn an_answer_is_written_as_it_is_and_the_request_says_all() {
    let server = Server::that_says(vec![text(&[OK, HI, END])]);
    let run = Run::begin(server.port, PATIENCE);
    assert_eq!(run.over(), Over::Answered);
    assert_eq!(run.text("out"), format!("{HI}{END}"));
    let (marks, told_before) = (run.text("marks"), run.text("err").len());
    let sizes: Vec<&str> =
        marks.lines().filter_map(|line| line.split_once(' ')).map(|(_, sizes)| sizes).collect();
    assert_eq!(sizes, [format!("0 {told_before}")], "what was told came before the answer");
    let told = run.heard(0).1;
    assert_eq!((told.text.as_deref(), told.failure), (Some("Hi."), None));
    assert_eq!(told.used.unwrap().tokens.input, 5);
    let request = server.next();
    assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer secret\r\n"), "{request}");
    assert!(request.contains(r#""messages":[{"content":"Say hi.","role":"user"}]"#), "{request}");
    assert!(!run.text("err").contains("secret"));
}

#[test]
fn an_answer_is_written_while_it_comes() {
    let server = Server::that_says(vec![vec![Say::Text(format!("{OK}{HI}")), Say::Nothing]]);
    let run = Run::begin(server.port, PATIENCE);
    server.next();
    let deadline = Instant::now() + DEADLINE;
    while run.text("out") != HI {
        assert!(Instant::now() < deadline, "{}", run.text("err"));
        std::thread::sleep(Duration::from_millis(2));
    }
    run.calling.cancel();
    assert_eq!(run.over(), Over::Cancelled);
    assert_eq!(server.next(), "closed", "the other side hears of it");
}

#[test]
fn one_that_is_cancelled_before_its_answer_is_over() {
    let server = Server::that_says(vec![vec![Say::Nothing]]);
    let run = Run::begin(server.port, PATIENCE);
    server.next();
    run.calling.cancel();
    assert_eq!((run.over(), server.next()), (Over::Cancelled, "closed".to_owned()));
}

#[test]
fn an_answer_that_is_cut_is_the_end_and_is_not_asked_for_again() {
    let chunked = OK.replace("connection: close", "transfer-encoding: chunked");
    let half = format!("{:x}\r\n{HI}\r\n", HI.len());
    let server = Server::that_says(vec![text(&[&chunked, &half]), text(&[OK, HI, END])]);
    let run = Run::begin(server.port, PATIENCE);
    assert_eq!(run.over(), Over::Failed);
    let (class, message) = run.failure();
    assert_eq!(class, ErrorClass::Network);
    assert!(message.starts_with("the answer was cut off: "), "{message}");
    assert_eq!(run.heard(1).1.text.as_deref(), Some("Hi."), "what came is kept");
    assert_eq!(server.seen.try_iter().count(), 1);
}

#[test]
fn an_answer_that_ends_without_its_end_was_cut_too() {
    let server = Server::that_says(vec![text(&[OK, HI])]);
    let run = Run::begin(server.port, PATIENCE);
    assert_eq!(run.over(), Over::Answered);
    let failure = run.heard(0).1.failure.unwrap();
    assert_eq!((failure.class, failure.message.as_str()), (ErrorClass::Network, "the answer was cut off"));
}

#[test]
fn silence_over_the_bound_is_the_end_before_an_answer_and_within_it() {
    let patience =
        Patience { silence: Duration::from_millis(300), progress: Duration::from_millis(100), ..PATIENCE };
    for says in [vec![Say::Nothing], vec![Say::Text(format!("{OK}{HI}")), Say::Nothing]] {
        let server = Server::that_says(vec![says, text(&[OK, HI, END])]);
        let run = Run::begin(server.port, patience);
        assert_eq!(run.over(), Over::Failed);
        assert_eq!(run.failure(), (ErrorClass::Network, "no byte came for 0.3 s".to_owned()));
        assert!(run.text("err").contains("waiting, 0 s\n"), "{}", run.text("err"));
        assert_eq!(run.calling.refusals(), 0, "a silent side gives no sign");
    }
}

#[test]
fn what_passes_is_tried_again_and_the_wait_that_is_asked_for_is_kept() {
    let slow = refusal_with("429 Too Many Requests", "retry-after: 1\r\n", r#"{"error":{"message":"slow"}}"#);
    let broken = refusal_with("500 Internal Server Error", "", "it broke");
    let server = Server::that_says(vec![slow, broken, text(&[OK, HI, END])]);
    let run = Run::begin(server.port, PATIENCE);
    assert_eq!(run.over(), Over::Answered);
    assert_eq!(run.text("out"), format!("{HI}{END}"), "nothing of the refusals");
    let (heard, told) = run.heard(0);
    let wanted = [(Some(429), ErrorClass::RateLimit, 1), (Some(500), ErrorClass::Overloaded, 2)];
    assert_eq!((retries(&heard).as_slice(), told.failure), (&wanted[..], None));
    assert!(heard.contains(&Heard::Recovered), "{heard:?}");
    let first = "retrying (429, rate_limit), retry 1 of 3 in 1 s: HTTP 429: slow\n";
    assert!(run.text("err").contains(first), "{}", run.text("err"));
    assert_eq!(run.calling.refusals(), 2);
}

#[test]
fn tries_come_to_an_end_and_the_last_refusal_says_why() {
    let broken = refusal_with("503 Service Unavailable", "", r#"{"error":"overloaded"}"#);
    let server = Server::that_says(vec![broken; 9]);
    let run = Run::begin(server.port, PATIENCE);
    assert_eq!(run.over(), Over::Failed);
    assert_eq!(run.failure(), (ErrorClass::Overloaded, "HTTP 503: overloaded".to_owned()));
    assert_eq!(server.seen.try_iter().count(), 4);
    assert_eq!(run.text("out"), r#"{"error":"overloaded"}"#);
}

#[test]
fn what_does_not_pass_is_the_end_at_once() {
    let key = (refusal_with("401 Unauthorized", "", r#"{"error":{"message":"bad key"}}"#), ErrorClass::Auth);
    let credits = r#"{"code":"x","error":"Your team has used all available credits."}"#;
    let used_up = (refusal_with("429 Too Many Requests", "", credits), ErrorClass::UsageLimit);
    let moved = (refusal_with("307 Moved", "location: http://127.0.0.1:1/\r\n", ""), ErrorClass::Usage);
    let later = refusal_with("429 Too Many Requests", "retry-after: 3600\r\n", "slow");
    for (says, class) in [key, used_up, moved, (later, ErrorClass::RateLimit)] {
        let server = Server::that_says(vec![says; 2]);
        let run = Run::begin(server.port, PATIENCE);
        assert_eq!(run.over(), Over::Failed);
        let failure = run.heard(1).1.failure.unwrap();
        assert_eq!((failure.class, retries(&run.heard(1).0).len()), (class, 0), "{failure:?}");
        assert_eq!(server.seen.try_iter().count(), 1);
    }
}

#[test]
fn without_anybody_there_it_is_tried_and_then_told() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let run = Run::begin(port, PATIENCE);
    assert_eq!(run.over(), Over::Failed);
    let (class, message) = run.failure();
    assert_eq!(class, ErrorClass::Network);
    assert!(message.starts_with("cannot connect: ") && message.contains("refused"), "{message}");
    assert_eq!(retries(&run.heard(1).0).len(), 3);
}

#[test]
fn a_connection_that_closes_without_a_word_is_tried_again() {
    let server = Server::that_says(vec![Vec::new(), text(&[OK]), text(&[OK, HI, END])]);
    let run = Run::begin(server.port, PATIENCE);
    // The second one is an answer that is empty: it has come to its end, and says nothing.
    assert_eq!(run.over(), Over::Answered);
    let (heard, told) = run.heard(0);
    assert_eq!(retries(&heard).len(), 1);
    assert_eq!(told.failure.unwrap().message, "the answer was cut off");
    assert_eq!(server.seen.try_iter().count(), 2);
}

#[test]
fn what_is_no_stream_of_events_was_not_asked_of_the_right_one() {
    let server = Server::that_says(vec![text(&[OK, "<html>\n<p>Welcome</p>\n"])]);
    let run = Run::begin(server.port, PATIENCE);
    assert_eq!(run.over(), Over::Answered);
    let failure = run.heard(0).1.failure.unwrap();
    assert_eq!(failure.class, ErrorClass::Usage);
    assert_eq!(failure.message, "the answer is no stream of events; check base_url");
}

#[test]
fn a_refusal_whose_words_do_not_come_is_one_by_its_head() {
    let patience = Patience { refusal: Duration::from_millis(100), ..PATIENCE };
    let head = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 100\r\n\r\nbad";
    let server = Server::that_says(vec![vec![Say::Text(head.to_owned()), Say::Nothing]]);
    let run = Run::begin(server.port, patience);
    assert_eq!(run.over(), Over::Failed);
    assert_eq!(run.failure(), (ErrorClass::Auth, "HTTP 401: bad".to_owned()));
}

#[test]
fn an_answer_without_an_end_is_not_read_for_ever() {
    let data = format!("data: {}\n", "x".repeat(1 << 16));
    let server = Server::that_says(vec![vec![Say::Text(OK.to_owned()), Say::Text(data.repeat(1100))]]);
    let run = Run::begin(server.port, PATIENCE);
    assert_eq!(run.over(), Over::Failed);
    assert_eq!(run.failure(), (ErrorClass::Unknown, "the answer is longer than 64 MiB".to_owned()));
    let written = run.folder.path().join("out").metadata().unwrap().len();
    assert!(written < 66 << 20, "{written}");
}

#[test]
fn an_answer_that_says_nothing_comes_to_an_end() {
    let patience = Patience { without_event: Duration::ZERO, ..PATIENCE };
    let server = Server::that_says(vec![vec![Say::Text(format!("{OK}: keep-alive\n\n")), Say::Nothing]]);
    let run = Run::begin(server.port, patience);
    assert_eq!(run.over(), Over::Failed);
    assert_eq!(run.failure(), (ErrorClass::Unknown, "the answer said nothing for 0 s".to_owned()));
}
