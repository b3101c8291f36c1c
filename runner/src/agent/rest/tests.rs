use super::*;

const PROVIDER: Provider = Provider {
    name: "example",
    base_url: "https://api.example.org/v1",
    model: "standard",
    token_env: "EXAMPLE_API_KEY",
    bound: "max_tokens",
    stream: Stream::Xai,
};

fn setup() -> Setup {
    Setup { name: "mine".to_owned(), token: Some("secret".to_owned()), ..Setup::default() }
}

fn request(setup: &Setup) -> Request {
    PROVIDER.call(setup, json!({ "fixed": { "a": true } })).unwrap().request.unwrap()
}

fn refused(setup: &Setup) -> String {
    PROVIDER.call(setup, Value::Null).unwrap_err().to_string()
}

#[test]
fn the_prompt_is_the_users_message_and_args_are_fields() {
    let args = ["temperature=0.2", "filter=week", "domains=[\"a.org\"]", "fixed=null", "note=a=b"];
    let args = args.map(str::to_owned).to_vec();
    let request = request(&Setup { args, model: Some("other".to_owned()), ..setup() });
    let body: Value = serde_json::from_slice(&request.body("Say \"hi\".\n")).unwrap();
    let wanted = json!({
        "model": "other",
        "messages": [{ "role": "user", "content": "Say \"hi\".\n" }],
        "stream": true,
        "temperature": 0.2,
        "filter": "week",
        "domains": ["a.org"],
        "fixed": null,
        "note": "a=b",
    });
    assert_eq!(body, wanted);
    assert_eq!(request.line(), "POST https://api.example.org/v1/chat/completions (model other)");
}

#[test]
fn a_trial_is_the_same_request_with_a_short_answer_unless_args_bound_it() {
    let trial = |args: &[&str]| {
        let args = args.iter().copied().map(str::to_owned).collect();
        PROVIDER.trial(&Setup { args, ..setup() }, json!({ "fixed": 1 })).unwrap().request
    };
    let own = Request { fields: Map::from_iter([("fixed".to_owned(), json!(1))]), ..request(&setup()) };
    let short = Map::from_iter([("fixed".to_owned(), json!(1)), ("max_tokens".to_owned(), json!(16))]);
    assert_eq!(trial(&[]), Request { fields: short, ..own });
    for bound in ["max_tokens=4", "max_completion_tokens=4"] {
        let fields = trial(&[bound]).fields;
        let of_bounds: Vec<_> = fields.iter().filter(|(name, _)| BOUNDS.contains(&name.as_str())).collect();
        let name = bound.trim_end_matches("=4").to_owned();
        assert_eq!(of_bounds, [(&name, &json!(4))]);
    }
}

#[test]
fn a_base_url_replaces_the_providers_and_keeps_its_path() {
    for base in ["http://127.0.0.1:8080/v1/", "http://127.0.0.1:8080/v1"] {
        let setup = Setup { base_url: Some(base.to_owned()), ..setup() };
        assert_eq!(request(&setup).url, "http://127.0.0.1:8080/v1/chat/completions");
    }
    let call = PROVIDER.call(&setup(), Value::Null).unwrap();
    let (provider, endpoint) =
        ("example".to_owned(), "https://api.example.org/v1/chat/completions".to_owned());
    let model = Some("standard".to_owned());
    assert_eq!(call.api, Api { provider: Some(provider), model, endpoint: Some(endpoint) });
    assert_eq!(request(&setup()).model, "standard");
}

#[test]
fn a_token_is_never_printed_and_never_missing() {
    let text = format!("{:?} {:?}", setup(), request(&setup()));
    assert!(!text.contains("secret"), "{text}");
    let without = Setup { token: Some(" \n".to_owned()), ..setup() };
    let wanted = "agent `mine`: it has no token; set token or token_file in config.hcl, or the variable EXAMPLE_API_KEY";
    assert_eq!(refused(&without), wanted);
    let own = Setup { token: None, token_env: Some("MY_KEY".to_owned()), ..setup() };
    assert!(refused(&own).ends_with("the variable MY_KEY"));
    let broken = Setup { token: Some("a\nb".to_owned()), ..setup() };
    assert_eq!(refused(&broken), "agent `mine`: its token has characters in it that no token has");
}

#[test]
fn settings_that_cannot_hold_are_refused() {
    let args = |arg: &str| Setup { args: vec![arg.to_owned()], ..setup() };
    let base = |url: &str| Setup { base_url: Some(url.to_owned()), ..setup() };
    let env = [("A".to_owned(), "b".to_owned())].into();
    for (setup, wanted) in [
        (
            args("--fast"),
            "args of a REST agent are fields of its request, as \"temperature=0.2\"; `--fast` is none",
        ),
        (args("=1"), "args of a REST agent are fields of its request, as \"temperature=0.2\"; `=1` is none"),
        (args("model=x"), "args set the field `model`; use the setting model"),
        (args("stream=false"), "args set the field `stream`, which is fixed"),
        (base("api.x.ai/v1"), "base_url is no address of an interface: relative URL without a base"),
        (
            base("file:///x"),
            "base_url is no address of an interface: it begins neither with https:// nor with http://",
        ),
        (
            base("https://me:secret@h/v1"),
            "base_url is no address of an interface: it has a name or a password in it; the token is a setting of its own",
        ),
        (base("https://h/v1?key=1"), "base_url is no address of an interface: it has a query or a fragment"),
        (Setup { env, ..setup() }, "env is for agents that have a process; it has none"),
        (
            Setup { min_version: Some("1".to_owned()), ..setup() },
            "min_version is for agents that have a program; it has none",
        ),
    ] {
        assert_eq!(refused(&setup), format!("agent `mine`: {wanted}"));
    }
}
