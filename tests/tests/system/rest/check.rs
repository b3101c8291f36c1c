//! `validate --check-network`: one real request, and what is said of it.

use std::process::Stdio;

use run_agent_tests::{Root, kill};
use serde_json::{Value, json};

use super::TOKEN;
use super::endpoint::Endpoint;

/// A root with one REST agent, `mine`, whose model says what the endpoint does.
fn root(url: &str, model: &str) -> Root {
    let root = Root::made();
    let text = format!(
        "agent \"mine\" {{\n  type = \"xai\"\n  base_url = \"{url}\"\n  token = \"{TOKEN}\"\n  model = \"{model}\"\n}}\n"
    );
    std::fs::write(root.path().join("config.hcl"), text).unwrap();
    root
}

const CHECK: [&str; 3] = ["validate", "mine", "--check-network"];

/// What is said of the only agent, and the exit code.
fn checked(root: &Root) -> (Value, i32) {
    let done = root.run(&["validate", "mine", "--check-network", "--json"]);
    assert!(!done.stdout.contains(TOKEN) && !done.stderr.contains(TOKEN), "{done:?}");
    let told: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    (told["agents"][0].clone(), done.code)
}

#[test]
fn an_answer_is_told_with_its_model_and_the_request_is_small() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint.url(), "@answer OK");
    let (told, code) = checked(&root);
    let network = &told["network"];
    assert_eq!((&network["result"], &network["model"], code), (&json!("answered"), &json!("scripted"), 0));
    assert!(network["took_ms"].is_u64() && told["problems"] == json!([]), "{told}");
    assert_eq!((endpoint.requests(), &told["usable"]), (1, &json!(true)));
    let (head, body) = endpoint.last();
    assert!(head.contains(&format!("authorization: Bearer {TOKEN}\r\n")), "{head}");
    assert_eq!((&body["max_completion_tokens"], &body["stream"]), (&json!(16), &json!(true)));
    let done = root.run(&CHECK);
    assert!(done.stdout.contains("NETWORK") && done.stdout.contains("scripted answered in "), "{done:?}");
}

#[test]
fn nothing_is_asked_without_the_flag() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint.url(), "@answer OK");
    let told = root.json(&["validate", "mine", "--json"]);
    assert_eq!((endpoint.requests(), told["agents"][0].get("network")), (0, None));
    assert!(!root.ok(&["validate", "mine"]).contains("NETWORK"));
}

#[test]
fn each_way_to_fail_is_told_with_its_class_after_one_try_and_makes_the_agent_unusable() {
    let endpoint = Endpoint::new();
    for (n, (model, class, message)) in [
        ("@refuse 401 9 bad key", "auth", "HTTP 401: bad key"),
        ("@refuse 404 9 no such model", "usage", "HTTP 404: no such model"),
        ("@refuse 429 9 slow down", "rate_limit", "HTTP 429: slow down"),
        ("@refuse 500 9 it broke", "overloaded", "HTTP 500: it broke"),
        ("@page <html>Sign in here</html>", "usage", "the answer is no stream of events; check base_url"),
        ("@accuse", "auth", "HTTP 401: authorization: Bearer …"),
    ]
    .into_iter()
    .enumerate()
    {
        let root = root(&endpoint.url(), model);
        let (told, code) = checked(&root);
        let network = &told["network"];
        assert_eq!(
            (&network["result"], &network["error_class"]),
            (&json!("failed"), &json!(class)),
            "{told}"
        );
        assert_eq!((network["message"].as_str(), code), (Some(message), 1), "{told}");
        assert!(told["problems"][0].as_str().unwrap().contains(&format!("{class}: {message}")), "{told}");
        assert_eq!((&told["usable"], endpoint.requests()), (&json!(false), n + 1), "{told}");
    }
}

#[test]
fn where_nobody_listens_is_the_network() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let root = root(&format!("http://127.0.0.1:{port}/v1"), "m");
    let (told, code) = checked(&root);
    assert_eq!((&told["network"]["error_class"], code), (&json!("network"), 1), "{told}");
    let message = told["network"]["message"].as_str().unwrap();
    assert!(message.starts_with("cannot connect: ") && message.contains("refused"), "{told}");
    let done = root.run(&CHECK);
    assert!(done.stdout.contains("failed: network") && done.stdout.contains("check the network"), "{done:?}");
}

#[test]
fn one_that_never_ends_is_ended_by_an_interrupt_and_its_connection_with_it() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint.url(), "@hold Half.");
    let mut command = root.command(&CHECK);
    let validate = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    endpoint.holds(1);
    kill(validate.id(), "INT");
    let out = validate.wait_with_output().unwrap();
    assert_eq!((out.status.code(), out.stdout.as_slice()), (Some(130), &b""[..]), "{out:?}");
    endpoint.holds(0);
}

#[test]
fn all_are_asked_at_the_same_time_and_what_is_no_rest_agent_is_not() {
    let endpoint = Endpoint::new();
    let root = super::root(&endpoint, "");
    let text = std::fs::read_to_string(root.path().join("config.hcl")).unwrap();
    let text = text.replace("token =", "model = \"@hold OK\"\n  token =");
    std::fs::write(root.path().join("config.hcl"), text).unwrap();
    let mut command = root.command(&["validate", "xai", "perplexity", "shell", "--check-network", "--json"]);
    let validate = command.stdout(Stdio::piped()).spawn().unwrap();
    endpoint.holds(2);
    endpoint.let_go();
    let out = validate.wait_with_output().unwrap();
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    let results: Vec<&Value> =
        told["agents"].as_array().unwrap().iter().map(|agent| &agent["network"]["result"]).collect();
    assert_eq!(results, ["answered", "answered", "not_asked"], "{told}");
    assert_eq!((out.status.code(), endpoint.requests()), (Some(0), 2));
}

#[test]
fn without_a_token_there_is_nothing_to_ask_with() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint.url(), "@answer OK");
    let text = std::fs::read_to_string(root.path().join("config.hcl")).unwrap();
    std::fs::write(root.path().join("config.hcl"), text.replace("token =", "# token =")).unwrap();
    let mut command = root.command(&["validate", "mine", "--check-network", "--json"]);
    let out = command.env_remove("XAI_API_KEY").output().unwrap();
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    let agent = &told["agents"][0];
    assert_eq!((&agent["network"]["result"], out.status.code()), (&json!("not_asked"), Some(1)), "{told}");
    assert!(agent["problems"][0].as_str().unwrap().contains("it has no token"), "{told}");
    assert_eq!(endpoint.requests(), 0);
}
