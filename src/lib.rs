//! A limit on concurrent sessions for Auth0.

pub mod auth0;
pub mod crd;
pub mod policy;
pub mod secret;
pub mod source;
#[cfg(feature = "simulator")]
pub mod simulator;
