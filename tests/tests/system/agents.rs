//! What follows from what agents' programs print, with stand-ins under their names: usage, classes of errors, limits of
//! accounts, budgets, and supervisors that are lost in the middle of a stream.

mod asked;
mod budgets;
mod heard;
mod limits;
mod lost;
mod settings;
mod told;

use run_agent_core::{Message, RunId};
use run_agent_tests::{Done, Root};
use serde_json::json;

/// A root whose loops take these agents in turn.
fn root_with(order: &[&str], more: &str) -> Root {
    let root = Root::made();
    let text = format!(
        "agents {{\n  order = {order:?}\n}}\nstop {{\n  grace = \"2s\"\n}}\nloop {{\n  restart_delay = \"0s\"\n}}\n{more}\n"
    );
    std::fs::write(root.path().join("config.hcl"), text).unwrap();
    root
}

fn task(root: &Root, more: &[&str]) -> Done {
    let args: Vec<&str> =
        ["task", "--project", "p", "--prompt", "work"].iter().chain(more).copied().collect();
    root.run(&args)
}

/// The bodies of the messages of one type.
fn told(root: &Root, kind: &str) -> Vec<String> {
    let of_kind = |m: Message| (m.content.kind.as_str() == kind).then_some(m.content.body);
    root.messages(&root.only_task()).into_iter().filter_map(of_kind).collect()
}

/// The agents of the only task's runs, in order.
fn agents_of(root: &Root) -> Vec<String> {
    root.view(&root.only_task()).task().runs.values().map(|run| run.agent.clone()).collect()
}

fn first_run(root: &Root) -> Option<RunId> {
    root.view(&root.only_task()).task().runs.keys().next().cloned()
}

/// A step of opencode's, which tells its usage as soon as it is over.
fn step(input: u64, output: u64) -> String {
    let tokens =
        json!({ "input": input, "output": output, "reasoning": 0, "cache": { "read": 0, "write": 0 } });
    let part = json!({ "type": "step-finish", "reason": "stop", "tokens": tokens, "cost": 0.001 });
    json!({ "type": "step_finish", "sessionID": "ses_1", "part": part }).to_string()
}

/// All that codex prints for one answer.
fn codex(text: &str, input: u64, output: u64) -> String {
    [
        json!({ "type": "thread.started", "thread_id": "thread-1" }),
        json!({ "type": "turn.started" }),
        json!({ "type": "item.completed", "item": { "id": "item_0", "type": "agent_message", "text": text } }),
        json!({ "type": "turn.completed", "usage": { "input_tokens": input, "cached_input_tokens": 0, "output_tokens": output } }),
    ]
    .map(|line| line.to_string())
    .join("\n")
}
