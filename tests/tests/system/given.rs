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
