//! `demo`: a scripted swarm on the built-in shell agent, with real processes and the same code path as `task`.

use run_agent_core::ProjectId;
use run_agent_runner::TaskView;
use run_agent_runner::make::{self, NewTask};

use super::task::{Driving, Settings, run_loop};
use crate::args::{DemoArgs, Global};
use crate::context::Context;
use crate::error::Outcome;
use crate::render;

const PROMPT: &str = include_str!("demo.md");

pub(crate) fn run(global: &Global, _: &DemoArgs) -> Outcome {
    let quiet = Global { json: global.json, project: None, task: None, ..global.clone() };
    let context = Context::open_configured(&quiet)?;
    let cause = context.cause();
    let project = ProjectId::parse("demo")?;
    make::project(&context.tree, &project, None, &cause, "demo")?;
    let new = NewTask {
        project: &project,
        id: None,
        slug: "demo",
        prompt: PROMPT,
        depends_on: Vec::new(),
        thread_parent: None,
        source: "demo",
    };
    let (name, starting) = make::task(&context.tree, new, &cause)?;
    render::say(&format!(
        "demo: a root agent, three children in parallel, a crash, a question. Task {}\n",
        name.task
    ));
    let folder = context.tree.task(&name).folder().to_owned();
    let settings = Settings {
        agent: Some("shell".to_owned()),
        cwd: Some(folder.clone()),
        max_restarts: Some(3),
        timeout: None,
        verify: Vec::new(),
        fresh: false,
    };
    let exit =
        run_loop(&context, &name, &settings, Driving { starting: Some(starting), ..Driving::default() })?;
    if context.json {
        return Ok(exit);
    }
    let mut view = TaskView::open(&context.tree, &name)?;
    view.refresh()?;
    let mut out = String::from("\nwhat people and agents said on the bus:\n");
    let stream = context.tree.store.open(&name.key())?;
    for entry in stream.last(usize::MAX)?.entries {
        if !entry.message.content.kind.is_tool_own() {
            out.push_str(&format!("  {}\n", render::event_line(&entry.message)));
        }
    }
    let id = &name.task;
    let (program, place) = (program(), render::place());
    out.push_str(&format!(
        "\nfiles: {}\n  the bus      {}\n  the runs     {}\nlook at it again: {program}{place} status {id}\n                  {program}{place} bus read --task {id} --tail 100\n",
        folder.display(),
        context.tree.store.place(&name.key()).display(),
        context.tree.task(&name).runs().display(),
    ));
    render::out(&out)?;
    Ok(exit)
}

/// What calls this program from the reader's shell: its name when `PATH` leads to one, else its path (`cargo run` puts it on no `PATH`).
fn program() -> String {
    const NAME: &str = "run-agent";
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::current_exe() {
        Ok(own) if !std::env::split_paths(&path).any(|folder| folder.join(NAME).is_file()) => {
            render::quoted(&own)
        }
        _ => NAME.to_owned(),
    }
}
