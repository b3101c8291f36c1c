//! `cargo xtask …`: the one place that knows which commands check, test, measure and show this workspace.
//! People and CI run the same ones.
//!
//! A command here only starts other programs and reads `cargo metadata`. It never installs anything: what is
//! missing is named with the line that installs it.

mod arrows;
mod bench;
mod check;
mod deep;
mod demo;
mod fuzz;
mod metadata;
mod models;
mod step;
mod test;
mod tool;

use std::{env, ffi::OsString, process::ExitCode};

use anyhow::{Result, bail};

struct Verb {
    name: &'static str,
    args: &'static str,
    about: &'static str,
    run: Run,
}

enum Run {
    Plain(fn() -> Result<()>),
    Passing(fn(&[OsString]) -> Result<()>),
}

const VERBS: &[Verb] = &[
    Verb {
        name: "check",
        args: "",
        about: "format, dependency arrows, licences and sources, unused dependencies, clippy",
        run: Run::Plain(check::run),
    },
    Verb {
        name: "arrows",
        args: "",
        about: "which workspace crate may depend on which (a part of check)",
        run: Run::Plain(arrows::run),
    },
    Verb {
        name: "test",
        args: "[args…]",
        about: "build the binary, then every test; arguments go to nextest",
        run: Run::Passing(test::run),
    },
    Verb {
        name: "deep",
        args: "[--minutes N]",
        about: "the tests with their full counts, each fuzz target for N minutes (10), the advisory database",
        run: Run::Passing(deep::run),
    },
    Verb {
        name: "models",
        args: "",
        about: "the models of what processes share, each interleaving up to its bound (a part of deep)",
        run: Run::Plain(models::run),
    },
    Verb {
        name: "fuzz",
        args: "[--minutes N] [target…]",
        about: "the fuzz targets alone (a part of deep)",
        run: Run::Passing(fuzz::run),
    },
    Verb {
        name: "bench",
        args: "[--quick] [--only GROUP] [--write]",
        about: "the tables of the load driver, in release mode; --write puts them into docs/performance.md",
        run: Run::Passing(bench::run),
    },
    Verb { name: "demo", args: "", about: "show the product at work", run: Run::Plain(demo::run) },
];

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<step::Failed>() {
            // The program has said itself what is wrong, and its words stay the last ones: CI reads them.
            Some(failed) => ExitCode::from(failed.code),
            None => {
                eprintln!("xtask: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn dispatch(args: &[OsString]) -> Result<()> {
    let Some((name, rest)) = args.split_first() else {
        list();
        return Ok(());
    };
    if ["help", "-h", "--help"].iter().any(|help| name == help) {
        list();
        return Ok(());
    }
    let name = name.to_string_lossy();
    let Some(verb) = VERBS.iter().find(|verb| verb.name == name) else {
        bail!("there is no `{name}`; `cargo xtask` without arguments lists what there is");
    };
    match verb.run {
        Run::Passing(run) => run(rest),
        Run::Plain(run) if rest.is_empty() => run(),
        Run::Plain(_) => bail!("`{name}` takes no arguments"),
    }
}

fn list() {
    println!("cargo xtask <command>\n");
    for Verb { name, args, about, .. } in VERBS {
        println!("  {:<42}{about}", format!("{name} {args}"));
    }
}
