//! A task on another machine: its loop is started there, and its story told here. An interrupt ends the telling alone.

use std::sync::mpsc::Receiver;

use run_agent_core::{RunId, TaskId, Timestamp};
use run_agent_runner::tree::TaskName;
use run_agent_runner::wake::LOOK_AGAIN;
use serde_json::json;

use super::super::output::there::Lines;
use super::super::prompt;
use super::attach::{ended, say_how_to_come_back};
use super::{Shown, Teller, detach, finish, follow};
use crate::args::{self, Global, TaskArgs};
use crate::client::answer::Started;
use crate::client::tasks::Tasks;
use crate::client::{Client, Place};
use crate::error::{Exit, Failure, Outcome};
use crate::render;

pub(super) fn run(global: &Global, client: Client, args: &TaskArgs) -> Outcome {
    follow::check(global, args.follow)?;
    if args.update_prompt {
        return Err(Failure::usage(
            "--update-prompt has no meaning with --server: a prompt is replaced on the machine where it lies",
        ));
    }
    if args.attach {
        let name = client.required_task()?;
        return tell(global, client, args, name, None);
    }
    let started = start(&client, args)?;
    let name = TaskName { project: started.project_id, task: started.task_id };
    if args.detach {
        let driver = client.view(&name)?.task.ralph.driver.map(|driver| driver.driver_pid);
        return detach::started(global.json, &name, driver);
    }
    tell(global, client, args, name, started.run_id)
}

fn start(client: &Client, args: &TaskArgs) -> Result<Started, Failure> {
    let timeout = args::given_limit(args.timeout)?.map(|limit| format!("{}ms", limit.as_millis()));
    let mut config = json!({ "timeout": timeout, "max_restarts": args.max_restarts, "verify": args.verify });
    let given = prompt::read(&args.prompt, false)?;
    let new = match client.task() {
        // Several tasks of that name are no reason to make one more.
        Err(failure) if failure.exit() != Exit::NotFound => return Err(failure),
        Ok(Some(name)) if is_there(client, &name)? => {
            if !args.depends_on.is_empty() || args.thread_parent.is_some() {
                return Err(Failure::usage(format!(
                    "--depends-on and --thread-parent are of a new task, and {name} is there already"
                )));
            }
            config["cwd"] = json!(args.cwd);
            json!({
                "project_id": name.project, "task_id": name.task, "attach_mode": "attach",
                "agent_type": args.agent, "prompt": given, "config": config,
            })
        }
        found => {
            let project = client.project_flag().ok_or_else(|| match found {
                Err(failure) => failure,
                Ok(_) => Failure::usage("which project? name it with --project"),
            })?;
            let prompt = match given {
                Some(text) => Some(text),
                None => prompt::read(&args.prompt, true)?,
            };
            let prompt = prompt.unwrap_or_default();
            if prompt.trim().is_empty() {
                return Err(run_agent_runner::make::MakeError::EmptyPrompt.into());
            }
            let task = match client.task_flag() {
                Some(named) => Some(new_id(named)?),
                None => None,
            };
            let mut depends_on = Vec::new();
            for named in &args.depends_on {
                depends_on.push(client.task_named(named)?.task);
            }
            let parent = args.thread_parent.as_ref().map(|id| json!({ "message_id": id }));
            json!({
                "project_id": project, "task_id": task, "attach_mode": "create", "agent_type": args.agent,
                "prompt": prompt, "config": config, "project_root": args.cwd, "depends_on": depends_on,
                "thread_parent": parent,
            })
        }
    };
    client.post(&Place::new(["v1", "tasks"]), &new)
}

/// A full id is taken as it is, and need not be there.
fn is_there(client: &Client, name: &TaskName) -> Result<bool, Failure> {
    let asked = client.get::<serde_json::Value>(&Place::of_task(name, []));
    match asked {
        Ok(_) => Ok(true),
        Err(failure) if failure.exit() == Exit::NotFound => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// A whole id, or one that is made of a plain word.
fn new_id(named: &str) -> Result<TaskId, Failure> {
    match TaskId::parse(named) {
        Ok(id) => Ok(id),
        Err(error) if named.starts_with("task-") => Err(error.into()),
        Err(_) => Ok(TaskId::new(Timestamp::now(), named, None)?),
    }
}

/// Tells the story until the loop ends. `first`: a run that was at work when it began.
fn tell(global: &Global, client: Client, args: &TaskArgs, name: TaskName, first: Option<RunId>) -> Outcome {
    client.on_interrupt()?;
    let _blocked = client.blocks();
    let flags = client.flags_for(&name);
    let mut tasks = Tasks::open(&client, vec![name.clone()])?;
    let task = tasks.task(0).task();
    if let Some(end) = ended(task).filter(|_| args.attach) {
        render::say(&format!("the loop of {name} has ended; there is nothing to attach to"));
        return finish(global.json, &flags, &name, task, Some(&end));
    }
    if args.attach && !task.ralph.is_open() {
        return Err(Failure::not_found(format!("nothing drives {name}: it has no loop"))
            .hint(format!("drive it with `run-agent task{flags}`")));
    }
    if args.attach {
        render::say(&format!("attached to {name}; Ctrl-C leaves it as it is"));
    }
    let mut teller = Teller::new(format!("attached to {name}"), None);
    if let Some(shown) = Shown::followed(args.follow, args.raw) {
        // What agents print is printed beside their story, over a connection of its own.
        let beside = Client::of(global, &args.server)?;
        let of = name.clone();
        teller.follower = Some(follow::Follower::with(move |roots| match beside {
            Some(client) => print(&client, &of, roots, shown),
            None => Ok(()),
        })?);
    }
    if let Some(root) = task.active_root().cloned().or(first) {
        teller.joined(&root);
    }
    let end = loop {
        for news in tasks.look(0)? {
            if let Some(entry) = news.entry {
                teller.story(&[entry]);
            }
        }
        if let Some(end) = ended(tasks.task(0).task()) {
            break Some(end);
        }
        if tasks.task(0).gone {
            return Err(Failure::not_found(format!("task {name} was deleted")));
        }
        if tasks.interrupted() {
            break None;
        }
        if tasks.is_orphaned(0) {
            return Err(Failure::new(Exit::Failed, format!("the driver of {name} is gone"))
                .hint(format!("go on with `run-agent task{flags}`")));
        }
        tasks.sleep(LOOK_AGAIN)?;
    };
    teller.end(end.is_some());
    match end {
        Some(end) => finish(global.json, &flags, &name, tasks.task(0).task(), Some(&end)),
        None => {
            say_how_to_come_back(&flags);
            Ok(Exit::Interrupted)
        }
    }
}

/// Prints one root run after the other.
fn print(client: &Client, name: &TaskName, roots: &Receiver<RunId>, shown: Shown) -> Result<(), Failure> {
    let mut last = None;
    for root in roots {
        // A run that is joined may be told twice.
        if last.as_ref() != Some(&root) {
            let _ = Lines::new(client, name, &root, shown).follow()?;
            last = Some(root);
        }
    }
    Ok(())
}
