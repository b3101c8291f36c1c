//! `bus edit`: a person mends a bus in an editor while others go on posting.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use run_agent_core::store::Options;
use run_agent_core::{Timestamp, text};
use run_agent_runner::files;
use run_agent_runner::wake::Wake;
use run_agent_store_fs::edit::{Checked, Edit, EditError};

use crate::args::Global;
use crate::context::{Context, variable};
use crate::error::{Exit, Failure, Outcome, chain};
use crate::render;
use crate::stores::Backend;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent bus edit --task fix-login")]
pub(crate) struct EditArgs {
    /// Take the result although entries are gone from it or cannot be read
    #[arg(long)]
    force: bool,
}

/// So many places are told one by one: whoever broke more than that sees why.
const FINDINGS_SHOWN: usize = 20;

pub(super) fn run(global: &Global, args: &EditArgs) -> Outcome {
    let context = Context::open(global)?;
    let key = context.stream()?;
    match context.backend {
        Backend::Fs => {}
        Backend::Segmented => {
            return Err(Failure::usage(
                "this root holds its events in the store `segmented`, whose files are no text to edit",
            )
            .hint("post a message that corrects the other one (`run-agent bus post --parent ID:supersedes …`), or move the events with `run-agent store migrate --to fs`"));
        }
    }
    let edit = Edit::begin(&context.tree.layout, &Options::default(), &key).map_err(of_edit)?;
    let copy = copy_file(&context)?;
    files::replace(&copy, edit.original(), false)
        .map_err(|e| Failure::io(format!("cannot write {}", copy.display()), &e))?;
    // Ctrl-C is the editor's.
    let wake = Wake::new();
    wake.on_interrupt().map_err(|e| Failure::io("cannot listen for signals", &e))?;
    let checked = loop {
        let ended = open_editor(&copy);
        let edited = read(&copy)?;
        if edited == edit.original() {
            let _ = std::fs::remove_file(&copy);
            ended?;
            return nothing_changed(&context);
        }
        // An editor that failed may have written half of what was meant.
        ended.map_err(|failure| failure.and(&kept(&copy)))?;
        let checked = edit.check(&edited);
        for finding in checked.findings.iter().take(FINDINGS_SHOWN) {
            render::say(&format!(
                "{}:{}: {}",
                copy.display(),
                finding.line,
                render::safe_line(&finding.what)
            ));
        }
        if let Some(more) = checked.findings.len().checked_sub(FINDINGS_SHOWN).filter(|more| *more > 0) {
            render::say(&format!("… and {more} more"));
        }
        if (checked.findings.is_empty() && checked.gone == 0) || args.force {
            break checked;
        }
        match ask(&copy, &checked)? {
            Answer::EditAgain => {}
            Answer::Take => break checked,
        }
    };
    put(&context, &edit, &checked, &copy)?;
    let _ = std::fs::remove_file(&copy);
    Ok(Exit::Done)
}

/// The copy as the editor left it. A link or a pipe in its place is nobody's edit of it.
fn read(copy: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: &io::Error| Failure::io(format!("cannot read {}", copy.display()), error);
    let meta = copy.symlink_metadata().map_err(|e| failed(&e))?;
    if !meta.is_file() {
        return Err(Failure::new(
            Exit::Failed,
            format!("{} is not a regular file any more; the bus is as it was", copy.display()),
        ));
    }
    std::fs::read(copy).map_err(|e| failed(&e))
}

fn nothing_changed(context: &Context) -> Outcome {
    if context.json {
        render::json(&serde_json::json!({
            "changed": false, "resealed": 0, "gone": 0, "findings": 0, "appended_meanwhile": 0,
        }))?;
    } else {
        render::say("nothing was changed");
    }
    Ok(Exit::Done)
}

fn put(context: &Context, edit: &Edit, checked: &Checked, copy: &Path) -> Result<(), Failure> {
    let appended = edit.finish(&checked.bytes).map_err(|error| of_edit(error).and(&kept(copy)))?;
    if context.json {
        return render::json(&serde_json::json!({
            "changed": true, "resealed": checked.resealed, "gone": checked.gone, "findings": checked.findings.len(), "appended_meanwhile": appended,
        }));
    }
    let kept = if appended > 0 {
        format!("; {appended} bytes that were posted meanwhile stand behind the edit")
    } else {
        String::new()
    };
    let gone = match checked.gone {
        0 => String::new(),
        gone => format!("; gone: {}", render::count(gone as u64, "message")),
    };
    render::say(&format!(
        "edited; changed and sealed again: {}{gone}{kept}",
        render::count(checked.resealed as u64, "message")
    ));
    Ok(())
}

fn of_edit(error: EditError) -> Failure {
    let exit = match &error {
        EditError::NotThere { .. } => Exit::NotFound,
        EditError::LockTimeout { .. } | EditError::Changed { .. } => Exit::Locked,
        EditError::Io { .. } => Exit::Failed,
    };
    Failure::new(exit, chain(&error))
}

/// The copy lies inside the root, so that nobody else reads it and an accident does not lose it.
fn copy_file(context: &Context) -> Result<PathBuf, Failure> {
    let own = context.tree.layout.root().join(run_agent_core::layout::OWN_FOLDER).join("edits");
    std::fs::create_dir_all(&own).map_err(|e| Failure::io(format!("cannot make {}", own.display()), &e))?;
    Ok(own.join(format!("{}-{}.md", text::stamp(Timestamp::now()), std::process::id())))
}

/// `VISUAL` and `EDITOR` are command lines, as other tools take them.
fn open_editor(copy: &Path) -> Result<(), Failure> {
    let editor = variable("VISUAL").or_else(|| variable("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(copy)
        .status()
        .map_err(|e| Failure::io(format!("cannot start the editor `{editor}`"), &e))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format!("the editor `{editor}` ended with {status}; the bus is as it was"),
    ))
}

fn kept(copy: &Path) -> String {
    format!("what was edited is kept in {}", copy.display())
}

enum Answer {
    EditAgain,
    Take,
}

fn ask(copy: &Path, checked: &Checked) -> Result<Answer, Failure> {
    let gone = (checked.gone > 0)
        .then(|| format!("{} would be gone", render::count(checked.gone as u64, "message")));
    let unread = (!checked.findings.is_empty())
        .then(|| format!("{} would not be read", render::count(checked.findings.len() as u64, "place")));
    let what = gone.into_iter().chain(unread).collect::<Vec<_>>().join(" and ");
    let kept = Failure::new(
        Exit::Failed,
        format!("{what}; the bus is as it was, and {} (--force takes such a result)", kept(copy)),
    );
    if !io::stdin().is_terminal() {
        return Err(kept);
    }
    render::say(&what);
    loop {
        let _ = write!(io::stderr(), "edit again (e), take it as it is (t), or give up (q)? ");
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line).map_err(|e| Failure::io("cannot read the answer", &e))?;
        match line.trim() {
            "e" | "" if read > 0 => return Ok(Answer::EditAgain),
            "t" => return Ok(Answer::Take),
            "q" => return Err(kept),
            _ if read == 0 => return Err(kept),
            _ => {}
        }
    }
}
