//! Whole-system tests: the real binary, real processes, real kills. One file a theme.

#![allow(clippy::unwrap_used)]

mod bus;
mod conduct;
mod found;
mod incumbent;
mod kills;
mod list;
mod prompt;
mod ralph;
mod shells;
mod speech;
mod stops;
mod tree;
