//! `gc`: what ended long enough ago is deleted, and what others left behind is removed.

use std::time::Duration;

use clap::Args;
use run_agent_core::{Cause, Timestamp};
use run_agent_runner::TaskView;
use run_agent_runner::delete::Why;
use run_agent_runner::gc::{Act, Job, Rules, Tell, What, gc};
use serde::Serialize;

use crate::args::{self, Global};
use crate::config::units;
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome, chain};
use crate::render;

#[derive(Debug, Args)]
#[command(
    after_help = "What is active is never touched: runs that have not ended and those that they hang on, open loops, tasks \
        that another one waits for. The newest run of a task stays. Messages go only together with their whole task.\n\n\
        Without --older-than the age is retention.older_than of the config; retention.max_runs_per_task counts in any case.\n\n\
        Example:\n  run-agent gc --older-than 7d --delete-done-tasks --dry-run"
)]
pub(crate) struct GcArgs {
    /// Runs that ended so long ago, such as 7d or 12h [default: retention.older_than]
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<Duration>,
    /// Leave failed runs, and tasks that have some
    #[arg(long)]
    keep_failed: bool,
    /// Delete whole tasks that are completed and in which nothing happened for that long
    #[arg(long)]
    delete_done_tasks: bool,
    /// Begin a new file for each bus of more than SIZE bytes, such as 1MiB
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, num_args = 0..=1, require_equals = true, default_missing_value = "10MiB")]
    rotate_bus: Option<u64>,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
    /// Take an age below one hour, and runs that ended just now
    #[arg(long)]
    force: bool,
}

/// A bare number would be seconds here as everywhere, and days were meant: it is refused.
fn age(text: &str) -> Result<Duration, String> {
    if text.chars().all(|c| c.is_ascii_digit()) && !text.is_empty() {
        return Err(format!("`{}` has no unit; write it as 7d, 12h or 90m", render::value(text)));
    }
    args::duration(text)
}

/// What is younger than this may be what somebody looks at right now.
const YOUNG: Duration = Duration::from_secs(3600);

/// Who waited for a run's end has read it by then.
const JUST_ENDED: Duration = Duration::from_secs(60);

pub(crate) fn run(global: &Global, args: &GcArgs) -> Outcome {
    let context = Context::open_to_steer(global)?;
    let retention = context.config()?.retention();
    let older_than = args.older_than.or(retention.older_than);
    check(args, older_than)?;
    let only = match context.task_flag() {
        Some(_) => Some(context.required_task()?),
        None => None,
    };
    let project = context.named_project()?;
    let age = older_than.map(units::duration_text).unwrap_or_default();
    let said = match args.older_than {
        Some(_) => format!("older than {age}"),
        None => format!("older than {age} (retention.older_than)"),
    };
    let job = Job {
        rules: Rules {
            older_than,
            max_runs: retention.max_runs,
            // What --force would take is shown without it.
            young: if args.force || older_than.is_some_and(|age| age < JUST_ENDED) {
                Duration::ZERO
            } else {
                JUST_ENDED
            },
            keep_failed: args.keep_failed,
            done_tasks: args.delete_done_tasks,
        },
        rotate_above: args.rotate_bus,
        dry_run: args.dry_run,
        why: Why { by: context.by(), reason: String::new(), cause: context.cause() },
        said: &said,
        now: Timestamp::now(),
    };
    let mut seen = Seen { json: context.json, ..Seen::default() };
    let progress = render::progress("tidying up");
    let root = context.tree.layout.root();
    gc(&context.tree, only.as_ref(), project.as_ref(), &job, &mut |tell| seen.take(&tell))
        .map_err(|e| Failure::io(format!("cannot read {}", root.display()), &e))?;
    drop(progress);
    if let Some(failure) = seen.unshown {
        return Err(failure);
    }
    finish(&seen, &job)
}

fn check(args: &GcArgs, older_than: Option<Duration>) -> Result<(), Failure> {
    if args.delete_done_tasks && older_than.is_none() {
        return Err(Failure::usage(
            "how old must a task be to be deleted? say it with --older-than 30d, or set retention.older_than",
        ));
    }
    if let Some(age) = older_than.filter(|age| *age < YOUNG && !args.force && !args.dry_run) {
        let span = units::duration_text(age);
        return Err(Failure::usage(format!(
            "an age of {span} takes runs that somebody may be looking at; see what it would be with --dry-run, and if it is meant add --force"
        )));
    }
    Ok(())
}

/// At the end of a loop: `retention.max_runs_per_task` holds without anybody calling `gc`. What goes wrong is told and
/// costs the loop nothing.
pub(crate) fn keep_newest(context: &Context, view: &mut TaskView) {
    let Some(max_runs) = context.config().ok().and_then(|config| config.retention().max_runs) else { return };
    let reason = "more than retention.max_runs_per_task".to_owned();
    let cause = Cause::Limit("retention.max_runs_per_task".to_owned());
    let why = Why { by: context.by(), reason, cause };
    if let Err(error) = run_agent_runner::gc::keep_newest(&context.tree, view, max_runs, &why) {
        render::say(&format!("warning: {}", render::safe_line(&chain(&error))));
    }
}

/// What was told so far.
#[derive(Debug, Default)]
struct Seen {
    json: bool,
    acts: Vec<Act>,
    troubles: Vec<(String, String)>,
    /// stdout could not be written.
    unshown: Option<Failure>,
}

#[derive(Serialize)]
struct Line<'a> {
    what: &'a str,
    place: &'a str,
    bytes: u64,
    why: &'a str,
}

impl Seen {
    fn take(&mut self, tell: &Tell<'_>) {
        match tell {
            Tell::Act(act) => {
                if !self.json && self.unshown.is_none() {
                    let Act { what, place, bytes, why } = act;
                    let line = format!("{:<9} {place}  {}  {why}\n", what.as_str(), size(*bytes));
                    self.unshown = render::out(&line).err();
                }
                self.acts.push((*act).clone());
            }
            Tell::Trouble { place, what } => {
                render::say(&format!("warning: {}: {}", render::safe_line(place), render::safe_line(what)));
                self.troubles.push((place.clone(), what.clone()));
            }
        }
    }

    fn count(&self, what: What) -> u64 {
        self.acts.iter().filter(|act| act.what == what).count() as u64
    }

    /// Rotation frees nothing.
    fn freed(&self) -> u64 {
        self.acts.iter().filter(|act| act.what != What::Rotation).map(|act| act.bytes).sum()
    }
}

const ALL: [What; 5] = [What::Task, What::Run, What::Leftover, What::Cache, What::Rotation];

fn finish(seen: &Seen, job: &Job<'_>) -> Outcome {
    let exit = if seen.troubles.is_empty() { Exit::Done } else { Exit::Failed };
    if seen.json {
        let lines: Vec<Line<'_>> = seen
            .acts
            .iter()
            .map(|act| Line { what: act.what.as_str(), place: &act.place, bytes: act.bytes, why: &act.why })
            .collect();
        let counts: serde_json::Map<String, serde_json::Value> =
            ALL.iter().map(|what| (what.as_str().to_owned(), seen.count(*what).into())).collect();
        let troubles: Vec<_> = seen
            .troubles
            .iter()
            .map(|(place, what)| serde_json::json!({ "place": place, "what": what }))
            .collect();
        render::json(&serde_json::json!({
            "dry_run": job.dry_run, "freed_bytes": seen.freed(), "counts": counts, "items": lines, "troubles": troubles,
        }))?;
        return Ok(exit);
    }
    if seen.acts.is_empty() {
        let off = job.rules.older_than.is_none() && job.rules.max_runs.is_none();
        let hint = if off {
            "; name an age with --older-than 7d, or set one in the config's retention block"
        } else {
            ""
        };
        render::say(&format!("there is nothing to tidy up{hint}"));
        return Ok(exit);
    }
    let parts: Vec<String> = ALL
        .iter()
        .filter(|what| seen.count(**what) > 0)
        .map(|what| render::count(seen.count(*what), what.as_str()))
        .collect();
    let verb = if job.dry_run { "would free" } else { "freed" };
    render::out(&format!("{verb} {}: {}\n", size(seen.freed()), parts.join(", ")))?;
    Ok(exit)
}

/// `17 B`, `1.2 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        None => format!("{bytes} B"),
        Some((name, unit)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let said = [0, 1023, 1024, 1536, 10 << 20, u64::MAX].map(size);
        assert_eq!(said, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10.0 MiB", "16777215.9 TiB"]);
    }

    #[test]
    fn an_age_has_a_unit() {
        assert_eq!(age("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(age("0s"), Ok(Duration::ZERO));
        assert!(age("7").unwrap_err().contains("no unit"));
        assert!(age("").is_err() && age("long").is_err());
    }
}
