//! `config`: make the configuration, show what is in force and why, say which file it is, check it, describe it.
//!
//! None of these opens the root's store: a configuration must be mended with them whatever is wrong with it.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use run_agent_core::layout::Layout;
use serde_json::json;

use crate::args::{self, Global, Verb};
use crate::config::locate::{self, Located, Why};
use crate::config::problem::Source;
use crate::config::value::Value;
use crate::config::{self, Config, Form, json_schema, refresh, stub};
use crate::context::{Context, variable};
use crate::error::{Exit, Failure, Outcome};
use crate::store_file::{Seen, create_new};
use crate::{render, root};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent config show")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Write a configuration, or add the settings that one lacks
    Init(Verb<InitArgs>),
    /// Every setting in force, and where it comes from
    Show(Verb<ShowArgs>),
    /// Which file is the configuration, and why
    Path(Verb<PathArgs>),
    /// Say all that is wrong in the configuration; exit 2 if anything is
    Validate(Verb<ValidateArgs>),
    /// The settings as JSON Schema, for editors
    Schema(Verb<SchemaArgs>),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent config init")]
struct InitArgs {}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent config show --json")]
struct ShowArgs {}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent config path")]
struct PathArgs {}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent config schema > config.schema.json")]
struct SchemaArgs {}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent config validate new.hcl")]
struct ValidateArgs {
    /// The file [default: the configuration in force]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(crate) fn run(global: &Global, args: &ConfigArgs) -> Outcome {
    match &args.command {
        ConfigCommand::Init(_) => init(global),
        ConfigCommand::Show(_) => show(global),
        ConfigCommand::Path(_) => path(global),
        ConfigCommand::Validate(args) => validate(global, args),
        ConfigCommand::Schema(_) => {
            let schema = serde_json::to_string_pretty(&json_schema::json_schema())
                .map_err(|e| Failure::new(Exit::Failed, format!("cannot write JSON: {e}")))?;
            render::out(&format!("{schema}\n"))?;
            Ok(Exit::Done)
        }
    }
}

/// The file in force, else the one that would be: whether it is there is told too.
fn locate(global: &Global) -> Result<(Located, bool), Failure> {
    let named = locate::named(global)?;
    let located = match named.clone() {
        Some(named) => Some(named),
        None => locate::home()?,
    };
    // Only without these does the root matter.
    let located = match located {
        Some(located) => located,
        None => {
            let (root, _) = root::choose(global, None)?;
            let fresh = Located { path: Layout::new(root.clone()).config_file(), why: Why::Root };
            locate::find(None, &root)?.unwrap_or(fresh)
        }
    };
    let there = located.path.exists();
    Ok((located, there))
}

fn path(global: &Global) -> Outcome {
    let (Located { path, why }, there) = locate(global)?;
    if global.json {
        render::json(&json!({ "path": path.to_string_lossy(), "why": why.text(), "exists": there }))?;
    } else {
        let note = if there {
            String::new()
        } else {
            format!("; it is not there yet, {} writes it", render::command("config init"))
        };
        render::say(&format!("{}{note}", why.text()));
        render::out(&format!("{}\n", path.display()))?;
    }
    Ok(Exit::Done)
}

fn init(global: &Global) -> Outcome {
    let (located, there) = locate(global)?;
    let path = located.path.clone();
    let in_root = located.why == Why::Root;
    let done = if there { add(located)? } else { create(&path)? };
    if in_root {
        // A root with a configuration of its own is one from now on.
        Context::open_or_make(&Global { project: None, task: None, ..global.clone() })?;
    }
    if global.json {
        render::json(&json!({ "path": path.to_string_lossy(), "done": done }))?;
    } else {
        let text = match done {
            "created" => "written, with every setting as a comment",
            "refreshed" => "brought up to date; no line of yours was changed",
            _ => "has every setting already",
        };
        render::out(&format!("{} {text}\n", path.display()))?;
    }
    Ok(Exit::Done)
}

fn create(path: &Path) -> Result<&'static str, Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let cannot = |e| Failure::io(format!("cannot write {}", path.display()), &e);
    if path.is_symlink() {
        let goal = std::fs::read_link(path).unwrap_or_default();
        return Err(Failure::usage(format!(
            "{} is a link to {}, which is not there; remove the link, or make that file",
            path.display(),
            goal.display()
        )));
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot)?;
    let made = create_new(path, stub::stub(Form::of(path)).as_bytes()).map_err(cannot)?;
    Ok(if made { "created" } else { "unchanged" })
}

fn add(located: Located) -> Result<&'static str, Failure> {
    let Located { path, why } = located;
    let cannot = |e| Failure::io(format!("cannot write {}", path.display()), &e);
    // What is a link stays one: the file that it leads to is replaced.
    let path = std::fs::canonicalize(&path).map_err(cannot)?;
    if !path.is_file() {
        return Err(Failure::usage(format!(
            "{} is not a regular file, so nothing can be added to it; name one with --config",
            path.display()
        )));
    }
    let seen = Seen::made(&path);
    // What has a mistake is not understood well enough to be added to.
    Config::read(Some(&Located { path: path.clone(), why }))?;
    let source = config::source(&path, why.is_named())?;
    let text = refresh::refreshed(&source);
    if text == source.text {
        return Ok("unchanged");
    }
    let mark = if source.marked { config::MARK.to_string() } else { String::new() };
    replace(&path, &(mark + &text), &seen).map_err(cannot)?;
    Ok("refreshed")
}

/// Replaces the file in one step, its mode kept, unless somebody has written to it in the meantime.
fn replace(path: &Path, text: &str, seen: &Seen) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
        // Whatever stands under that name by then is not written through.
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.set_permissions(std::fs::metadata(path)?.permissions())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if !seen.still_is() {
            return Err(io::Error::other("it was just changed by somebody else; try again"));
        }
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// A setting as it is shown.
struct Row {
    name: String,
    value: Value,
    from: String,
}

fn show(global: &Global) -> Outcome {
    let (located, there) = locate(global)?;
    let found = (there || located.why.is_named()).then_some(&located);
    let config = Config::read(found)?;
    let file = found.map(|found| found.path.as_path());
    let rows = rows(global, &config, &located)?;
    if global.json {
        let settings: Vec<_> = rows
            .iter()
            .map(|row| json!({ "name": row.name, "value": row.value.json(), "from": row.from }))
            .collect();
        render::json(&json!({ "path": file.map(Path::to_string_lossy), "settings": settings }))?;
        return Ok(Exit::Done);
    }
    let mut table = vec![vec!["SETTING".to_owned(), "VALUE".to_owned(), "FROM".to_owned()]];
    for row in &rows {
        table.push(vec![row.name.clone(), render::safe_line(&row.value.hcl()), row.from.clone()]);
    }
    render::out(&render::table(&table))?;
    Ok(Exit::Done)
}

fn rows(global: &Global, config: &Config, located: &Located) -> Result<Vec<Row>, Failure> {
    let (root, root_why) = root::choose(global, located.why.is_named().then_some(located))?;
    let mut rows = Vec::new();
    for (name, setting, given) in config.all() {
        let from_file = given
            .map(|given| (given.value.clone(), format!("{}:{}", located.path.display(), given.place.line)));
        let default = || setting.default_value().map(|value| (value, "default".to_owned()));
        let Some((mut value, mut from)) = from_file.or_else(default) else { continue };
        if name == "storage.root" {
            value = Value::Text(root.display().to_string());
            // What the file says there counts only if nothing before it did.
            if root_why != root::Why::Configured {
                root_why.text().clone_into(&mut from);
            }
        }
        // A variable beats the block of an agent, as a flag would.
        if setting.block == config::schema::AGENT
            && setting.name == "timeout"
            && let Some(limit) = variable("JRUN_AGENT_TIMEOUT").and_then(|text| args::duration(&text).ok())
        {
            (value, from) = (Value::Span(limit), "JRUN_AGENT_TIMEOUT".to_owned());
        }
        rows.push(Row { name, value, from });
    }
    Ok(rows)
}

fn validate(global: &Global, args: &ValidateArgs) -> Outcome {
    let (path, named) = match &args.file {
        Some(file) => (std::path::absolute(file).map_err(|e| Failure::io(file.display(), &e))?, true),
        None => {
            let (Located { path, why }, there) = locate(global)?;
            if !there && !why.is_named() {
                return nothing_to_validate(global);
            }
            (path, why.is_named())
        }
    };
    let source = config::source(&path, named)?;
    let (config, mut problems) = Config::parse(&source);
    problems.extend(config.wrong_agents());
    problems.sort_by_key(|problem| problem.at.start);
    if global.json {
        validated_json(&source, &problems)?;
        return Ok(if problems.is_empty() { Exit::Done } else { Exit::Usage });
    }
    for problem in &problems {
        render::say(&source.show(problem));
    }
    match problems.len() {
        0 => {
            render::out(&format!("{}: no mistake found\n", path.display()))?;
            Ok(Exit::Done)
        }
        1 => Err(Failure::usage(format!("{}: one mistake", path.display()))),
        several => Err(Failure::usage(format!("{}: {several} mistakes", path.display()))),
    }
}

fn nothing_to_validate(global: &Global) -> Outcome {
    if global.json {
        render::json(&json!({ "path": null, "valid": true, "problems": [] }))?;
    } else {
        render::out("there is no configuration: every setting has its default\n")?;
    }
    Ok(Exit::Done)
}

fn validated_json(source: &Source, problems: &[config::problem::Problem]) -> Result<(), Failure> {
    let problems: Vec<_> = problems
        .iter()
        .map(|problem| {
            let place = source.place(problem.at.start);
            json!({
                "line": place.line,
                "column": place.column,
                "what": problem.what,
                "suggestion": problem.suggestion,
            })
        })
        .collect();
    render::json(&json!({
        "path": source.path.to_string_lossy(),
        "valid": problems.is_empty(),
        "problems": problems,
    }))
}
