//! Tells `--version` which commit, date, target and profile it is. Runs again only when git's HEAD moves.

use std::path::Path;
use std::process::Command;

fn main() {
    let commit = git(&["rev-parse", "--short=10", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let date = git(&["log", "-1", "--format=%cs"]).unwrap_or_else(|| "unknown".to_owned());
    let of_cargo = |name: &str| std::env::var(name).unwrap_or_else(|_| "unknown".to_owned());
    let (target, profile) = (of_cargo("TARGET"), of_cargo("PROFILE"));
    let whole = format!("{} (commit {commit}, {date}, {target}, {profile})", of_cargo("CARGO_PKG_VERSION"));
    for (name, value) in [
        ("VERSION", &whole),
        ("COMMIT", &commit),
        ("DATE", &date),
        ("TARGET", &target),
        ("PROFILE", &profile),
    ] {
        println!("cargo:rustc-env=RUN_AGENT_{name}={value}");
    }
    start_fast(&of_cargo("CARGO_CFG_TARGET_OS"), &of_cargo("CARGO_CFG_TARGET_ENV"));
    println!("cargo:rerun-if-changed=build.rs");
    // HEAD names a branch; its log grows with each commit too. A file that is not there would mean to run each time.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name])
            && Path::new(&path).is_file()
        {
            println!("cargo:rerun-if-changed={path}");
        }
    }
}

/// What git says, if git is there and this is its work tree.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// A command such as `bus post` lives for about a millisecond, and agents call it all day. At a fixed address the loader
/// has none of its tables of pointers to write, and without a library of its own for unwinding one file less to map.
fn start_fast(os: &str, env: &str) {
    if os == "linux" && env == "gnu" {
        println!("cargo:rustc-link-arg-bins=-no-pie");
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
}
