//! The promises of session-checker that need sockets, processes or files, one module each.

// Test code outside of `#[test]` functions: helpers may give up as the tests themselves do.
#![allow(clippy::unwrap_used)]

mod auth0_client;
mod check;
mod command;
mod common;
mod crd;
mod folder;
mod ledger;
mod node_demo;
mod shutdown;
mod simulator;
