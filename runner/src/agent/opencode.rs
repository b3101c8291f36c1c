//! `opencode`: an agent for the models of many providers.

mod reader;

pub use reader::OpencodeReader;
