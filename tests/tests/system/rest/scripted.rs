//! The same against the scripted endpoint that the agents' CLIs are tried with, where it lies beside this repository.

use run_agent_core::world::RunStatus;
use run_agent_tests::scripted::Scripted;
use run_agent_tests::{Root, name};

use super::{end_of, job, only_run};

/// Nothing, with a word, where the endpoint is not to be had.
fn scripted() -> Option<(Scripted, Root)> {
    let endpoint = match Scripted::serve() {
        Ok(endpoint) => endpoint,
        Err(why) => {
            eprintln!("skipped: {why}");
            return None;
        }
    };
    let root = root(&endpoint.port);
    Some((endpoint, root))
}

fn root(port: &str) -> Root {
    let root = Root::made();
    let text = format!(
        "agent \"xai\" {{\n  base_url = \"http://127.0.0.1:{port}/v1\"\n  token = \"k\"\n}}\n\
         agent \"perplexity\" {{\n  base_url = \"http://127.0.0.1:{port}\"\n  token = \"k\"\n}}\n"
    );
    std::fs::write(root.path().join("config.hcl"), text).unwrap();
    root
}

#[test]
fn xai_streams_its_answer_after_a_refusal() {
    let Some((_endpoint, root)) = scripted() else { return };
    let task = name("xai");
    let prompt =
        "@fake reply Two  words.\n@fake status 429 x1\n@fake usage in=7 out=5 cached=2\n@fake chunks 5 0.01";
    assert_eq!(root.ok(&job(&task, "xai", prompt, &[])), "Two  words.");
    let (_, run) = only_run(&root, &task);
    assert_eq!((run.usage.input_tokens, run.usage.output_tokens, run.usage.cached_tokens), (7, 5, 2));
    assert!(root.count(&task, "RUN_RETRYING") >= 1);
}

#[test]
fn perplexity_names_its_sources_and_its_cost_and_a_cut_answer_fails() {
    let Some((_endpoint, root)) = scripted() else { return };
    let task = name("perplexity");
    let out = root.ok(&job(&task, "perplexity", "@fake reply As [1] says.", &[]));
    let references = "## References\n\n1. A: <https://example.org/a>\n2. B: <https://example.org/b>";
    assert_eq!(out, format!("As [1] says.\n\n{references}"));
    assert_eq!(only_run(&root, &task).1.usage.cost_usd.micros, 7700);

    let task = name("cut");
    let done = root.run(&job(&task, "perplexity", "@fake reply abcdefgh\n@fake cut", &[]));
    let (_, run) = only_run(&root, &task);
    assert_eq!((done.code, run.status()), (1, RunStatus::Failed));
    assert_eq!(end_of(&run).1.as_deref(), Some("network"));
    assert!(done.stdout.starts_with("abcd\n"), "{done:?}");
}
