//! `perplexity`: the REST interface of Perplexity.

mod reader;

pub use reader::PerplexityReader;
