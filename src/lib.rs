//! A limit on concurrent sessions for Auth0.

pub mod auth0;
pub mod crd;
pub mod ledger;
pub mod policy;
pub mod secret;
#[cfg(feature = "simulator")]
pub mod simulator;
