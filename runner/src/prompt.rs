//! The preamble of `prompt.md`: where the agent is, and what it can do here. Every command in it works as printed
//! (a test runs each of them), and none uses command substitution, which some agents' shells refuse.

use std::fmt::Write as _;

use run_agent_core::layout::{RunPaths, TaskPaths};
use run_agent_core::message::Kind;
use run_agent_core::plan::Start;
use run_agent_core::{RunId, Timestamp};

use crate::history::Asked;
use crate::tree::TaskName;

/// What the preamble says.
#[derive(Debug)]
pub struct Preamble<'a> {
    pub name: &'a TaskName,
    pub task: &'a TaskPaths,
    pub run_id: &'a RunId,
    pub run: &'a RunPaths,
    pub root: &'a std::path::Path,
    pub bus: &'a std::path::Path,
    pub agent: &'a str,
    /// It runs commands and changes files; else it only answers.
    pub has_hands: bool,
    pub parent: Option<&'a RunId>,
    /// How many runs stand above this one.
    pub depth: u32,
    /// How many levels of children are left below this run.
    pub depth_left: u32,
    pub now: Timestamp,
    /// Why the loop starts this run; `None` for a job.
    pub start: Option<&'a Start>,
    pub attempt: Option<u32>,
    /// Children of an earlier root run that still run.
    pub running_children: &'a [RunId],
    /// What the root run before asked, with the answers.
    pub asked: &'a [Asked],
}

/// What the agent is given, whole.
#[must_use]
pub fn prompt(preamble: &Preamble<'_>, prompt: &str) -> String {
    let mut out = String::with_capacity(prompt.len() + 4096);
    if preamble.has_hands {
        where_you_are(&mut out, preamble);
        how_to_work(&mut out, preamble);
        what_happened_before(&mut out, preamble);
    } else {
        // What it cannot do would only cost it tokens, and be searched for by one that searches for its prompt.
        let _ = writeln!(
            out,
            "You are an agent started by run-agent. It is {} (UTC). Your answer is kept as it is; you can run no command and read no file.",
            preamble.now
        );
    }
    out.push_str("\n---\n\n");
    if preamble.attempt.is_some_and(|n| n > 1) {
        out.push_str("Continue working on the following:\n\n");
    }
    out.push_str(prompt);
    if !prompt.ends_with('\n') {
        out.push('\n');
    }
    out
}

fn where_you_are(out: &mut String, p: &Preamble<'_>) {
    let (task, run) = (p.task.folder().display(), p.run.folder().display());
    let parent = p.parent.map(|id| format!("JRUN_PARENT_ID={id}\n")).unwrap_or_default();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "You are an agent started by run-agent. It is {} (UTC).\n\n\
         JRUN_PROJECT_ID={}\nJRUN_TASK_ID={}\nJRUN_ID={}\n{parent}JRUN_DEPTH={}\nJRUN_ROOT={}\nJRUN_RUNS_DIR={}\n\
         JRUN_TASK_FOLDER={task}\nJRUN_RUN_FOLDER={run}\nJRUN_MESSAGE_BUS={}\n\
         TASK_FOLDER={task}\nRUN_FOLDER={run}\n\n\
         The run folder is for prompts, outputs and temporary files of this run alone.\n\
         Write your final answer to {}",
        p.now,
        p.name.project,
        p.name.task,
        p.run_id,
        p.depth,
        p.root.display(),
        p.task.runs().display(),
        p.bus.display(),
        p.run.output().display(),
    );
}

fn how_to_work(out: &mut String, p: &Preamble<'_>) {
    let _ = writeln!(
        out,
        "\nBefore you begin, read {state} (if it is there) and the message bus:\n\
         \x20 run-agent bus read --tail 20\n\
         Keep TASK_STATE.md short and current: where the work stands, for the agent that comes after you.\n\n\
         Tell what you find and do on the bus, with these commands and in no other way:\n\
         \x20 run-agent bus post --type PROGRESS --body \"what was done\"\n\
         \x20 run-agent bus post --type FACT --body \"what others should know\"\n\
         Message types: {types}, or an upper-case word of your own.\n\n\
         Ask when you cannot go on without an answer. If there is none after the wait, the command ends with 124 and prints how to wait on:\n\
         \x20 run-agent ask \"your question\" --wait 90s",
        state = p.task.state().display(),
        types = Kind::COMMON.join(" "),
    );
    if p.depth_left > 0 {
        let _ = writeln!(
            out,
            "\nDelegate what is too large for you or lies outside your folder: one module or folder for each child agent. \
             Children may run in parallel; start all of them, then wait:\n\
             \x20 run-agent job --detach --agent {agent} --prompt \"what the child is to do\"\n\
             It prints the child's run id (RUN_ID below). Wait until the answer is no longer \"still running\" (exit code 124):\n\
             \x20 run-agent wait RUN_ID --wait 90s\n\
             \x20 run-agent output RUN_ID\n\
             Levels of children that are allowed below you: {}",
            p.depth_left,
            agent = p.agent,
        );
    } else {
        out.push_str("\nYou may not start child agents: the delegation depth is used up.\n");
    }
    let _ = writeln!(
        out,
        "\nDo one scoped task and exit when it is done. Commit only the files that you changed."
    );
    if p.attempt.is_some() {
        let _ = writeln!(
            out,
            "You are the root agent of this task: you are started again until the task is done. When the whole task is complete, and only then:\n\
             \x20 run-agent done --message \"what was achieved\"\n\
             (or create the file {})",
            p.task.done().display()
        );
    }
}

fn what_happened_before(out: &mut String, p: &Preamble<'_>) {
    match p.start {
        None | Some(Start::First) => {}
        Some(Start::Again { why }) => {
            let _ = writeln!(out, "\nThis is attempt {}. Before it: {why}.", p.attempt.unwrap_or(1));
        }
        Some(Start::Resumed) => {
            let _ = writeln!(
                out,
                "\nThis is attempt {}. A person took the task up again.",
                p.attempt.unwrap_or(1)
            );
        }
        Some(Start::Rejected { command, exit_code, output }) => {
            let _ = writeln!(
                out,
                "\nThis is attempt {}. DONE was rejected: the check `{command}` ended with {exit_code}. \
                 Mend what it found, and mark the task done again when the check succeeds. The end of its output:\n",
                p.attempt.unwrap_or(1)
            );
            out.push_str(&indented(output));
        }
        Some(Start::CatchUp) => {
            let _ = writeln!(
                out,
                "\nThe task is marked DONE, but child agents ended or posted after that. Read what they left on the bus, \
                 take it into the result, and exit. DONE stays in place; if the work is not complete after all, remove it:\n\
                 \x20 rm \"$JRUN_TASK_FOLDER/DONE\""
            );
        }
    }
    for Asked { question, answer } in p.asked {
        let answer = answer.as_deref().unwrap_or("(no answer came in time)");
        let _ = writeln!(
            out,
            "\nThe run before you asked:\n{}The answer:\n{}",
            indented(question),
            indented(answer).trim_end_matches('\n')
        );
    }
    if !p.running_children.is_empty() {
        let ids: Vec<&str> = p.running_children.iter().map(RunId::as_str).collect();
        let _ = writeln!(out, "\nChild runs of an earlier attempt that still run: {}", ids.join(" "));
    }
}

/// Somebody else's text, told apart from ours.
fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("    {line}\n")).collect()
}
