//! Whole-system tests: the real binary, real processes, real kills. One file a theme.

#![allow(clippy::unwrap_used)]

mod batch;
mod bus;
mod conduct;
mod config;
mod found;
mod incumbent;
mod kills;
mod prompt;
mod ralph;
mod replay;
mod shell_setup;
mod shells;
mod speech;
mod stops;
mod tree;
mod watch;
mod wrap;
