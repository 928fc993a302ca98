//! The tenant client.
