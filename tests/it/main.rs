//! The promises of session-checker that need sockets, processes or files, one module each.

// Test code outside of `#[test]` functions: helpers may give up as the tests themselves do.
#![allow(clippy::unwrap_used)]

mod auth0_client;
mod check;
mod common;
mod crd;
mod eviction;
mod failures;
mod http;
mod ledger;
mod simulator;
