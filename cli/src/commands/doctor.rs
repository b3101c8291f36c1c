//! `doctor`: what of a root disagrees with itself, and with `--repair` mending it.

use clap::Args;
use run_agent_runner::doctor::{self, Finding, Found, Of, Report, State, WayOut};

use crate::args::Global;
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render::{self, Hue, Paint};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 healthy, or all was mended; 1 something is left. On a healthy root nothing is changed, with \
        --repair or without. Nothing is started, and nothing that can be read is lost.\n\n\
        --project and --task narrow it down.\n\nExample:\n  run-agent doctor --repair"
)]
pub(crate) struct DoctorArgs {
    /// Mend what can be mended without losing anything
    #[arg(long)]
    repair: bool,
}

pub(crate) fn run(global: &Global, args: &DoctorArgs) -> Outcome {
    let (context, trouble) = Context::examine(global)?;
    context.caller()?;
    let of = of(&context)?;
    let mut report = Report::default();
    if of == Of::Root {
        for finding in trouble.into_iter().chain(config(&context)) {
            let state = if args.repair { mend(global, &finding) } else { State::Left };
            report.found.push(Found { finding, state });
        }
    }
    let by = context.by();
    let progress = render::progress("looking at the root");
    let mut count = 0_u64;
    let looked = doctor::doctor(&context.tree, &of, args.repair.then_some(by.as_str()), &mut |key| {
        count += 1;
        progress.set(format!("looking at {key} (stream {count})"));
    });
    drop(progress);
    let root = context.tree.layout.root();
    let looked = looked.map_err(|e| Failure::io(format!("cannot read {}", root.display()), &e))?;
    report.streams = looked.streams;
    report.found.extend(looked.found);
    if context.json {
        json(&context, &report)?;
    } else {
        show(&report, args.repair)?;
    }
    Ok(if report.left() == 0 { Exit::Done } else { Exit::Failed })
}

/// What the flags name, and nothing that the surroundings suggest: a check of the root is meant to be one.
fn of(context: &Context) -> Result<Of, Failure> {
    if context.task_flag().is_some() {
        return Ok(Of::Task(context.required_task()?));
    }
    Ok(context.named_project()?.map_or(Of::Root, Of::Project))
}

fn config(context: &Context) -> Option<Finding> {
    let failure = context.config().err()?;
    let path = context.config_path();
    Some(Finding::ConfigBroken { path, why: failure.line() })
}

/// Of the two findings that are not the runner's, one can be mended.
fn mend(global: &Global, finding: &Finding) -> State {
    match finding.way_out() {
        WayOut::Repair(_) => match Context::open(global) {
            Ok(_) => State::Mended(String::new()),
            Err(failure) => State::Failed(failure.line()),
        },
        WayOut::Person(_) | WayOut::Note(_) => State::Left,
    }
}

fn json(context: &Context, report: &Report) -> Result<(), Failure> {
    let item = |found: &Found| {
        let finding = &found.finding;
        let (way_out, how) = match finding.way_out() {
            WayOut::Repair(how) => ("repair", how.to_owned()),
            WayOut::Person(how) => ("person", how),
            WayOut::Note(how) => ("note", how.to_owned()),
        };
        let (mended, said) = match &found.state {
            State::Left => (false, None),
            State::Mended(said) => (true, Some(said).filter(|said| !said.is_empty())),
            State::Failed(error) => (false, Some(error)),
        };
        serde_json::json!({
            "finding": finding.name(), "place": finding.place(), "what": finding.what(), "way_out": way_out,
            "how": how, "mended": mended, "said": said,
        })
    };
    let (notes, findings): (Vec<&Found>, Vec<&Found>) =
        report.found.iter().partition(|found| found.finding.is_note());
    let items = |found: Vec<&Found>| found.into_iter().map(item).collect::<Vec<_>>();
    render::json(&serde_json::json!({
        "root": context.tree.layout.root(), "streams": report.streams, "left": report.left(),
        "findings": items(findings), "notes": items(notes),
    }))
}

fn show(report: &Report, repair: bool) -> Result<(), Failure> {
    let paint = Paint::stdout();
    let mut out = String::new();
    for Found { finding, state } in &report.found {
        let (hue, word) = match (state, finding.way_out()) {
            (State::Mended(_), _) => (Hue::Good, "mended"),
            (_, WayOut::Note(_)) => (Hue::Quiet, "note"),
            (State::Failed(_), _) => (Hue::Bad, "failed"),
            (State::Left, _) => (Hue::Bad, "found"),
        };
        let line = |text: &str| render::safe_line(text);
        out.push_str(&format!(
            "{} {} {}\n    {}\n",
            paint.hue(hue, &format!("{word:<6}")),
            finding.name(),
            line(&finding.place()),
            line(&finding.what())
        ));
        let more = match (state, finding.way_out()) {
            (State::Mended(said), WayOut::Repair(how)) => {
                if said.is_empty() {
                    how.to_owned()
                } else {
                    said.clone()
                }
            }
            (State::Mended(said), WayOut::Person(_) | WayOut::Note(_)) => said.clone(),
            (State::Failed(error), _) => format!("could not be mended: {error}"),
            (State::Left, WayOut::Repair(how)) if repair => format!("--repair {how}; that was not enough"),
            (State::Left, WayOut::Repair(how)) => format!("--repair {how}"),
            (State::Left, WayOut::Person(how)) => how,
            (State::Left, WayOut::Note(how)) => how.to_owned(),
        };
        if !more.is_empty() {
            out.push_str(&format!("    {} {}\n", paint.hue(Hue::Quiet, "->"), line(&more)));
        }
    }
    out.push_str(&summary(report, repair));
    render::out(&out)
}

fn summary(report: &Report, repair: bool) -> String {
    let count = |n: usize, what: &str| render::count(n as u64, what);
    let mended = report.found.iter().filter(|found| matches!(found.state, State::Mended(_))).count();
    let left = report.left();
    let mendable =
        |found: &&Found| found.state == State::Left && matches!(found.finding.way_out(), WayOut::Repair(_));
    let streams = render::count(report.streams, "stream");
    let said = match (left, mended) {
        (0, 0) => "healthy".to_owned(),
        (0, mended) => format!("{} mended, nothing is left", count(mended, "finding")),
        (left, 0) => {
            // What a repair has just left is a person's.
            let by_repair = if repair { 0 } else { report.found.iter().filter(mendable).count() };
            let rest = left - by_repair;
            let hint = if by_repair > 0 {
                format!(", {by_repair} of them for {}", render::command("doctor --repair"))
            } else {
                String::new()
            };
            let person = if rest > 0 { format!(", {rest} for a person") } else { String::new() };
            format!("{}{hint}{person}", count(left, "finding"))
        }
        (left, mended) => format!("{} mended, {left} left", count(mended, "finding")),
    };
    format!("{streams}: {said}\n")
}
