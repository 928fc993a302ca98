//! The promises of session-checker that need sockets, processes or files, one module each.

mod auth0_client;
mod check;
mod common;
mod crd;
mod ledger;
mod simulator;
