//! Writes the status of every policy, and Events about its conditions, from the one replica that holds the Lease.

pub mod conditions;
pub mod lease;
mod writer;

pub(super) use writer::Writer;
