//! The bus under many processes, and bodies of every kind through the command line.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use run_agent_core::{Draft, Durability, Kind, Message};
use run_agent_tests::{Root, name};

/// Set for the posting processes of this test.
const POSTER: &str = "RUN_AGENT_TEST_POSTER";
const PROCESSES: usize = 50;
const MESSAGES: usize = 200;

#[test]
fn fifty_processes_post_at_once_and_a_follower_sees_each_message_once_in_order() {
    if let Ok(who) = std::env::var(POSTER) {
        return post_many(&who);
    }
    let root = Root::new();
    let task = root.task_with("many", "true");
    let before = root.messages(&task);
    let since = before.last().unwrap().id.to_string();
    let mut follower = root
        .command(&["bus", "follow", "--task", task.task.as_str(), "--json", "--since", &since])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut followed = BufReader::new(follower.stdout.take().unwrap()).lines();

    let posters: Vec<Child> = (0..PROCESSES)
        .map(|who| {
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "bus::fifty_processes_post_at_once_and_a_follower_sees_each_message_once_in_order",
                    "--nocapture",
                ])
                .env(POSTER, format!("{who} {}", root.path().display()))
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let seen: Vec<Message> = (0..PROCESSES * MESSAGES)
        .map(|_| serde_json::from_str(&followed.next().unwrap().unwrap()).unwrap())
        .collect();
    for mut poster in posters {
        assert!(poster.wait().unwrap().success());
    }
    follower.kill().unwrap();
    follower.wait().unwrap();

    let all = root.messages(&task);
    assert_eq!(all.len() - before.len(), PROCESSES * MESSAGES, "all are there, once");
    assert_eq!(all[before.len()..], seen, "the follower saw each once, in order");
    assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id), "ids increase");
    let bodies: BTreeSet<&str> = seen.iter().map(|m| m.content.body.as_str()).collect();
    assert_eq!(bodies.len(), PROCESSES * MESSAGES);
}

fn post_many(who: &str) {
    let (who, root) = who.split_once(' ').unwrap();
    let store = run_agent_tests::store_at(root.as_ref(), run_agent_core::store::Options::default());
    let task = name("many");
    let stream = store.open(&task.key()).unwrap();
    for n in 0..MESSAGES {
        let draft =
            Draft::new(Kind::PROGRESS, task.project.clone(), Some(task.task.clone()), format!("{who} {n}"));
        stream.append(vec![draft], Durability::None).unwrap();
    }
}

#[test]
fn many_post_commands_at_once_lose_nothing() {
    let root = Root::new();
    let task = root.task_with("commands", "true");
    let args = ["bus", "post", "--task", task.task.as_str(), "--type", "FACT", "--body", "x"];
    let children: Vec<Child> =
        (0..60).map(|_| root.command(&args).stdout(Stdio::piped()).spawn().unwrap()).collect();
    let ids: BTreeSet<String> = children
        .into_iter()
        .map(|child| run_agent_tests::Done::of(child.wait_with_output().unwrap(), &args))
        .map(|done| {
            assert_eq!(done.code, 0, "{done:?}");
            done.stdout.trim().to_owned()
        })
        .collect();
    assert_eq!(ids.len(), 60);
    let there: BTreeSet<String> = root.messages(&task).iter().map(|m| m.id.to_string()).collect();
    assert!(ids.is_subset(&there), "what was printed is there");
}

#[test]
fn bodies_come_back_byte_for_byte_through_the_command_line() {
    let root = Root::new();
    let task = root.task_with("bodies", "true");
    let entry = root.ok(&["bus", "export", "--task", task.task.as_str()]);
    let large = "0123456789abcdé\n".repeat(60 * 1024 / 17);
    let bodies = [
        "a\n---\nb",
        "---",
        "---\n",
        "\\---\n\\\\---",
        "nul \0 inside",
        "crlf\r\nline\r\n",
        "no newline at the end",
        "\n\n",
        // A whole entry of ours, checksum and all: read back it must be a body.
        entry.as_str(),
        &entry[4..],
        &large,
        "é 漢字 🚀",
    ];
    for body in bodies {
        let mut post = root
            .command(&["bus", "post", "--task", task.task.as_str(), "--type", "OBSERVATION"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        post.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
        assert!(post.wait().unwrap().success());
    }
    // From the start, from the end, and from each place in the middle.
    let read = |args: &[&str]| -> Vec<Message> {
        let all = [&["bus", "read", "--task", task.task.as_str(), "--type", "OBSERVATION", "--json"], args]
            .concat();
        root.ok(&all).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = read(&["--tail", "100"]);
    assert_eq!(all.iter().map(|m| m.content.body.as_str()).collect::<Vec<_>>(), bodies);
    for (n, message) in all.iter().enumerate() {
        let rest = read(&["--since", message.id.as_str()]);
        assert_eq!(rest, all[n + 1..]);
    }
    let last: Vec<Message> = root
        .ok(&["bus", "read", "--task", task.task.as_str(), "--tail", "4", "--json"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(last, all[all.len() - 4..]);
}

#[test]
fn what_cannot_be_a_body_is_refused_and_nothing_is_posted() {
    let root = Root::new();
    let task = root.task_with("refused", "true");
    let before = root.messages(&task).len();
    let post = |bytes: &[u8]| {
        let args = ["bus", "post", "--task", task.task.as_str()];
        let mut post = root
            .command(&args)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A post that refuses early closes its end.
        let _ = post.stdin.take().unwrap().write_all(bytes);
        run_agent_tests::Done::of(post.wait_with_output().unwrap(), &args)
    };
    for (bytes, word) in [(&b"\xff\xfe"[..], "UTF-8"), (b"x\xff", "--attach"), (b"", "stdin is empty")] {
        let done = post(bytes);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.contains(word) && done.stderr.lines().count() == 1, "{done:?}");
    }
    assert_eq!(root.messages(&task).len(), before);
}

#[test]
fn the_tools_own_types_are_refused_from_outside() {
    let root = Root::new();
    let task = root.task_with("forged", "true");
    let before = root.messages(&task).len();
    for kind in run_agent_core::event::TOOL_KINDS {
        let done = root.run(&["bus", "post", "--task", task.task.as_str(), "--type", kind, "--body", "x"]);
        assert_eq!(done.code, 2, "{kind}: {done:?}");
        assert!(done.stderr.contains(kind), "{kind}: {done:?}");
    }
    assert_eq!(root.messages(&task).len(), before);
}

#[test]
fn a_question_is_answered_across_processes() {
    let root = Root::new();
    let task = root.task_with("ask", "true");
    let none = root.run(&["ask", "still there?", "--task", task.task.as_str(), "--wait", "50ms"]);
    assert_eq!(none.code, 124, "{none:?}");
    let id = none.stdout.trim().to_owned();
    let hint = none.stderr.trim().rsplit_once("run-agent ").unwrap().1.replace("90s", "10ms");
    let hinted = root.run(&hint.split(' ').collect::<Vec<_>>());
    assert_eq!(
        (hinted.code, hinted.stdout.trim()),
        (124, id.as_str()),
        "the hint works as printed: {hinted:?}"
    );
    assert_eq!(root.view(&task).task().thread.open_questions.len(), 1);
    let waiting = root
        .command(&["ask", "--resume", &id, "--task", task.task.as_str(), "--wait", "60s"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let parent = format!("{id}:answers");
    assert_eq!(
        root.run(&[
            "bus",
            "post",
            "--task",
            task.task.as_str(),
            "--type",
            "ANSWER",
            "--parent",
            &parent,
            "--body",
            "yes\n"
        ])
        .code,
        0
    );
    let answered = run_agent_tests::Done::of(waiting.wait_with_output().unwrap(), &[]);
    assert_eq!((answered.code, answered.stdout.as_str()), (0, "yes\n"), "{answered:?}");
    assert_eq!(root.view(&task).task().thread.open_questions.len(), 0);
}

#[test]
fn read_with_wait_is_woken_by_what_matches() {
    let root = Root::new();
    let task = root.task_with("waits", "true");
    let none = root.run(&["bus", "read", "--task", task.task.as_str(), "--wait", "50ms"]);
    assert_eq!(none.code, 124, "{none:?}");
    let args = ["bus", "read", "--task", task.task.as_str(), "--wait", "60s", "--type", "DECISION", "--json"];
    let mut waiting = root.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(waiting.stdout.take().unwrap()).lines();
    // Posted until the waiter, which begins at the end as it is when it starts, has seen one.
    let post =
        |kind: &str| root.run(&["bus", "post", "--task", task.task.as_str(), "--type", kind, "--body", kind]);
    let line = run_agent_tests::until(
        "the waiter ends",
        || {
            post("FACT");
            post("DECISION");
            waiting.try_wait().unwrap().map(|_| out.next().unwrap().unwrap())
        },
        String::new,
    );
    let message: Message = serde_json::from_str(&line).unwrap();
    assert_eq!(message.content.kind.as_str(), "DECISION");
}

#[test]
fn an_answer_that_answers_nothing_is_posted_and_told() {
    let root = Root::new();
    let task = root.task_with("answers", "true");
    let post = |more: &[&str]| {
        root.run(&[&["bus", "post", "--task", task.task.as_str(), "--body", "x"], more].concat())
    };
    let none = post(&["--type", "ANSWER"]);
    assert!(
        none.code == 0
            && none.stderr.contains("no question is answered by this")
            && none.stderr.contains("none is open"),
        "{none:?}"
    );
    let ask = || post(&["--type", "QUESTION"]).stdout.trim().to_owned();
    let (_, newest) = (ask(), ask());
    let guess = post(&["--type", "ANSWER", "--json"]);
    assert!(guess.code == 0 && guess.stderr.contains(&newest), "{guess:?}");
    assert_eq!(root.view(&task).task().thread.open_questions.len(), 2, "nothing is guessed");
    let unknown = post(&["--type", "ANSWER", "--parent", "MSG-nowhere"]);
    assert!(
        unknown.code == 0 && unknown.stderr.contains("the parent MSG-nowhere is no message of p/"),
        "{unknown:?}"
    );
    assert_eq!(post(&["--type", "ANSWER", "--parent", &newest]).stderr, "");
    assert_eq!(post(&["--type", "FACT", "--parent", "MSG-nowhere"]).stderr, "");
    let project = root.run(&["bus", "post", "--project", "p", "--type", "ANSWER", "--body", "x"]);
    assert!(project.code == 0 && project.stderr.contains("none is open"), "{project:?}");
}
