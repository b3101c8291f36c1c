//! What agents print, as clients of the server follow it: through breaks and restarts, each line once and in order.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, name, shell_args, until};
use serde_json::{Value, json};

use crate::http::{Event, Events, Server};

/// A run of a script that goes on by itself.
fn begin(root: &Root, name: &TaskName, script: &str) -> String {
    let run = root.json(&shell_args("job", name, script, &["--detach", "--json"]));
    run["run_id"].as_str().unwrap().to_owned()
}

fn wait_for_end(root: &Root, run: &str) {
    let _ = root.ok(&["wait", run]);
}

/// A script's loop that goes on when the test lets it.
fn awaits(root: &Root, what: &str) -> String {
    format!("until [ -e '{}' ]; do sleep 0.02; done", root.scratch().join(what).display())
}

/// Lines as they were told, of each stream of each run.
#[derive(Default)]
struct Told {
    lines: BTreeMap<(String, String), Vec<String>>,
    /// Of all of them, in the order in which they were told.
    order: Vec<String>,
    statuses: Vec<(String, String)>,
}

impl Told {
    /// Takes in one event. False: it was the last.
    fn hear(&mut self, Event { name, data, .. }: Event) -> bool {
        let run = data["run_id"].as_str().unwrap_or_default().to_owned();
        let text = |field: &str| data[field].as_str().unwrap_or_else(|| panic!("{name} {data}")).to_owned();
        match name.as_str() {
            "log" => {
                self.order.push(text("line"));
                self.lines.entry((run, text("stream"))).or_default().push(text("line"));
            }
            "status" => self.statuses.push((run, text("status"))),
            "done" => return false,
            other => panic!("{other}: {data}"),
        }
        true
    }

    /// Follows until so many lines are known.
    fn follow_until(&mut self, events: &mut Events, lines: usize) {
        while self.order.len() < lines {
            let event = events.next().unwrap_or_else(|| panic!("ended after {} lines", self.order.len()));
            assert!(self.hear(event), "it was done after {} of {lines} lines", self.order.len());
        }
    }

    fn of(&self, run: &str, stream: &str) -> &[String] {
        self.lines.get(&(run.to_owned(), stream.to_owned())).map_or(&[], Vec::as_slice)
    }
}

fn numbered(what: &str, numbers: impl Iterator<Item = usize>) -> Vec<String> {
    numbers.map(|n| format!("{what} {n:011}")).collect()
}

/// Prints so many lines on stdout, and every so often one on stderr. Each is written by itself and has 16 bytes: a file
/// grows page by page, and none of them is ever seen in part.
fn burst(lines: usize, every: usize) -> String {
    format!(
        "n=0; while [ $n -lt {lines} ]; do n=$((n+1)); printf 'out %011d\\n' $n; \
         [ $((n % {every})) -ne 0 ] || printf 'err %011d\\n' $n >&2; done"
    )
}

#[test]
fn a_burst_is_followed_through_breaks_and_a_restart_without_loss_or_repetition() {
    const LINES: usize = 100_000;
    const EVERY: usize = 25;
    const BREAKS: usize = 20;
    let root = Root::new();
    let mut server = Server::start(&root);
    let name = name("burst");
    let script = format!("{}; {}; exit 3", awaits(&root, "go"), burst(LINES, EVERY));
    let run = begin(&root, &name, &script);
    let path = format!("/api/v1/runs/{run}/stream");
    let is_there = || (server.ask(&format!("/api/v1/runs/{run}")).0 == 200).then_some(());
    until("the run is known", is_there, String::new);
    let (mut told, mut last) = (Told::default(), None::<String>);
    for round in 1..=BREAKS {
        let mut events = server.follow(&path, last.as_deref());
        if round == 1 {
            assert_eq!(events.next().unwrap().name, "status");
            root.lets("go");
        }
        told.follow_until(&mut events, LINES / BREAKS * round);
        let (out, err) = (told.of(&run, "stdout").len(), told.of(&run, "stderr").len());
        assert_eq!(events.id, format!("s={out};e={err}"));
        last = Some(events.id);
        if round == BREAKS / 2 {
            server.signal(Signal::SIGKILL);
            server = Server::start(&root);
        }
    }
    let mut events = server.follow(&path, last.as_deref());
    while told.hear(events.next().unwrap()) {}
    assert!(events.next().is_none(), "the stream ends behind `done`");
    assert_eq!(told.of(&run, "stdout"), numbered("out", 1..=LINES));
    assert_eq!(told.of(&run, "stderr"), numbered("err", (EVERY..=LINES).step_by(EVERY)));
    assert_eq!(told.statuses.last(), Some(&(run.clone(), "failed".to_owned())));
    let shown = root.ok(&["output", &run, "--merged", "--raw"]);
    let differs = told.order.iter().zip(shown.lines()).find(|(told, shown)| told != shown);
    assert_eq!((differs, told.order.len()), (None, shown.lines().count()), "both are in the same order");
    // Who comes late gets the same.
    let (mut late, mut events) = (Told::default(), server.follow(&path, None));
    while late.hear(events.next().unwrap()) {}
    assert!(late.order == told.order);
}

#[test]
fn the_runs_of_a_task_are_told_side_by_side_through_breaks_and_a_restart() {
    const LINES: usize = 3000;
    let root = Root::new();
    let mut server = Server::start(&root);
    let name = name("two");
    let script = format!("{}; {}; {}", burst(LINES, 10), awaits(&root, "end"), burst(LINES, 10));
    let mut runs = vec![begin(&root, &name, &script), begin(&root, &name, &script)];
    let paths =
        [format!("/api/projects/p/tasks/{}/runs/stream", name.task), "/api/v1/runs/stream/all".to_owned()];
    let both = || {
        let list = server.get("/api/v1/runs");
        (list["runs"].as_array().unwrap().iter().filter(|run| run["status"] == "running").count() == 2)
            .then_some(())
    };
    until("both runs are known", both, || server.get("/api/v1/runs").to_string());
    let mut followed: [(Told, Option<String>); 2] = Default::default();
    // Half of what both print, in pieces.
    for lines in (500..=LINES * 2).step_by(500) {
        for (path, (told, last)) in paths.iter().zip(&mut followed) {
            let mut events = server.follow(path, last.as_deref());
            told.follow_until(&mut events, lines);
            *last = Some(events.id);
        }
        if lines == LINES {
            server.signal(Signal::SIGKILL);
            server = Server::start(&root);
        }
    }
    // While nobody follows both end, and another one comes and goes.
    root.lets("end");
    runs.push(begin(&root, &name, &burst(LINES, 10)));
    runs.iter().for_each(|run| wait_for_end(&root, run));
    let all = 5 * (LINES + LINES / 10);
    for (path, (told, last)) in paths.iter().zip(&mut followed) {
        let mut events = server.follow(path, last.as_deref());
        told.follow_until(&mut events, all);
        // Behind the last line of each comes its end.
        let ended = |told: &Told| {
            let is_told = |run: &String| {
                told.statuses.iter().rfind(|(of, _)| of == run).is_some_and(|(_, to)| to == "completed")
            };
            runs.iter().all(is_told)
        };
        while !ended(told) {
            assert!(told.hear(events.next().unwrap()));
        }
        *last = Some(events.id);
        for (run, times) in runs.iter().zip([2, 2, 1]) {
            let out = numbered("out", (0..times).flat_map(|_| 1..=LINES));
            assert!(told.of(run, "stdout") == out, "{path} {run}");
            let err = numbered("err", (0..times).flat_map(|_| (10..=LINES).step_by(10)));
            assert!(told.of(run, "stderr") == err, "{path} {run}");
        }
    }
    // What was told to its end is not told again.
    let one_more = begin(&root, &name, "echo more");
    for (path, (told, last)) in paths.iter().zip(&followed) {
        let mut events = server.follow(path, last.as_deref());
        let mut more = Told::default();
        more.follow_until(&mut events, 1);
        assert_eq!(more.of(&one_more, "stdout"), ["more"], "{path} behind {} lines", told.order.len());
    }
    // A task's past is told to whoever comes late.
    let mut late = Told::default();
    late.follow_until(&mut server.follow(&paths[0], None), all + 1);
    assert_eq!(late.of(&runs[2], "stdout").len(), LINES);
    let mut events = server.follow(&paths[1], Some("nonsense"));
    assert_eq!(events.next().unwrap().name, "reset");
}

#[test]
fn one_file_is_told_line_by_line_and_its_place_is_a_number_of_bytes() {
    let root = Root::new();
    let server = Server::start(&root);
    let name = name("tail");
    let long = "head -c 200000 /dev/zero | tr '\\0' x; echo; printf 'a\\377b\\r\\n1%%\\r2%%\\n\\nlast'";
    let script = format!("echo one; echo two; {}; {long}", awaits(&root, "go"));
    let run = begin(&root, &name, &script);
    let of_run = format!("/api/projects/p/tasks/{}/runs/{run}", name.task);
    let path = |file: &str| format!("{of_run}/stream?name={file}");
    until("the run is known", || (server.ask(&of_run).0 == 200).then_some(()), String::new);
    let mut events = server.follow(&path("stdout"), None);
    assert_eq!(events.next_text().unwrap().data, "one");
    let first = events.id.clone();
    assert_eq!(events.next_text().unwrap().data, "two");
    assert!(events.id.starts_with("8@") && first.starts_with("4@"), "{first} {}", events.id);
    let mut output = server.follow(&path("output.md"), None);
    root.lets("go");
    let mut lines = Vec::new();
    loop {
        let Event { name, data, .. } = events.next_text().unwrap();
        if name == "done" {
            break;
        }
        assert_eq!(name, "message", "{data}");
        lines.push(data);
    }
    assert!(events.next().is_none());
    let long: Vec<String> = lines.drain(..4).collect();
    assert_eq!((long.concat(), long[0].len()), ("x".repeat(200_000), 64 << 10));
    assert_eq!(lines, ["a\u{fffd}b", "1%\n2%", "", "last"]);
    // Its answer comes with its end.
    assert_eq!(output.next_text().unwrap().data, "one");
    // Whoever was away goes on.
    for place in [first.as_str(), "4"] {
        assert_eq!(server.follow(&path("stdout"), Some(place)).next_text().unwrap().data, "two");
    }
    assert_eq!(server.follow(&path("stdout&after=4"), None).next_text().unwrap().data, "two");
    for nowhere in ["4@1", "999999999", "s=1;e=1"] {
        let mut events = server.follow(&path("stdout"), Some(nowhere));
        assert_eq!(events.next_text().unwrap().name, "reset", "{nowhere}");
        assert_eq!(events.next_text().unwrap().data, "one");
    }
    let mut prompt = server.follow(&path("prompt"), None);
    let lines = std::iter::from_fn(|| prompt.next_text()).take_while(|event| event.name != "done");
    let prompt = lines.map(|event| event.data).collect::<Vec<_>>().join("\n");
    assert!(prompt.contains(&script), "{prompt}");
    // The same lines of the run itself, with a mark where one goes on.
    let mut events = server.follow(&format!("/api/v1/runs/{run}/stream"), Some("s=2;e=0"));
    let mut told: Vec<(String, Value)> = Vec::new();
    loop {
        let Event { name, data, .. } = events.next().unwrap();
        match name.as_str() {
            "log" => told.push((data["line"].as_str().unwrap().to_owned(), data["continues"].clone())),
            "status" => {}
            _ => break,
        }
    }
    assert_eq!(
        told.iter().map(|(_, goes_on)| *goes_on == json!(true)).collect::<Vec<_>>(),
        [true, true, true, false, false, false, false, false]
    );
    assert_eq!((told[4].0.as_str(), told[5].0.as_str()), ("a\u{fffd}b", "1%\r2%"));
}

#[test]
fn output_that_is_not_what_it_was_is_told_anew() {
    let root = Root::new();
    let server = Server::start(&root);
    let name = name("cut");
    let run = begin(&root, &name, &format!("echo one; echo two; {}; echo three", awaits(&root, "go")));
    let path = format!("/api/v1/runs/{run}/stream");
    until(
        "the run is known",
        || (server.ask(&format!("/api/v1/runs/{run}")).0 == 200).then_some(()),
        String::new,
    );
    let mut events = server.follow(&path, None);
    let mut told = Told::default();
    told.follow_until(&mut events, 2);
    let of_run = format!("/api/projects/p/tasks/{}/runs/{run}/stream?name=stdout", name.task);
    let mut tail = server.follow(&of_run, None);
    assert_eq!(tail.next_text().unwrap().data, "one");
    assert_eq!(tail.next_text().unwrap().data, "two");
    let file = root.tree().run(&name, &run.parse().unwrap()).stdout();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
    assert_eq!(events.next().unwrap().name, "reset");
    assert_eq!(tail.next_text().unwrap().name, "reset");
    root.lets("go");
    assert_eq!(tail.next_text().unwrap().data, "three");
    let mut told = Told::default();
    while told.hear(events.next().unwrap()) {}
    assert_eq!(told.order, ["three"]);
    // More lines than there are.
    let mut events = server.follow(&path, Some("s=2;e=0"));
    assert_eq!(events.next().map(|event| event.name).unwrap(), "status");
    assert_eq!(events.next().map(|event| event.name).unwrap(), "reset");
}

#[test]
fn what_cannot_be_followed_is_refused_or_told() {
    let root = Root::new();
    let name = name("none");
    let _ = root.ok(&shell_args("job", &name, "echo here", &[]));
    let server = Server::start(&root);
    let run = server.get("/api/v1/runs")["runs"][0]["run_id"].as_str().unwrap().to_owned();
    let task = name.task.to_string();
    let other = "20261121-0930001234-1-1";
    for (path, status) in [
        (format!("/api/v1/runs/{other}/stream"), 404),
        ("/api/v1/runs/../stream".to_owned(), 400),
        (format!("/api/projects/p/tasks/{task}/runs/{other}/stream?name=stdout"), 404),
        (format!("/api/projects/p/tasks/{task}/runs/{run}/stream?name=DONE"), 400),
        (format!("/api/projects/p/tasks/{task}/runs/{run}/stream?name=../../TASK.md"), 400),
        (format!("/api/projects/p/tasks/{task}/runs/{run}/stream"), 400),
        ("/api/projects/p/tasks/task-20261121-093000-x/runs/stream".to_owned(), 404),
        (format!("/api/projects/q/tasks/{task}/runs/stream"), 404),
    ] {
        assert_eq!(server.ask(&path).0, status, "{path}");
    }
    let paths = root.tree().run(&name, &run.parse().unwrap());
    std::fs::remove_file(paths.stdout()).unwrap();
    let tail = format!("/api/projects/p/tasks/{task}/runs/{run}/stream?name=stdout");
    assert_eq!(server.follow(&tail, None).next().unwrap().name, "error");
    // A link leads nowhere.
    std::os::unix::fs::symlink("/etc/passwd", paths.stdout()).unwrap();
    assert_eq!(server.follow(&tail, None).next().unwrap().name, "error");
    let mut events = server.follow(&format!("/api/v1/runs/{run}/stream"), None);
    assert_eq!(events.next().unwrap().name, "status");
    assert_eq!(events.next().unwrap().name, "error");
    assert!(events.next().is_none());
}

#[test]
fn a_log_stream_ends_with_the_server() {
    let root = Root::new();
    let server = Server::start(&root);
    let name = name("ends");
    let run = begin(&root, &name, &format!("echo here; {}", awaits(&root, "go")));
    until(
        "the run is known",
        || (server.ask(&format!("/api/v1/runs/{run}")).0 == 200).then_some(()),
        String::new,
    );
    let mut all = server.follow("/api/v1/runs/stream/all", None);
    let mut events = server.follow(&format!("/api/v1/runs/{run}/stream"), None);
    for events in [&mut all, &mut events] {
        Told::default().follow_until(events, 1);
    }
    assert_eq!(server.end(), 0);
    assert!(all.next().is_none() && events.next().is_none());
    root.lets("go");
    wait_for_end(&root, &run);
}

#[test]
fn a_client_that_takes_nothing_holds_up_no_end() {
    let root = Root::new();
    let server = Server::start(&root);
    let name = name("stalls");
    let run = begin(&root, &name, "seq 1 1000000");
    wait_for_end(&root, &run);
    let stalled = server.follow(&format!("/api/v1/runs/{run}/stream"), None);
    // Another one gets on.
    let mut told = Told::default();
    told.follow_until(&mut server.follow(&format!("/api/v1/runs/{run}/stream"), None), 100_000);
    assert_eq!(server.end(), 0);
    drop(stalled);
}
