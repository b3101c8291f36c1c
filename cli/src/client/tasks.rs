//! Tasks of the server's that are folded on here as their messages come. One stream of events says what is new; whatever
//! may have been missed on it, over a break or a restart, is read behind the last message that was folded in.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use run_agent_core::store::Page;
use run_agent_core::{Cursor, Entry, Message, MsgId, ProjectId, TaskId};
use run_agent_runner::tree::TaskName;
use serde::Deserialize;

use super::answer::Messages;
use super::events::{Events, Next};
use super::view::View;
use super::{Client, Place};
use crate::error::{Code, Exit, Failure};
use crate::folded::{Folded, News};

/// Who drives a loop without an active run is asked for so often.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// As many messages as the server gives at once.
const PAGE: usize = 5000;

pub(crate) struct Tasks<'a> {
    client: &'a Client,
    events: Events<'a>,
    tasks: Vec<One>,
    interrupted: bool,
}

struct One {
    folded: Folded,
    /// The last message that was folded in, and a place behind it.
    last: Option<MsgId>,
    next: Cursor,
    told: VecDeque<Told>,
    /// Events may have been missed.
    behind: bool,
    /// What was read and will be told, too.
    read: HashSet<MsgId>,
    no_driver: bool,
    asked: Instant,
}

/// What an event says of a task.
enum Told {
    Message(Box<Message>),
    Replaced,
    Deleted,
}

#[derive(Deserialize)]
struct Event {
    project_id: ProjectId,
    task_id: Option<TaskId>,
    message: Option<Box<Message>>,
    #[serde(default)]
    replaced: bool,
    #[serde(default)]
    deleted: bool,
}

impl One {
    fn new(name: TaskName, view: View) -> Self {
        let View { cursor: next, last, task, no_driver, .. } = view;
        let (told, read) = (VecDeque::new(), HashSet::new());
        let folded = Folded::new(name, *task);
        Self { folded, last, next, told, behind: true, read, no_driver, asked: Instant::now() }
    }

    fn fold(&mut self, message: Message) -> News {
        // Places of another machine: that they grow is all that matters here.
        let at = self.next;
        self.next = Cursor::new(at.get() + 1);
        self.last = Some(message.id.clone());
        self.folded.apply(Entry { at, next: self.next, message })
    }

    /// As the server sees it now.
    fn renew(&mut self, client: &Client, news: &mut Vec<News>) -> Result<(), Failure> {
        match client.view(&self.folded.name) {
            Ok(View { cursor, last, task, no_driver, .. }) => {
                (self.next, self.last, self.no_driver, self.asked) =
                    (cursor, last, no_driver, Instant::now());
                if *self.folded.task() != *task {
                    news.push(self.folded.replace(*task));
                }
                Ok(())
            }
            Err(failure) if failure.exit() == Exit::NotFound => {
                self.folded.gone = true;
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Reads what came since the last message.
    fn catch_up(&mut self, client: &Client, news: &mut Vec<News>) -> Result<(), Failure> {
        while let Some(last) = self.last.clone() {
            let place = Place::of_task(&self.folded.name, ["messages"]);
            let found = client.get::<Messages>(&place.with("since", &last).with("limit", PAGE));
            let found = match found {
                Ok(found) => found,
                // The message is not there any more, or the task is not.
                Err(failure) if failure.exit() == Exit::NotFound => return self.renew(client, news),
                Err(failure) => return Err(failure),
            };
            let has_more = found.has_more;
            let Page { entries, .. } = found.into_page();
            for entry in entries {
                self.read.insert(entry.message.id.clone());
                news.push(self.fold(entry.message));
            }
            if !has_more {
                return Ok(());
            }
        }
        self.renew(client, news)
    }
}

impl<'a> Tasks<'a> {
    pub(crate) fn open(client: &'a Client, names: Vec<TaskName>) -> Result<Self, Failure> {
        let mut tasks = Vec::new();
        for name in names {
            let view = client.view(&name)?;
            tasks.push(One::new(name, view));
        }
        let name = tasks.first().map(|one: &One| one.folded.name.clone());
        let one_project = name.filter(|name| tasks.iter().all(|one| one.folded.name.project == name.project));
        let only = one_project.as_ref().filter(|_| tasks.len() == 1);
        let place = Place::new(["v1", "events", "stream"])
            .with_some("project", one_project.as_ref().map(|name| &name.project))
            .with_some("task", only.map(|name| &name.task));
        Ok(Self { client, events: Events::new(client, place, None), tasks, interrupted: false })
    }

    pub(crate) fn count(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn task(&self, n: usize) -> &Folded {
        &self.tasks[n].folded
    }

    /// Its loop is open, and nobody drives it.
    pub(crate) fn is_orphaned(&self, n: usize) -> bool {
        let One { folded, no_driver, .. } = &self.tasks[n];
        *no_driver && folded.task().ralph.is_open() && folded.task().active().next().is_none()
    }

    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted
    }

    /// What came of a task.
    pub(crate) fn look(&mut self, n: usize) -> Result<Vec<News>, Failure> {
        let (client, one) = (self.client, &mut self.tasks[n]);
        let mut news = Vec::new();
        let looked = one.look(client, &mut news);
        match looked {
            Ok(()) => Ok(news),
            // The server went away in between: the stream of events waits for it.
            Err(failure) if failure.is(Code::Unreached) => {
                one.behind = true;
                Ok(news)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Sleeps until something may be new.
    pub(crate) fn sleep(&mut self, limit: Duration) -> Result<(), Failure> {
        let mut limit = limit;
        loop {
            match self.events.next(limit)? {
                Next::Opened => {}
                Next::Event(event) => {
                    // What stands in the queue already is taken with it.
                    limit = Duration::ZERO;
                    match event.name.as_str() {
                        "event" => self.tell(self.client.event(&event.data)?),
                        "reset" => self.tasks.iter_mut().for_each(|one| one.behind = true),
                        _ => {}
                    }
                }
                Next::TimeUp => return Ok(()),
                Next::Interrupted => {
                    self.interrupted = true;
                    return Ok(());
                }
            }
        }
    }

    fn tell(&mut self, event: Event) {
        let Event { project_id, task_id: Some(task_id), message, replaced, deleted } = event else { return };
        let is_it = |one: &&mut One| one.folded.name.project == project_id && one.folded.name.task == task_id;
        let Some(one) = self.tasks.iter_mut().find(is_it) else { return };
        one.told.extend(message.map(Told::Message));
        one.told.extend(replaced.then_some(Told::Replaced));
        one.told.extend(deleted.then_some(Told::Deleted));
    }
}

impl One {
    fn look(&mut self, client: &Client, news: &mut Vec<News>) -> Result<(), Failure> {
        if self.behind {
            self.catch_up(client, news)?;
            self.behind = false;
        }
        while let Some(told) = self.told.pop_front() {
            match told {
                Told::Message(message) if self.read.remove(&message.id) => {}
                Told::Message(message) => news.push(self.fold(*message)),
                Told::Replaced => self.renew(client, news)?,
                Told::Deleted => self.folded.gone = true,
            }
        }
        let task = self.folded.task();
        let may_be_orphaned = task.ralph.is_open() && task.active().next().is_none();
        if may_be_orphaned && self.asked.elapsed() > ASK_AGAIN {
            self.asked = Instant::now();
            self.no_driver = client.view(&self.folded.name)?.no_driver;
        }
        Ok(())
    }
}
