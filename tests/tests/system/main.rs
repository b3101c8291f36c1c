//! Whole-system tests: the real binary, real processes, real kills. One file a theme.

#![allow(clippy::unwrap_used)]

mod bus;
mod bus_attach;
mod bus_edit;
mod bus_find;
mod bus_ndjson;
mod bus_read;
mod conduct;
mod config;
mod durability;
mod found;
mod incumbent;
mod kills;
mod prompt;
mod ralph;
mod shells;
mod speech;
mod stops;
mod store;
mod tree;
