//! A real coding agent as a `command` agent, offline: the CLI from npm against a scripted endpoint. It runs its tool
//! commands in sessions of their own and leaves some behind, as no script of ours does.
//!
//! Part of `cargo xtask deep` alone, since it installs some hundred MB once, into the target folder.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use run_agent_core::RunId;
use run_agent_core::world::{RunStatus, TaskStatus};
use run_agent_tests::{Root, binary, processes_of, text_of, until};

const PACKAGE: &str = "@anthropic-ai/claude-code@2.1.329";

/// The scripted endpoint, ended with the test.
struct Endpoint {
    server: Child,
    port: String,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The rig beside this repository, and the CLI; `None`, with a word, where either is not to be had.
fn rig() -> Option<(PathBuf, PathBuf)> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let endpoint = repository.join("../shared/rig/fake_llm.py");
    if std::env::var_os("RUN_AGENT_DEEP").is_none() {
        eprintln!("skipped: a real agent is part of `cargo xtask deep`");
        return None;
    }
    if !endpoint.is_file() {
        eprintln!("skipped: there is no {}", endpoint.display());
        return None;
    }
    let folder = binary().parent()?.parent()?.join("agent-clis");
    let program = folder.join("node_modules/.bin/claude");
    if !program.exists() {
        let installed = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--prefix"])
            .arg(&folder)
            .arg(PACKAGE)
            .status();
        if !installed.is_ok_and(|status| status.success()) {
            eprintln!("skipped: npm cannot install {PACKAGE}");
            return None;
        }
    }
    Some((endpoint, program))
}

fn serve(endpoint: &Path, folder: &Path) -> Endpoint {
    let port = folder.join("port");
    let server = Command::new("python3")
        .arg(endpoint)
        .args(["--port", "0", "--port-file"])
        .arg(&port)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let written = || Some(text_of(&port).trim().to_owned()).filter(|text| !text.is_empty());
    Endpoint { server, port: until("the endpoint's port", written, String::new) }
}

/// A root whose only agent is the CLI.
fn root_with(program: &Path, port: &str) -> Root {
    let root = Root::made();
    let home = root.scratch().join("home");
    std::fs::create_dir_all(&home).unwrap();
    let text = format!(
        r#"agents {{ order = ["real"] }}
stop {{ grace = "5s" }}
agent "real" {{
  type = "command"
  argv = ["{}", "-p", "--input-format", "text", "--output-format", "stream-json", "--verbose", "--permission-mode", "bypassPermissions"]
  env  = {{ ANTHROPIC_API_KEY = "k", ANTHROPIC_BASE_URL = "http://127.0.0.1:{port}", IS_SANDBOX = "1", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC = "1", DISABLE_AUTOUPDATER = "1", HOME = "{}" }}
}}
"#,
        program.display(),
        home.display()
    );
    std::fs::write(root.path().join("config.hcl"), text).unwrap();
    root
}

#[test]
fn a_real_agent_posts_delegates_and_says_done_and_what_it_leaves_is_ended() {
    let Some((endpoint, program)) = rig() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let served = serve(&endpoint, scratch.path());
    let root = root_with(&program, &served.port);
    let prompt = "@fake tool run-agent bus post --type FACT --body 'from the shell tool'\n\
        @fake tool setsid sleep 600 >/dev/null 2>&1 &\n\
        @fake tool run-agent job --agent shell --prompt 'touch \"$JRUN_TASK_FOLDER/child\"'\n\
        @fake tool run-agent done --message 'all is well'\n\
        @fake reply the work is finished";
    let done = root.run(&["task", "--project", "p", "--prompt", prompt]);
    assert_eq!(done.code, 0, "{done:?}");
    let name = root.only_task();
    let view = root.view(&name);
    assert_eq!((view.task().status(), view.task().ralph.restarts), (TaskStatus::Completed, 0));
    assert!(root.tree().task(&name).folder().join("child").is_file(), "the child worked");
    let bodies: Vec<_> = root.messages(&name).into_iter().map(|m| m.content.body).collect();
    assert!(bodies.iter().any(|body| body == "from the shell tool"), "{bodies:?}");
    let runs: Vec<&RunId> = view.task().runs.keys().collect();
    let child = &view.task().runs[runs[1]];
    assert_eq!((runs.len(), child.parent.as_ref(), child.depth), (2, Some(runs[0]), 1));
    let (end, _) = view.task().runs[runs[0]].end().unwrap();
    assert!(end.left_overs.as_ref().is_some_and(|left| left.starts_with("sleep[")), "{end:?}");
    assert_eq!(processes_of(runs[0]), [0u32; 0]);
    assert!(text_of(&root.tree().run(&name, runs[0]).stdout()).contains("the work is finished"));
}

#[test]
fn a_stop_in_the_middle_of_a_real_agents_tool_call_leaves_no_process() {
    let Some((endpoint, program)) = rig() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let served = serve(&endpoint, scratch.path());
    let root = root_with(&program, &served.port);
    let prompt = "@fake tool touch at-work; sleep 600\n@fake reply never said";
    let run = root.ok(&["job", "--project", "p", "--agent", "real", "--prompt", prompt, "--detach"]);
    let at_work = root.scratch().join("at-work");
    until(
        "the tool call",
        || at_work.exists().then_some(()),
        || root.run(&["output", &run, "--merged"]).stdout,
    );
    assert_eq!(root.run(&["stop", "--run", &run]).code, 0);
    let name = root.only_task();
    let id = RunId::parse(&run).unwrap();
    assert_eq!(root.view(&name).run(&id).unwrap().status(), RunStatus::Stopped);
    assert_eq!(processes_of(&id), [0u32; 0]);
}
