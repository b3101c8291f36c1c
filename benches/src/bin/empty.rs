//! The floor of every process: a Rust program that does nothing.

fn main() {}
