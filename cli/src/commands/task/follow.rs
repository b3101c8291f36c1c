//! `--follow`: what the root agents of a loop print, beside the loop's story. It goes to stdout from a thread of its
//! own, so that a reader who does not keep up holds neither the loop nor its story.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use run_agent_core::RunId;
use run_agent_runner::tree::TaskName;
use run_agent_runner::wake::Wake;
use run_agent_runner::{TaskView, Tree};

use super::super::output::{Shown, Tail};
use crate::args::Global;
use crate::error::{Exit, Failure};
use crate::render;

/// Two forms on one stdout would be neither.
pub(super) fn check(global: &Global, follow: bool) -> Result<(), Failure> {
    if follow && global.json {
        return Err(Failure::usage(
            "--follow prints what the agents print, which is no JSON; leave out one of --follow and --json",
        ));
    }
    Ok(())
}

/// Prints one root run after the other.
#[derive(Debug)]
pub(super) struct Follower {
    roots: Sender<RunId>,
    thread: JoinHandle<()>,
}

impl Follower {
    pub(super) fn begin(tree: &Tree, name: &TaskName, shown: Shown) -> Result<Self, Failure> {
        let (tree, name) = (tree.clone(), name.clone());
        Self::with(move |given| {
            TaskView::open(&tree, &name)
                .map_err(Failure::from)
                .and_then(|mut view| print(&tree, &mut view, given, shown))
        })
    }

    /// `print` prints what those runs print that it is given.
    pub(super) fn with(
        print: impl FnOnce(&Receiver<RunId>) -> Result<(), Failure> + Send + 'static,
    ) -> Result<Self, Failure> {
        let (roots, given) = channel();
        let print = move || {
            let printed = print(&given);
            // A reader that went away wants no more; the loop goes on.
            if let Err(failure) = printed
                && failure.exit() != Exit::Done
            {
                render::say(&format!("cannot show what the agents print: {failure}"));
            }
        };
        let thread = std::thread::Builder::new()
            .name("follow".to_owned())
            .spawn(print)
            .map_err(|e| Failure::io("cannot follow the agents", &e))?;
        Ok(Self { roots, thread })
    }

    /// A root run is at work.
    pub(super) fn root(&self, run: &RunId) {
        // A thread that has ended has said why.
        let _ = self.roots.send(run.clone());
    }

    /// No further run comes. `wait`: until what is there is printed.
    pub(super) fn end(self, wait: bool) {
        drop(self.roots);
        if wait {
            let _ = self.thread.join();
        }
    }
}

fn print(tree: &Tree, view: &mut TaskView, roots: &Receiver<RunId>, shown: Shown) -> Result<(), Failure> {
    let mut last = None;
    for root in roots {
        // A run that is joined may be told twice.
        if last.as_ref() == Some(&root) {
            continue;
        }
        let paths = tree.run(&view.name, &root);
        let wake = Wake::new();
        wake.watch_stream(tree, &view.name);
        wake.watch_files(paths.folder(), &["agent-stdout.txt", "agent-stderr.txt"]);
        Tail::merged(tree, &paths, shown).follow(tree, view, &root, &wake)?;
        last = Some(root);
    }
    Ok(())
}
