//! What the load driver and the criterion benches share.

pub mod story;
pub mod yaml;
