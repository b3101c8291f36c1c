//! `claude`: Anthropic's CLI.

mod reader;

pub use reader::ClaudeReader;
