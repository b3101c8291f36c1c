//! The flags with which a command works on another machine's root, through the server there.

use std::path::PathBuf;

use clap::Args;

const HEADING: &str = "On another machine";

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServerArgs {
    /// Ask `run-agent serve` there instead of looking into a storage folder, as http://127.0.0.1:14355
    #[arg(long, value_name = "URL", help_heading = HEADING)]
    pub(crate) server: Option<String>,
    /// A file with the server's API key [default: $RUN_AGENT_API_KEY]
    #[arg(long, value_name = "FILE", requires = "server", help_heading = HEADING)]
    pub(crate) api_key_file: Option<PathBuf>,
}
