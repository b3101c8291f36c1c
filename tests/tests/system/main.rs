//! Whole-system tests: the real binary, real processes, real kills. One file a theme.

#![allow(clippy::unwrap_used)]

mod adopt;
mod batch;
mod beyond;
mod bus;
mod bus_attach;
mod bus_edit;
mod bus_find;
mod bus_ndjson;
mod bus_read;
mod conduct;
mod config;
mod context;
mod detach;
mod doctor;
mod durability;
mod found;
mod gc;
mod given;
mod identity;
mod inbox;
mod incumbent;
mod kills;
mod list;
mod lost;
mod max_tasks;
mod prompt;
mod ralph;
mod real_cli;
mod replay;
mod rim;
mod scope;
mod shell_setup;
mod shells;
mod silence;
mod slots;
mod speech;
mod starting;
mod stops;
mod store;
mod sweep;
mod tree;
mod watch;
mod why;
mod wrap;
