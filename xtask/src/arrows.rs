//! The dependency arrows between the crates of the workspace. Cargo accepts any acyclic graph; this table is what
//! keeps the stores ignorant of each other and the core free of I/O.
//!
//! Dev-dependencies are free: they shape tests, not the product.

use anyhow::{Result, bail};

use crate::metadata::{self, Package};

enum May {
    UseOnly(&'static [&'static str]),
    UseAnything,
}

const CORE: &str = "run-agent-core";
const STORE_SHARED: &str = "run-agent-store-shared";

const ARROWS: &[(&str, May)] = &[
    (CORE, May::UseOnly(&[])),
    // For its testkit alone.
    (STORE_SHARED, May::UseOnly(&[CORE])),
    ("run-agent-store-fs", May::UseOnly(&[CORE, STORE_SHARED])),
    ("run-agent-store-segmented", May::UseOnly(&[CORE, STORE_SHARED])),
    ("run-agent-runner", May::UseOnly(&[CORE])),
    ("run-agent-server", May::UseOnly(&[CORE])),
    (
        "run-agent",
        May::UseOnly(&[
            CORE,
            // For the doorbell alone.
            STORE_SHARED,
            "run-agent-store-fs",
            "run-agent-store-segmented",
            "run-agent-runner",
            "run-agent-server",
        ]),
    ),
    ("run-agent-benches", May::UseAnything),
    ("run-agent-tests", May::UseAnything),
    ("xtask", May::UseOnly(&[])),
];

/// Crates that bring I/O, threads or a terminal, which the core never has.
const FOREIGN_TO_CORE: &[&str] = &["clap", "nix", "notify", "rustix", "tokio"];

pub(crate) fn run() -> Result<()> {
    let wrong = violations(&metadata::read()?.packages);
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("dependency arrows:\n  {}", wrong.join("\n  "));
}

fn violations(packages: &[Package]) -> Vec<String> {
    packages.iter().flat_map(violations_of).collect()
}

fn violations_of(package: &Package) -> Vec<String> {
    let name = &package.name;
    let Some((_, may)) = ARROWS.iter().find(|(known, _)| known == name) else {
        return vec![format!("`{name}` is not in the table: add it to ARROWS in xtask/src/arrows.rs")];
    };
    let mut wrong = Vec::new();
    for dependency in package.dependencies.iter().filter(|dependency| !dependency.is_dev) {
        let used = dependency.name.as_str();
        if dependency.is_path && !may.allows(used) {
            wrong.push(format!("`{name}` must not depend on `{used}`"));
        }
        if name == CORE && FOREIGN_TO_CORE.contains(&used) {
            wrong
                .push(format!("`{name}` must not depend on `{used}`: the core has no I/O, clock or threads"));
        }
    }
    wrong
}

impl May {
    fn allows(&self, used: &str) -> bool {
        match self {
            Self::UseOnly(list) => list.contains(&used),
            Self::UseAnything => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::violations;
    use crate::metadata::parse;

    fn path(name: &str, kind: Option<&str>) -> Value {
        json!({ "name": name, "kind": kind, "path": format!("/w/{name}"), "source": null })
    }

    fn registry(name: &str, kind: Option<&str>) -> Value {
        json!({ "name": name, "kind": kind, "source": "registry+somewhere" })
    }

    #[track_caller]
    fn assert_violations(package: &str, dependencies: &[Value], expected: &[&str]) {
        let metadata = parse(&json!({
            "packages": [{ "name": package, "dependencies": dependencies }],
            "target_directory": "/w/target",
        }))
        .expect("well-formed metadata");
        assert_eq!(violations(&metadata.packages), expected);
    }

    #[test]
    fn the_cli_may_use_both_stores_the_runner_and_the_server() {
        let all = ["core", "store-fs", "store-segmented", "runner", "server"]
            .map(|name| path(&format!("run-agent-{name}"), None));
        assert_violations("run-agent", &all, &[]);
    }

    #[test]
    fn a_store_may_use_the_core_and_any_registry_crate() {
        let used = [path("run-agent-core", None), registry("tokio", None)];
        assert_violations("run-agent-store-fs", &used, &[]);
    }

    #[test]
    fn stores_know_neither_each_other_nor_the_runner() {
        assert_violations(
            "run-agent-store-fs",
            &[path("run-agent-store-segmented", None), path("run-agent-runner", None)],
            &[
                "`run-agent-store-fs` must not depend on `run-agent-store-segmented`",
                "`run-agent-store-fs` must not depend on `run-agent-runner`",
            ],
        );
    }

    #[test]
    fn a_build_dependency_is_an_arrow_too() {
        assert_violations(
            "run-agent-server",
            &[path("xtask", Some("build"))],
            &["`run-agent-server` must not depend on `xtask`"],
        );
    }

    #[test]
    fn dev_dependencies_are_free() {
        let used = [path("run-agent-store-fs", Some("dev")), registry("tokio", Some("dev"))];
        assert_violations("run-agent-core", &used, &[]);
    }

    #[test]
    fn the_core_uses_no_crate_that_does_io() {
        assert_violations(
            "run-agent-core",
            &[registry("serde", None), registry("rustix", None)],
            &["`run-agent-core` must not depend on `rustix`: the core has no I/O, clock or threads"],
        );
    }

    #[test]
    fn a_path_outside_the_table_is_an_arrow_too() {
        let used = [path("vendored", None)];
        assert_violations("xtask", &used, &["`xtask` must not depend on `vendored`"]);
    }

    #[test]
    fn whole_system_tests_and_benches_may_use_anything() {
        for package in ["run-agent-tests", "run-agent-benches"] {
            assert_violations(package, &[path("run-agent", None), registry("tokio", None)], &[]);
        }
    }

    #[test]
    fn an_unknown_crate_is_told_to_be_added() {
        let expected = "`run-agent-extra` is not in the table: add it to ARROWS in xtask/src/arrows.rs";
        assert_violations("run-agent-extra", &[], &[expected]);
    }
}
