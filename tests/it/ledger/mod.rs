//! The ledger's promise: of any number of logins that are checked and complete within the window, a limit N lets exactly N
//! in, over all replicas that share it, whatever the order of their steps.

// The helpers of tests are no tests to Clippy.
#![allow(clippy::unwrap_used)]

mod cases;
mod model;
mod race;
mod redis;
mod world;
