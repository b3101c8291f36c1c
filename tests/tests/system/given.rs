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
