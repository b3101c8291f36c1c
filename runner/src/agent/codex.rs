//! `codex`: OpenAI's CLI.

mod reader;

pub use reader::CodexReader;
