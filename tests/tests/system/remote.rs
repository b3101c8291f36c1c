//! `--server`: the same commands on another machine's root, and over a restart of the server there.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use run_agent_tests::{Done, Root, name, shell_args, until};
use serde_json::{Value, json};

/// A server, and a folder from which it is asked that knows nothing of its root.
struct There {
    root: Root,
    served: Option<(Child, BufReader<ChildStdout>)>,
    url: String,
    elsewhere: PathBuf,
}

impl There {
    fn new(root: Root) -> Self {
        let elsewhere = root.scratch().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        let mut there = Self { root, served: None, url: String::new(), elsewhere };
        there.start("0");
        there
    }

    fn start(&mut self, port: &str) {
        let mut command = self.root.command(&["serve", "--port", port, "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        said["url"].as_str().unwrap().clone_into(&mut self.url);
        self.served = Some((child, out));
    }

    fn stop(&mut self, signal: Signal) {
        let (mut child, _out) = self.served.take().unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        child.wait().unwrap();
    }

    /// Starts one at the same address.
    fn start_again(&mut self) {
        let port = self.url.rsplit(':').next().unwrap().to_owned();
        self.start(&port);
    }

    /// A command that asks the server: what it takes from this machine is the server's address alone.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.root.command(args);
        command.args(["--server", &self.url]).env_remove("JRUN_ROOT").env("HOME", &self.elsewhere);
        command.current_dir(&self.elsewhere);
        command
    }

    fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).output().unwrap(), args)
    }

    fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "{done:?}");
        done.stdout.trim_end_matches('\n').to_owned()
    }

    fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(args);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }

    /// Asked there it is what is said here; the server may be a moment late.
    fn same(&self, args: &[&str]) {
        let both = || (self.root.run(args), self.run(args));
        let same = || {
            let (here, there) = both();
            assert!(here.code == 0 && !here.stdout.is_empty(), "{here:?}");
            (there.code == here.code && there.stdout == here.stdout).then_some(())
        };
        until(&format!("{args:?} is told as here"), same, || format!("here and there: {:#?}", both()));
    }

    /// Starts a command that follows something.
    fn follow(&self, args: &[&str]) -> Following {
        let mut command = self.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let err = BufReader::new(child.stderr.take().unwrap());
        Following { child, out, err }
    }
}

impl Drop for There {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.served {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Nothing was looked for or left behind where the commands were called.
        if !std::thread::panicking() {
            assert_eq!(std::fs::read_dir(&self.elsewhere).unwrap().count(), 0);
        }
    }
}

struct Following {
    child: Child,
    out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
}

impl Following {
    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.out.read_line(&mut line).unwrap() > 0, "it says nothing more");
        line.trim_end_matches('\n').to_owned()
    }

    /// The next line of its talk.
    fn says(&mut self) -> String {
        let mut line = String::new();
        self.err.read_line(&mut line).unwrap();
        line
    }

    /// The rest of what it prints, its code and its talk.
    fn end(mut self) -> (String, Option<i32>, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        self.err.read_to_string(&mut err).unwrap();
        (out, self.child.wait().unwrap().code(), err)
    }

    /// An interrupt does not kill it any more.
    fn heeds_interrupts(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (Signal::SIGINT as u32 - 1)) != 0
    }

    fn interrupt(&self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A root with a task that completed, one that failed and asks something, and a second project.
fn root() -> (Root, String, String) {
    let root = Root::new();
    let first = name("first");
    let script = "echo out; echo err >&2; printf '\\377 no text'; run-agent bus post --type FACT --body 'a fact'; run-agent done";
    let _ = root.ok(&shell_args("task", &first, script, &[]));
    let second = name("second");
    let _ = root.run(&shell_args("job", &second, "echo half; exit 3", &[]));
    let (first, second) = (first.task.to_string(), second.task.to_string());
    let ask =
        ["bus", "post", "--project", "p", "--task", &second, "--type", "QUESTION", "--body", "which one?"];
    let _ = root.ok(&ask);
    let third = ["job", "--project", "q", "--task", "other", "--agent", "shell", "--prompt", "echo q"];
    let _ = root.ok(&third);
    (root, first, second)
}

fn run_of(root: &Root, task: &str) -> String {
    let status = root.json(&["status", "--project", "p", task, "--json"]);
    status["runs"][0]["run_id"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_shown_of_another_machine_is_what_is_shown_there() {
    let (root, first, second) = root();
    let (run, failed) = (run_of(&root, &first), run_of(&root, &second));
    let there = There::new(root);
    for json in [&[][..], &["--json"]] {
        let same = |args: &[&str]| there.same(&[args, json].concat());
        same(&["list"]);
        same(&["list", "--project", "p", "--status", "failed"]);
        same(&["list", "--limit", "1"]);
        same(&["status", "first"]);
        same(&["status", &first]);
        same(&["status", "--project", "p", &second]);
        same(&["status", "--task", "p/second"]);
        same(&["status", &run]);
        same(&["status", &failed]);
        same(&["status", run.rsplit_once('-').unwrap().0]);
        same(&["bus", "read", "--project", "p", "--task", &first]);
        same(&["bus", "read", "--project", "p", "--task", "second", "--tail", "2"]);
        same(&["bus", "read", "--project", "p", "--task", &first, "--type", "FACT,DONE", "--tail", "1"]);
        same(&["bus", "read", "--project", "p", "--task", &first, "--from-run", &run]);
        same(&["bus", "read", "--project", "p", "--task", &first, "--grep", "fact"]);
        same(&["bus", "read", "--project", "p"]);
        same(&["output", "--task", "first"]);
        same(&["output", &run, "--stdout"]);
        same(&["output", &run, "--stderr", "--tail", "1"]);
        same(&["output", &run, "--prompt"]);
        same(&["output", "--task", "second"]);
    }
    let all = there.root.messages(&name_of(&first));
    let since = all[1].id.to_string();
    there.same(&["bus", "read", "--project", "p", "--task", &first, "--since", &since, "--json"]);
}

fn name_of(task: &str) -> run_agent_runner::tree::TaskName {
    run_agent_runner::tree::TaskName { project: "p".parse().unwrap(), task: task.parse().unwrap() }
}

#[test]
fn a_message_posted_from_afar_is_one_as_all_others() {
    let (root, first, _) = root();
    let there = There::new(root);
    let to = ["bus", "post", "--project", "p", "--task", &first];
    let id = there.ok(&[
        &to[..],
        &["--type", "DECISION", "--body", "from afar", "--link", "https://x", "--meta", "a=b"],
    ]
    .concat());
    let large = "x".repeat(100_000);
    let mut post = there.command(&[&to[..], &["--parent", &id, "--json"]].concat());
    let mut post = post.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    post.stdin.take().unwrap().write_all(large.as_bytes()).unwrap();
    let told: Value = serde_json::from_slice(&post.wait_with_output().unwrap().stdout).unwrap();
    let all = there.root.messages(&name_of(&first));
    let [.., decision, info] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((decision.id.as_str(), decision.content.body.as_str()), (id.as_str(), "from afar"));
    assert_eq!((decision.content.links.len(), &decision.content.meta["a"]), (1, &"b".to_owned()));
    assert_eq!(told["msg_id"], info.id.as_str());
    assert_eq!(told["attachment_path"].as_str(), info.content.attachment_path.as_deref());
    assert_eq!(info.content.parents[0].msg_id, decision.id);
    for (args, code) in
        [(&["--attach", "/etc/hosts"][..], 2), (&["--stdin-ndjson"], 2), (&["--type", "RUN_STOP"], 2)]
    {
        assert_eq!(there.run(&[&to[..], args].concat()).code, code, "{args:?}");
    }
    assert_eq!(there.root.messages(&name_of(&first)).len(), all.len());
}

#[test]
fn a_bus_is_followed_over_a_restart_of_the_server_without_loss_or_repetition() {
    let (root, first, _) = root();
    let mut there = There::new(root);
    let stream = ["--project", "p", "--task", first.as_str(), "--json"];
    let mut followed = there.follow(&[&["bus", "read", "--follow", "--tail", "1"][..], &stream].concat());
    let body =
        |line: String| serde_json::from_str::<Value>(&line).unwrap()["body"].as_str().unwrap().to_owned();
    let _ = followed.line();
    let post = |there: &There, text: &str| {
        let _ = there.root.ok(&["bus", "post", "--project", "p", "--task", &first, "--body", text]);
    };
    for (round, signal) in [Signal::SIGTERM, Signal::SIGKILL].into_iter().enumerate() {
        post(&there, &format!("{round} before"));
        assert_eq!(body(followed.line()), format!("{round} before"));
        there.stop(signal);
        post(&there, &format!("{round} meanwhile"));
        there.start_again();
        post(&there, &format!("{round} after"));
        assert_eq!(body(followed.line()), format!("{round} meanwhile"));
        assert_eq!(body(followed.line()), format!("{round} after"));
    }
    followed.interrupt();
    let (rest, _, talk) = followed.end();
    assert_eq!(rest, "");
    // Once a break, however many tries it took; or not at all, where the server was back at once.
    assert!(talk.matches("is away").count() <= 2, "{talk}");
    assert_eq!(talk.matches("is away").count(), talk.matches("is there again").count(), "{talk}");
    // One that waits for news gets the first that matches.
    let waiting = [&["bus", "poll", "--type", "ANSWER", "--wait", "60s"][..], &stream].concat();
    let mut waits = there.follow(&waiting);
    post(&there, "no answer");
    let posted = ["bus", "post", "--project", "p", "--task", &first, "--type", "ANSWER", "--body", "42"];
    let answered = || {
        let _ = there.root.ok(&posted);
        waits.child.try_wait().unwrap()
    };
    let status = until("the answer is told", answered, String::new);
    assert_eq!(status.code(), Some(0));
    assert_eq!(body(waits.line()), "42");
    let nothing = there.run(&[&["bus", "poll", "--type", "REVIEW", "--wait", "1ms"][..], &stream].concat());
    assert_eq!((nothing.code, nothing.stdout.as_str()), (124, ""), "{nothing:?}");
}

#[test]
fn whoever_cannot_be_asked_is_told_apart() {
    let (root, ..) = root();
    let key = root.path().join("key");
    std::fs::write(&key, "right-key\n").unwrap();
    let config = format!("server {{\n  api_key_file = \"{}\"\n}}\n", key.display());
    std::fs::write(root.path().join("config.hcl"), config).unwrap();
    let mut there = There::new(root);
    let wrong = there.root.scratch().join("wrong");
    std::fs::write(&wrong, "wrong-key").unwrap();
    let refused = |there: &There, args: &[&str], code: i32, words: &str| {
        let done = there.run(args);
        assert!(
            done.code == code && done.stderr.contains(words) && done.stdout.is_empty(),
            "{words}: {done:?}"
        );
    };
    refused(&there, &["list"], 2, "wants its API key");
    refused(&there, &["list", "--api-key-file", wrong.to_str().unwrap()], 2, "another API key");
    refused(&there, &["list", "--api-key-file", "/nowhere"], 2, "cannot read the API key");
    let _ = there.ok(&["list", "--api-key-file", key.to_str().unwrap()]);
    let with =
        Done::of(there.command(&["list"]).env("RUN_AGENT_API_KEY", "right-key").output().unwrap(), &[]);
    assert_eq!(with.code, 0, "{with:?}");
    refused(&there, &["list", "--root", "/tmp"], 2, "--root names what lies on this machine");
    let keyed = ["--api-key-file", key.to_str().unwrap()];
    refused(&there, &[&["status", "nothing"][..], &keyed].concat(), 5, "no task `nothing`");
    refused(&there, &[&["status", "frist"][..], &keyed].concat(), 5, "did you mean `first`?");
    refused(&there, &[&["list", "--project", "none"][..], &keyed].concat(), 5, "no project none");
    let far = there.url.replace("127.0.0.1", "localhost.");
    let other_host = there.root.command(&["list", "--server", &far, keyed[0], keyed[1]]).output().unwrap();
    let other_host = Done::of(other_host, &[]);
    assert_eq!(other_host.code, 1, "{other_host:?}");
    there.stop(Signal::SIGTERM);
    refused(&there, &["list"], 1, "no server answers");
    refused(&there, &["bus", "follow", "--project", "p"], 1, "no server answers");
    // Something else answers there.
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    there.url = format!("http://{}", stranger.local_addr().unwrap());
    let says = std::thread::spawn(move || {
        for stream in stranger.incoming().take(1) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>");
        }
    });
    refused(&there, &["list"], 1, "no `run-agent serve`");
    says.join().unwrap();
}

#[test]
fn a_task_is_started_watched_and_told_from_afar() {
    let (root, ..) = root();
    let lets = root.scratch().join("go");
    let mut there = There::new(root);
    let script = format!("until [ -e {} ]; do sleep 0.02; done; echo made; run-agent done", lets.display());
    let detached = there.json(&[
        "task",
        "--project",
        "p",
        "--task",
        "afar",
        "--agent",
        "shell",
        "--prompt",
        &script,
        "--detach",
        "--json",
    ]);
    let task = detached["task_id"].as_str().unwrap().to_owned();
    assert!(task.ends_with("-afar") && detached["driver_pid"].as_u64().is_some(), "{detached}");
    there.same(&["list", "--active"]);
    let mut watched = there.follow(&["watch", "afar", "--json"]);
    let mut attached = there.follow(&["task", "--attach", "--task", "afar"]);
    let first: Value = serde_json::from_str(&watched.line()).unwrap();
    assert_eq!((&first["change"], &first["task_id"]), (&json!("task"), &json!(task)));
    assert!(attached.says().starts_with("attached to p/"));
    // Told as it happens, and not only when it is looked for.
    let asked = ["bus", "post", "--project", "p", "--task", &task, "--type", "QUESTION", "--body", "so?"];
    let _ = there.root.ok(&asked);
    while !watched.line().contains("question_asked") {}
    // Whatever the server does, the task goes on, and so does who watches it.
    there.stop(Signal::SIGKILL);
    there.root.lets("go");
    let name = name_of(&task);
    until("the loop has ended", || (there.root.count(&name, "LOOP_END") > 0).then_some(()), String::new);
    there.start_again();
    let (lines, code, talk) = watched.end();
    assert_eq!(code, Some(0), "{lines}{talk}");
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["change"], &last["tasks"][0]["status"]),
        (&json!("end"), &json!("completed")),
        "{lines}"
    );
    // Nothing that happened meanwhile is left out.
    let told: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        told.iter().any(|change| change["change"] == "run" && change["status"] == "completed"),
        "{lines}"
    );
    let (out, code, talk) = attached.end();
    assert_eq!(code, Some(0), "{out}{talk}");
    assert!(out.starts_with(&format!("p/{task} completed")), "{out}{talk}");
    // One that is there is gone on with, and told to its end; its prompt is not replaced in silence.
    let again = there.run(&["task", "--task", "afar", "--prompt", "another"]);
    assert_eq!(again.code, 2, "{again:?}");
    let done = there.ok(&["task", "--project", "p", "--agent", "shell", "--prompt", "run-agent done"]);
    assert!(done.contains(" completed"), "{done}");
    let new = there.ok(&[
        "task",
        "--project",
        "new",
        "--cwd",
        there.elsewhere.to_str().unwrap(),
        "--agent",
        "shell",
        "--prompt",
        "run-agent done",
    ]);
    assert!(new.starts_with("new/"), "{new}");
}

#[test]
fn a_job_from_afar_ends_with_its_agents_code_and_an_interrupt_ends_the_following_alone() {
    let (root, first, _) = root();
    let there = There::new(root);
    let job = ["job", "--task", first.as_str(), "--agent", "shell"];
    let here = there.root.run(&[&job[..], &["--project", "p", "--prompt", "echo answer"]].concat());
    let done = there.run(&[&job[..], &["--prompt", "echo answer"]].concat());
    assert_eq!((done.code, &done.stdout), (0, &here.stdout), "{done:?}");
    let failed = there.run(&[&job[..], &["--prompt", "echo why >&2; exit 7"]].concat());
    assert!(failed.code == 7 && failed.stderr.contains("why"), "{failed:?}");
    let none = there.run(&["job", "--agent", "shell", "--prompt", "true"]);
    assert!(none.code == 2 && none.stderr.contains("which task"), "{none:?}");
    let lets = there.root.scratch().join("go");
    let script = format!("until [ -e {} ]; do sleep 0.02; done", lets.display());
    let waits = there.follow(&[&job[..], &["--prompt", &script]].concat());
    let name = name_of(&first);
    let runs = || there.root.view(&name).task().active().next().map(|(id, _)| id.clone());
    let run = until("the run is there", runs, String::new);
    until("it is waited for", || waits.heeds_interrupts().then_some(()), String::new);
    waits.interrupt();
    let (_, code, talk) = waits.end();
    assert_eq!(code, Some(130), "{talk}");
    assert!(talk.contains(&format!("output {run} --follow")) && talk.contains(&there.url), "{talk}");
    assert_eq!(runs(), Some(run.clone()), "it goes on");
    let stopped = there.ok(&["stop", "--run", run.as_str(), "--force"]);
    assert_eq!(stopped, format!("run {run} stopped (1 run)"));
    assert_eq!(there.ok(&["stop", "--run", run.as_str()]), format!("run {run} had ended already: stopped"));
}

#[test]
fn a_task_of_another_machine_is_stopped_with_all_that_runs_in_it() {
    let (root, ..) = root();
    let there = There::new(root);
    let start =
        ["task", "--project", "p", "--task", "long", "--agent", "shell", "--prompt", "sleep 600", "--detach"];
    let task = there.ok(&start);
    let stopped = there.json(&["stop", "--task", "long", "--grace", "1s", "--json"]);
    assert_eq!(stopped["stopped_runs"].as_array().map(Vec::len), Some(1), "{stopped}");
    assert_eq!(stopped["had_ended"], json!(false));
    assert_eq!(there.root.view(&name_of(&task)).task().active().count(), 0);
    let again = there.json(&["stop", "--task", "long", "--json"]);
    assert_eq!((&again["had_ended"], &again["task_id"]), (&json!(true), &json!(task)));
    there.same(&["status", "long"]);
    assert_eq!(there.run(&["stop", "--task", "nothing"]).code, 5);
}

#[test]
fn what_an_agent_prints_is_followed_from_afar_over_a_restart_of_the_server() {
    let root = Root::new();
    let task = name("prints");
    let (go, end) = (root.scratch().join("go"), root.scratch().join("end"));
    let until_there =
        |path: &std::path::Path| format!("until [ -e {} ]; do sleep 0.02; done;", path.display());
    let script = format!(
        "echo one; echo two >&2; {} echo three; {} echo four; run-agent done",
        until_there(&go),
        until_there(&end)
    );
    let _ = root.ok(&shell_args("task", &task, &script, &["--detach"]));
    let mut there = There::new(root);
    let mut follows = there.follow(&["output", "--task", "prints", "--follow"]);
    let mut told = vec![follows.line(), follows.line()];
    there.stop(Signal::SIGKILL);
    there.root.lets("go");
    there.start_again();
    told.push(follows.line());
    let mut one = there.follow(&["output", "--task", "prints", "--follow", "--stderr"]);
    assert_eq!(one.line(), "two");
    there.root.lets("end");
    let (rest, code, talk) = follows.end();
    told.extend(rest.lines().map(str::to_owned));
    assert_eq!(
        (told, code),
        (["one", "two", "three", "four"].map(str::to_owned).to_vec(), Some(0)),
        "{talk}"
    );
    assert_eq!(one.end().1, Some(0));
    let args = ["output", "--task", "prints"];
    for more in [
        &["--merged"][..],
        &["--merged", "--tail", "2"],
        &["--follow"],
        &["--follow", "--stdout", "--tail", "1"],
    ] {
        there.same(&[&args[..], more].concat());
    }
    let task = task.task.to_string();
    let job = [
        "job",
        "--project",
        "p",
        "--task",
        task.as_str(),
        "--agent",
        "shell",
        "--prompt",
        "echo a; echo b; exit 3",
        "--follow",
    ];
    let (here, done) = (there.root.run(&job), there.run(&job));
    assert_eq!((done.code, &done.stdout), (here.code, &here.stdout), "{done:?}");
    let again = [
        "task",
        "--project",
        "p",
        "--task",
        "again",
        "--agent",
        "shell",
        "--prompt",
        "echo out; run-agent done",
        "--follow",
    ];
    let done = there.ok(&again);
    assert!(done.starts_with("out\np/") && done.contains(" completed"), "{done}");
}
