//! The ledger's promise: of any number of logins that are checked and complete within the window, a limit N allows exactly N,
//! over all replicas that share the ledger and in any order of their steps.

// Clippy does not take helpers of tests for tests.
#![allow(clippy::unwrap_used)]

mod cases;
mod failing;
mod model;
mod race;
pub mod redis;
mod redis_address;
mod redis_failover;
mod world;
