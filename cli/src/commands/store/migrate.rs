//! `store migrate`: the events of a root go over to the other store (`docs/formats/migration.md`, whose steps these are).

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use run_agent_core::StreamKey;
use run_agent_core::layout::OWN_FOLDER;
use run_agent_core::store::Damage;
use run_agent_runner::migrate::{self, Migration};
use run_agent_runner::{Tree, failpoint, files};

use crate::args::{Global, duration};
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome, chain};
use crate::render;
use crate::root;
use crate::store_file::StoreFile;
use crate::stores::Backend;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent store migrate --to segmented --drop-old")]
pub(crate) struct MigrateArgs {
    /// The store that is to hold the events: fs or segmented
    #[arg(long, value_name = "STORE", value_parser = backend)]
    to: Backend,
    /// Remove the files of the other store once it holds no event that counts
    #[arg(long)]
    drop_old: bool,
    /// Leave behind what is damaged; without it nothing is moved where something is
    #[arg(long, conflicts_with = "drop_old")]
    without_damaged: bool,
    /// How long to wait for those who have the store open
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    wait: Duration,
}

fn backend(name: &str) -> Result<Backend, String> {
    let names = Backend::ALL.map(Backend::name).join(" or ");
    Backend::named(name).ok_or_else(|| format!("it is {names}"))
}

/// What a call came to.
#[derive(Debug, Default)]
struct Done {
    moved: bool,
    streams: u64,
    messages: u64,
    left_behind: Vec<(StreamKey, Damage)>,
    dropped: u64,
}

pub(super) fn run(global: &Global, args: &MigrateArgs) -> Outcome {
    let context = Context::open_to_move(global)?;
    if context.task_flag().is_some() || global.project.is_some() {
        return Err(Failure::usage(
            "a root has one store: its events move all together, without --project and --task",
        ));
    }
    let layout = context.tree.layout.clone();
    let lock = open_lock(&layout.migrate_lock())?;
    if !files::try_lock(&lock).map_err(|e| Failure::io(layout.migrate_lock().display(), &e))? {
        let who = migrate::holders(&layout.migrate_lock());
        return Err(Failure::new(
            Exit::Locked,
            format!("another migration of this root is under way: {who}"),
        ));
    }
    // Nobody changes the store from here on.
    let file = root::settled(&layout)?;
    let mut done = Done::default();
    if file.backend != args.to {
        refuse_wrong_configuration(&context, args.to)?;
        move_all(&context, args, file, &mut done)?;
    }
    if args.drop_old {
        let now = root::settled(&layout)?;
        let others = Backend::ALL.into_iter().filter(|other| *other != now.backend);
        for other in others {
            let store = other.open(&layout, now.options.clone());
            done.dropped += migrate::drop_all(&context.tree, &*store).map_err(|e| {
                Failure::io(format!("cannot remove the files of the store `{}`", other.name()), &e)
            })?;
        }
    }
    tell(&context, args, &done)
}

fn open_lock(path: &Path) -> Result<File, Failure> {
    files::open_lock(path).map_err(|e| Failure::io(format!("cannot open {}", path.display()), &e))
}

/// A configuration that asks for the old store in words would stop every later command.
fn refuse_wrong_configuration(context: &Context, to: Backend) -> Result<(), Failure> {
    let asked = context.config()?.backend().filter(|asked| *asked != to);
    let Some(asked) = asked else { return Ok(()) };
    Err(Failure::usage(format!(
        "{} asks for storage.backend = \"{}\"; take the line out, or write \"{}\" there, then call again",
        context.config_path().display(),
        asked.name(),
        to.name(),
    )))
}

/// Steps 3 to 7.
fn move_all(context: &Context, args: &MigrateArgs, file: StoreFile, done: &mut Done) -> Result<(), Failure> {
    let layout = &context.tree.layout;
    let tree = file.clone().tree(layout.clone());
    let target = args.to.open(layout, file.options.clone());
    let mut migration = Migration::new(&tree, &*target);
    copy(&mut migration, args)?;
    let lock = open_lock(&layout.store_lock())?;
    let cannot = |e| Failure::io(layout.store_lock().display(), &e);
    if !migrate::take_alone(&lock, args.wait).map_err(cannot)? {
        let who = migrate::holders(&layout.store_lock());
        return Err(Failure::new(
            Exit::Locked,
            format!("the store is open in {who}; all that was there is copied, and nothing has changed yet"),
        )
        .hint("let them end, or stop them (`run-agent stop`), and call again: it goes on where it was"));
    }
    failpoint::here("migrate.locked");
    copy(&mut migration, args)?;
    failpoint::here("migrate.caught_up");
    switch(&tree, file, args.to)?;
    failpoint::here("migrate.switched");
    (done.streams, done.messages) = migration.count();
    done.left_behind = migration.damage().map(|(key, damage)| (key.clone(), damage.clone())).collect();
    done.moved = true;
    Ok(())
}

fn copy(migration: &mut Migration<'_>, args: &MigrateArgs) -> Result<(), Failure> {
    let progress = render::progress("copying the streams");
    let mut count = 0;
    let copied = migration.copy_all(&mut |key| {
        count += 1;
        progress.set(format!("copying stream {count}: {key}"));
    });
    drop(progress);
    copied.map_err(|error| {
        let failure = Failure::new(Exit::Failed, chain(&error));
        failure.hint(format!(
            "nothing has changed yet; what an earlier migration left can be removed by `run-agent store migrate --to {} --drop-old`",
            other(args.to).name(),
        ))
    })?;
    if args.without_damaged || migration.damage().next().is_none() {
        return Ok(());
    }
    for (key, damage) in migration.damage() {
        render::say(&format!(
            "{key}: {}: {}",
            render::safe_line(&damage.place),
            render::safe_line(&damage.what)
        ));
    }
    let count = migration.damage().count() as u64;
    Err(Failure::new(
        Exit::Failed,
        format!("{} cannot be moved; nothing has changed", render::count(count, "damaged place")),
    )
    .hint("mend what can be mended with `run-agent doctor --repair`; --without-damaged leaves the rest behind, in the old files"))
}

fn other(backend: Backend) -> Backend {
    match backend {
        Backend::Fs => Backend::Segmented,
        Backend::Segmented => Backend::Fs,
    }
}

/// Step 6.
fn switch(tree: &Tree, mut file: StoreFile, to: Backend) -> Result<(), Failure> {
    let path = tree.layout.store_file();
    let folder = tree.layout.root().join(OWN_FOLDER);
    file.backend = to;
    file.replace(&path)
        .and_then(|()| File::open(&folder)?.sync_all())
        .map_err(|e| Failure::io(format!("cannot write {}", path.display()), &e))
}

fn tell(context: &Context, args: &MigrateArgs, done: &Done) -> Outcome {
    if context.json {
        let left: Vec<_> = done
            .left_behind
            .iter()
            .map(|(key, damage)| {
                serde_json::json!({ "stream": key.to_string(), "place": damage.place, "what": damage.what })
            })
            .collect();
        render::json(&serde_json::json!({
            "backend": args.to.name(), "moved": done.moved, "streams": done.streams, "messages": done.messages,
            "left_behind": left, "dropped": done.dropped,
        }))?;
        return Ok(Exit::Done);
    }
    for (key, damage) in &done.left_behind {
        let (place, what) = (render::safe_line(&damage.place), render::safe_line(&damage.what));
        render::say(&format!("left behind: {key}: {place}: {what}"));
    }
    let name = args.to.name();
    let mut text = if done.moved {
        let (streams, messages) =
            (render::count(done.streams, "stream"), render::count(done.messages, "message"));
        format!("{streams}, {messages}: the store `{name}` holds the events of this root now")
    } else {
        format!("the store `{name}` holds the events of this root already")
    };
    if args.drop_old {
        text.push_str(&format!("; the old files of {} are removed", render::count(done.dropped, "stream")));
    } else if done.moved {
        text.push_str("; the old files are kept (--drop-old removes them)");
    }
    render::out(&format!("{text}\n"))?;
    Ok(Exit::Done)
}
