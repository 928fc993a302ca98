//! A model of the rule by which a login is allowed from memory, explored exhaustively. `docs/design/remembered-sessions.md`
//! describes it, and the counterexamples that it finds when a clause of the rule is taken away.
//!
//! The model repeats the rule in its own words: it uses nothing of the service, and compiles in seconds.

#![cfg(test)]

mod change;
mod explored;
mod faults;
mod page;
mod property;
mod rule;
mod search;
mod state;
mod steps;
mod weakened;
mod words;
