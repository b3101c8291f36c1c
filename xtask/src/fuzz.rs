//! The fuzz targets, each for a bounded time. They are built as `cargo fuzz` builds them, by the nightly compiler itself,
//! so that nothing has to be installed beside it.

use std::{ffi::OsString, fs, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::{metadata, step::Step};

const TARGETS: [&str; 6] = ["agent_stream", "config", "fold", "frame", "markdown", "recover"];
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const MINUTES: u32 = 10;
/// What libFuzzer steers by: counters at every edge, and the operands of comparisons.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Ccodegen-units=1 -Zsanitizer=address --cfg fuzzing";

/// `[--minutes N] [TARGET…]`
pub(crate) fn run(args: &[OsString]) -> Result<()> {
    let (mut minutes, mut targets) = (MINUTES, Vec::new());
    let mut words = args.iter().map(|arg| arg.to_string_lossy());
    while let Some(word) = words.next() {
        if word == "--minutes" {
            let number = words.next().context("--minutes needs a number")?;
            minutes = number.parse().with_context(|| format!("--minutes {number} is no number"))?;
        } else if let Some(target) = TARGETS.iter().find(|target| **target == word) {
            targets.push(*target);
        } else {
            bail!("there is no fuzz target `{word}`; there are {}", TARGETS.join(", "));
        }
    }
    run_targets(if targets.is_empty() { &TARGETS } else { &targets }, minutes)
}

/// The targets compile, also where no nightly compiler runs them: without the fuzzer's own code.
pub(crate) fn check() -> Result<()> {
    let folder = metadata::read()?.target_directory.join("fuzz-check");
    Step::cargo(["clippy", "--manifest-path", "fuzz/Cargo.toml", "--no-default-features", "--target-dir"])
        .args(&[&folder])
        .args(&["--", "-D", "warnings"])
        .env("RUSTFLAGS", "--cfg fuzzing")
        .run()
}

fn run_targets(targets: &[&str], minutes: u32) -> Result<()> {
    if !Step::program("rustup").args(&["run", "nightly", "rustc", "--version"]).answers() {
        eprintln!("fuzz: skipped: there is no nightly compiler: `rustup toolchain install nightly`");
        return Ok(());
    }
    Step::cargo(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--", "--check"]).run()?;
    let folder = metadata::read()?.target_directory.join("fuzz");
    // Not `--locked`: a dependency that comes into a crate of the main workspace comes into this lock file here.
    let build = ["run", "nightly", "cargo", "build", "--release", "--target", TRIPLE];
    Step::program("rustup")
        .args(&build)
        .args(&["--manifest-path", "fuzz/Cargo.toml", "--target-dir"])
        .args(&[&folder])
        .env("RUSTFLAGS", FLAGS)
        .run()?;
    for target in targets {
        let found = folder.join("corpus").join(target);
        fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
        let program: PathBuf =
            [folder.as_path(), TRIPLE.as_ref(), "release".as_ref(), target.as_ref()].iter().collect();
        Step::program(program)
            // What is found goes into the first folder; the seeds in the tree stay as they are.
            .args(&[found])
            .args(&[
                &format!("fuzz/corpus/{target}"),
                &format!("-max_total_time={}", minutes * 60),
                "-timeout=10",
                "-rss_limit_mb=2048",
                "-max_len=4096",
                "-verbosity=1",
                "-print_final_stats=1",
            ])
            .args(&[&format!("-artifact_prefix={}/{target}-", folder.display())])
            .run()?;
    }
    Ok(())
}
