//! `replay`: a task's story at the terminal, as the reducer's changes tell it, or the task as it stood at a moment.

mod bound;
mod words;

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use clap::Args;
use clap_complete::ArgValueCompleter as Complete;
use run_agent_core::follow::{Follow, From};
use run_agent_core::store::Damage;
use run_agent_core::world::{Change, Task};
use run_agent_core::{Cursor, Entry, Timestamp, World};
use run_agent_runner::tree::TaskName;
use run_agent_runner::wake::Wake;

use self::bound::Bound;
pub(super) use self::words::Words;
use super::completion::tasks;
use super::status::{self, Moment};
use crate::args::Global;
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render;

/// However long nothing happened, the story goes on after so long.
const GAP_MAX: Duration = Duration::from_secs(1);
/// How much faster than it was a story is told on a terminal.
const SPEED: f64 = 10.0;

#[derive(Debug, Args)]
#[command(
    after_help = "A moment is a message id or a time: RFC 3339, `2026-11-21 09:30` or `2026-11-21` (UTC), or a clock time \
        as the story shows it, 09:30:15.184, which is the first such moment of the story.\n\n\
        --json prints one object for each change, with the message that made it; with --at, the task as `status --json` \
        shows it.\n\nExample:\n  run-agent replay fix-login --at 09:30:15"
)]
pub(crate) struct ReplayArgs {
    /// The task [default: --task, the caller's, the folder around the working folder]
    #[arg(value_name = "TASK", add = Complete::new(tasks))]
    what: Option<String>,
    /// The task as `status` would have shown it then; a message counts as seen
    #[arg(long, value_name = "MOMENT", conflicts_with_all = ["speed", "from", "until"])]
    at: Option<String>,
    /// How many times as fast as it was, or `max` [default: 10 on a terminal, max elsewhere]; gaps last a second at most
    #[arg(long, value_name = "SPEED", value_parser = speed)]
    speed: Option<f64>,
    /// Begin with this message or moment
    #[arg(long, value_name = "MOMENT")]
    from: Option<String>,
    /// End with this message or moment
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,
}

/// `max` is a speed without end.
fn speed(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is not a speed; write a number above 0, or max");
    match text {
        "max" => Ok(f64::INFINITY),
        _ => text.parse().ok().filter(|n: &f64| *n > 0.0).ok_or_else(wrong),
    }
}

pub(crate) fn run(global: &Global, args: &ReplayArgs) -> Outcome {
    let context = Context::open(global)?;
    let name = match &args.what {
        Some(text) => context.task_named(text)?,
        None => context.required_task()?,
    };
    let stream = context.tree.store.open(&name.key())?;
    let bound = |text: &Option<String>| text.as_deref().map(|t| Bound::find(t, stream.as_ref())).transpose();
    let (at, from, until) = (bound(&args.at)?, bound(&args.from)?, bound(&args.until)?);
    // What is appended from now on is not the story that was asked for: `watch` shows it.
    let end = stream.end()?;
    let story = Story::open(&context, name, end)?;
    if let Some(at) = at {
        return story.picture(&context, &at);
    }
    let paced = io::stdout().is_terminal() && !context.json;
    let speed = args.speed.unwrap_or(if paced { SPEED } else { f64::INFINITY });
    story.tell(&context, from.as_ref(), until.as_ref(), speed)
}

/// A task's stream, folded entry by entry.
struct Story {
    name: TaskName,
    follow: Follow,
    end: Cursor,
    world: World,
    damage: Vec<Damage>,
    pending: VecDeque<Happening>,
    words: Words,
}

/// What stands in a stream, in order.
enum Happening {
    Entry(Box<Entry>),
    Damage(Damage),
}

impl Story {
    fn open(context: &Context, name: TaskName, end: Cursor) -> Result<Self, Failure> {
        let follow = Follow::open(context.tree.store.clone(), &name.key(), From::Start)?;
        let (world, damage, pending) = (World::new(), Vec::new(), VecDeque::new());
        Ok(Self { name, follow, end, world, damage, pending, words: Words::default() })
    }

    /// The next thing before the end; nothing is folded in yet.
    fn next(&mut self) -> Result<Option<Happening>, Failure> {
        while self.pending.is_empty() {
            if self.follow.cursor() >= self.end {
                return Ok(None);
            }
            let page = self.follow.ready()?;
            if page.is_empty() {
                return Ok(None);
            }
            let mut damage = page.damage.into_iter().peekable();
            for entry in page.entries.into_iter().filter(|entry| entry.at < self.end) {
                while let Some(damage) = damage.next_if(|damage| damage.at <= entry.at) {
                    self.pending.push_back(Happening::Damage(damage));
                }
                self.pending.push_back(Happening::Entry(Box::new(entry)));
            }
            self.pending.extend(damage.map(Happening::Damage));
        }
        Ok(self.pending.pop_front())
    }

    fn fold(&mut self, entry: &Entry) -> Vec<Change> {
        let key = self.name.key();
        let applied = self.world.apply(&key, entry.at, &entry.message);
        self.world.changes(&key, &entry.message, &applied)
    }

    /// The task at a moment, as `status` would have shown it then. What lies in files has no past: notes are not told.
    fn picture(mut self, context: &Context, at: &Bound) -> Outcome {
        let mut last = VecDeque::new();
        let mut now = at.time();
        while let Some(happening) = self.next()? {
            match happening {
                Happening::Damage(damage) => self.damage.push(damage),
                Happening::Entry(entry) if at.is_past(&entry) => break,
                Happening::Entry(entry) => {
                    self.fold(&entry);
                    now = now.or(at.is(&entry).then_some(entry.message.ts));
                    last.push_back(*entry);
                    if last.len() > status::MESSAGES {
                        last.pop_front();
                    }
                }
            }
        }
        let fresh = Task::default();
        let moment = Moment {
            name: &self.name,
            task: self.world.task(&self.name.project, &self.name.task).unwrap_or(&fresh),
            now: now.unwrap_or_else(Timestamp::now),
            last_messages: last.into_iter().map(|entry| entry.message).collect(),
            damage: status::in_words(&self.damage),
            notes: &[],
            // What processes did then, nobody knows any more.
            why: None,
            folder: status::folder(&context.tree, &self.name),
        };
        if context.json {
            let mut value = status::as_json(&moment);
            value["at"] = serde_json::json!(moment.now);
            render::json(&value)?;
        } else {
            render::out(&status::as_text(&moment))?;
        }
        Ok(Exit::Done)
    }

    fn tell(mut self, context: &Context, from: Option<&Bound>, until: Option<&Bound>, speed: f64) -> Outcome {
        let wake = Wake::new();
        wake.on_interrupt().map_err(|e| Failure::io("cannot listen for signals", &e))?;
        let mut before: Option<Timestamp> = None;
        while let Some(happening) = self.next()? {
            let entry = match happening {
                Happening::Damage(damage) => {
                    tell_damage(context, &damage)?;
                    continue;
                }
                Happening::Entry(entry) => entry,
            };
            if until.is_some_and(|until| until.is_past(&entry)) {
                break;
            }
            let changes = self.fold(&entry);
            let states: Vec<String> = changes.iter().filter_map(|change| self.words.of(change)).collect();
            if from.is_some_and(|from| from.is_before(&entry)) {
                continue;
            }
            let gap = before.map_or(Duration::ZERO, |before| gap(before, entry.message.ts, speed));
            if !pause(&wake, gap) {
                return Ok(Exit::Interrupted);
            }
            before = Some(entry.message.ts);
            if context.json {
                for change in &changes {
                    render::json(&change_json(&self.name, Some(&entry), change))?;
                }
                continue;
            }
            let states =
                if states.is_empty() { String::new() } else { format!("  => {}", states.join(", ")) };
            render::out(&format!("{}{states}\n", render::replay_line(&entry.message)))?;
        }
        Ok(Exit::Done)
    }
}

/// How long the story waits between two messages.
fn gap(before: Timestamp, now: Timestamp, speed: f64) -> Duration {
    let really = Duration::try_from(now.duration_since(before)).unwrap_or_default();
    // A gap that is nothing at the highest speed is nothing there, too.
    Duration::try_from_secs_f64(really.as_secs_f64() / speed).unwrap_or_default().min(GAP_MAX)
}

/// False when it was interrupted.
fn pause(wake: &Wake, gap: Duration) -> bool {
    let until = Instant::now() + gap;
    while !wake.interrupted() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        wake.sleep(left);
    }
    false
}

fn tell_damage(context: &Context, damage: &Damage) -> Result<(), Failure> {
    if context.json {
        let Damage { place, what, .. } = damage;
        return render::json(&serde_json::json!({ "change": "damage", "place": place, "what": what }));
    }
    render::say(&format!("warning: {}: {}; what stands around it is read", damage.place, damage.what));
    Ok(())
}

/// A change with where it came from, for programs.
pub(super) fn change_json(name: &TaskName, entry: Option<&Entry>, change: &Change) -> serde_json::Value {
    let mut value = serde_json::json!(change);
    if let Some(fields) = value.as_object_mut() {
        // It stands there under the name that tasks have everywhere.
        fields.remove("task");
        fields.get_mut("question").into_iter().for_each(status::name_the_run);
    }
    value["project_id"] = serde_json::json!(name.project);
    value["task_id"] = serde_json::json!(name.task);
    if let Some(entry) = entry {
        value["msg_id"] = serde_json::json!(entry.message.id);
        value["timestamp"] = serde_json::json!(entry.message.ts);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_as_long_as_they_were_but_for_speed_and_bound() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(gap(at(10), at(14), 10.0), Duration::from_millis(400));
        assert_eq!(gap(at(10), at(1000), 10.0), GAP_MAX);
        assert_eq!(gap(at(10), at(14), f64::INFINITY), Duration::ZERO);
        assert_eq!(gap(at(10), at(4), 1.0), Duration::ZERO, "a clock that was set back");
    }

    #[test]
    fn a_speed_is_a_number_or_max() {
        assert_eq!((speed("max"), speed("2.5")), (Ok(f64::INFINITY), Ok(2.5)));
        for wrong in ["0", "-1", "fast", "NaN"] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
    }
}
