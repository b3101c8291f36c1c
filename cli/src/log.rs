//! The tracing log: quiet, unless `--verbose` or `RUN_AGENT_LOG` asks for it. Nobody else pays for it.

use std::io;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::context::variable;
use crate::render;

/// Begins to log on stderr, when it is asked for. `RUN_AGENT_LOG` is a level (`debug`) or `target=level,…`.
pub(crate) fn start(verbose: bool) {
    let asked = variable("RUN_AGENT_LOG");
    let targets = match asked.as_deref().map(str::parse::<Targets>) {
        None if verbose => Targets::new().with_default(LevelFilter::INFO),
        None => return,
        Some(Ok(targets)) => targets,
        Some(Err(error)) => {
            render::say(&format!(
                "warning: RUN_AGENT_LOG is not understood ({error}); write a level such as debug, or run_agent=debug"
            ));
            return;
        }
    };
    let lines =
        tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false).with_target(true).compact();
    tracing_subscriber::registry().with(lines).with(targets).init();
}
