//! What `cargo metadata` says of the workspace, cut down to what the tasks ask of it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::step::Step;

#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) target_directory: PathBuf,
}

#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// It lies in this tree and does not come from a registry.
    pub(crate) is_path: bool,
    /// Only tests, examples and benches of the package see it.
    pub(crate) is_dev: bool,
}

pub(crate) fn read() -> Result<Metadata> {
    let json = Step::cargo(["metadata", "--format-version", "1", "--no-deps"]).stdout()?;
    let value = serde_json::from_slice(&json).context("cannot parse the output of `cargo metadata`")?;
    parse(&value).context("the output of `cargo metadata` has not the documented form")
}

pub(crate) fn parse(value: &Value) -> Option<Metadata> {
    Some(Metadata {
        packages: value["packages"].as_array()?.iter().map(package).collect::<Option<_>>()?,
        target_directory: value["target_directory"].as_str()?.into(),
    })
}

fn package(value: &Value) -> Option<Package> {
    Some(Package {
        name: value["name"].as_str()?.into(),
        dependencies: value["dependencies"].as_array()?.iter().map(dependency).collect::<Option<_>>()?,
    })
}

fn dependency(value: &Value) -> Option<Dependency> {
    Some(Dependency {
        // This is the package's own name also where the manifest renames it.
        name: value["name"].as_str()?.into(),
        is_path: value["path"].is_string(),
        is_dev: value["kind"] == "dev",
    })
}
