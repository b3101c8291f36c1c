//! The same against the scripted endpoint that the agents' CLIs are tried with, where it lies beside this repository.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use run_agent_core::world::RunStatus;
use run_agent_tests::{Root, name, text_of};

use super::{end_of, job, only_run};

struct Rig {
    server: Child,
    _folder: tempfile::TempDir,
    port: String,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn rig() -> Option<Rig> {
    let program: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.join("../shared/rig/fake_llm.py");
    if !program.is_file() {
        eprintln!("skipped: there is no {}", program.display());
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let port_file = folder.path().join("port");
    let mut command = Command::new("python3");
    command.arg(program).args(["--port", "0", "--port-file"]).arg(&port_file);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(server) = quiet.spawn() else {
        eprintln!("skipped: there is no python3");
        return None;
    };
    let port = text_of(&port_file);
    Some(Rig { server, _folder: folder, port })
}

fn root(rig: &Rig) -> Root {
    let root = Root::made();
    let port = &rig.port;
    let text = format!(
        "agent \"xai\" {{\n  base_url = \"http://127.0.0.1:{port}/v1\"\n  token = \"k\"\n}}\n\
         agent \"perplexity\" {{\n  base_url = \"http://127.0.0.1:{port}\"\n  token = \"k\"\n}}\n"
    );
    std::fs::write(root.path().join("config.hcl"), text).unwrap();
    root
}

#[test]
fn xai_streams_its_answer_after_a_refusal() {
    let Some(rig) = rig() else { return };
    let root = root(&rig);
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
    let Some(rig) = rig() else { return };
    let root = root(&rig);
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
