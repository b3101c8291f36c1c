//! Everything that is checked without running the product. The quick steps come first, so that a slip is told in a
//! second and clippy, the longest, runs only on what else is sound.

use anyhow::Result;

use crate::{arrows, fuzz, step::Step, tool};

pub(crate) fn run() -> Result<()> {
    tool::need("deny")?;
    tool::need("machete")?;

    Step::cargo(["fmt", "--all", "--", "--check"]).run()?;
    arrows::run()?;
    // Without metadata a package whose library has another name (hcl-rs is `hcl` in code) counts as unused.
    Step::cargo(["machete", "--with-metadata"]).run()?;
    // Advisories need a database from the network and change without a commit: they belong to `deep`.
    // Duplicate versions are warnings; their inclusion graphs would fill screens. `cargo tree -i` shows one on demand.
    Step::cargo(["deny", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]).run()?;
    Step::cargo(["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"])
        .run()?;
    fuzz::check()
}
