//! The promises of session-checker, one module each.

mod simulator;
