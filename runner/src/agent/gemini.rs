//! `gemini`: Google's CLI.

mod reader;

pub use reader::GeminiReader;
