//! `xai`: the REST interface of xAI.

mod reader;

pub use reader::XaiReader;
