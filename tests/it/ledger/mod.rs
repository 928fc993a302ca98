//! The ledger's promise: of any number of logins that are checked and complete within the window, a limit N lets exactly N
//! in, over all replicas that share it, whatever the order of their steps.

mod cases;
mod model;
mod race;
mod world;
