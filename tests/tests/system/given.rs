//! What is given on the command line: texts, names and files of any shape.

use run_agent_tests::{Root, name, shell_args};

#[test]
fn a_text_may_begin_with_a_hyphen() {
    let root = Root::new();
    let task = name("hyphen");
    let out = root.ok(&shell_args("job", &task, "- echo no", &["--detach"]));
    let run = run_agent_core::RunId::parse(out.trim()).unwrap();
    let prompt = std::fs::read_to_string(root.tree().run(&task, &run).prompt()).unwrap();
    assert!(prompt.contains("- echo no"), "{prompt}");
    let at = ["--task", task.task.as_str()];
    let post = |body: &[&str]| root.ok(&[&["bus", "post", "--type", "FACT"][..], &at, body].concat());
    let ids = [post(&["--body", "- first item"]), post(&["--message", "--second"])];
    for (text, id) in ["- first", "--second"].iter().zip(&ids) {
        let found = root.ok(&[&["bus", "read", "--json", "--grep", text][..], &at].concat());
        assert!(found.lines().count() == 1 && found.contains(id.as_str()), "{found}");
        let found = root.ok(&[&["bus", "search", "--json"][..], &at, &["--", text]].concat());
        assert!(found.lines().count() == 1 && found.contains(id.as_str()), "{found}");
    }
    assert_eq!(root.run(&[&["done", "--message", "- all of it"][..], &at].concat()).code, 0);
    let asked = root.run(&[&["ask", "--wait", "0"][..], &at, &["--", "- which?"]].concat());
    assert_eq!(asked.code, 124, "{asked:?}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let root = Root::new();
    let long = "x".repeat(100_000);
    let job = ["job", "--project", "p", "--agent", "shell", "--prompt", "true"];
    let task = ["task", "--project", "p", "--agent", "shell", "--prompt", "true", "--cwd", "/nope"];
    for args in [
        &[&job[..], &["--cwd", "/nope"]].concat(),
        &[&job[..], &["--key", &long]].concat(),
        &[&job[..], &["--key", ""]].concat(),
        &task.to_vec(),
        &vec!["wrap", "--project", "p", "--agent", &long, "--", "true"],
        &vec!["wrap", "--project", "p", "--agent", "../../x", "--", "true"],
        &vec!["wrap", "--project", "p", "--agent", "", "--", "true"],
        &vec!["wrap", "--project", "p", "--agent", "a\u{1b}b", "--", "true"],
    ] {
        let done = root.run(args);
        assert_eq!(done.code, 2, "{done:?}");
    }
    let folder = root.scratch().join(OsStr::from_bytes(b"bad\xff"));
    std::fs::create_dir(&folder).unwrap();
    for args in [&job[..], &["wrap", "--project", "p", "--", "true"], &task[..task.len() - 2]] {
        let mut command = root.command(args);
        let done = run_agent_tests::Done::of(command.current_dir(&folder).output().unwrap(), args);
        assert_eq!((done.code, done.stderr.contains("UTF-8")), (2, true), "{done:?}");
    }
    assert!(root.tree().projects().unwrap().is_empty(), "nothing was made");
}

#[test]
fn a_name_that_says_nothing_means_no_task() {
    let root = Root::new();
    let _ = root.task_with("only", "true");
    for args in [
        &["stop", "--task", "", "--force"][..],
        &["status", ""],
        &["bus", "post", "--task", "", "--body", "x"],
        &["job", "--project", "p", "--task", "", "--agent", "shell", "--prompt", "true"],
        &["watch", " "],
    ] {
        let done = root.run(args);
        assert_eq!((done.code, done.stderr.contains("the task's name is empty")), (2, true), "{done:?}");
    }
    for text in ["t", "task", "task-"] {
        assert_eq!(root.run(&["stop", "--task", text, "--force"]).code, 5, "{text}");
    }
    assert_eq!(root.run(&["status", "task-2"]).code, 0);
    assert_eq!(root.tree().tasks(&name("only").project).unwrap().len(), 1, "nothing was made");
}

#[test]
fn fields_of_a_message_have_names_and_links_lead_somewhere() {
    let root = Root::new();
    let task = root.task_with("fields", "true");
    let before = root.messages(&task).len();
    for given in [
        &["--meta", "=v"][..],
        &["--meta", "no-value"],
        &["--meta", "two\nlines=v"],
        &["--link", ""],
        &["--link", "https://a\nb"],
    ] {
        let args = [&["bus", "post", "--task", task.task.as_str(), "--body", "x"][..], given].concat();
        let done = root.run(&args);
        assert_eq!((done.code, done.stderr.lines().count()), (2, 1), "{done:?}");
    }
    assert_eq!(root.messages(&task).len(), before);
}

#[test]
fn json_and_follow_are_refused_wherever_they_stand() {
    let root = Root::new();
    let job = ["job", "--follow", "--project", "p", "--agent", "shell", "--prompt", "true"];
    for args in [[&["--json"][..], &job].concat(), [&job[..], &["--json"]].concat()] {
        assert_eq!(root.run(&args).code, 2, "{args:?}");
    }
    assert!(!root.path().join("p").exists());
}

#[test]
fn wrap_says_what_it_cannot_run() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let root = Root::new();
    for (program, word) in [("/etc/passwd", "may not be executed"), ("/etc", "folder"), ("./no", "not there")]
    {
        let done = root.run(&["wrap", "--project", "p", "--", program]);
        assert_eq!((done.code, done.stderr.contains(word)), (5, true), "{done:?}");
    }
    let mut command = root.command(&["wrap", "--project", "p", "--", "cat"]);
    let done = command.arg(OsStr::from_bytes(b"bad\xff")).output().unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!((done.status.code(), stderr.contains("word 2 of the command")), (Some(2), true), "{stderr}");
    assert!(root.tree().projects().unwrap().is_empty());
}
