//! A limit on concurrent sessions for Auth0.

pub mod args;
pub mod auth0;
pub mod checker;
pub mod crd;
#[cfg(feature = "simulator")]
pub mod demo;
pub mod in_force;
pub mod ledger;
pub mod metrics;
pub mod policy;
pub mod readiness;
pub mod run;
pub mod secret;
pub mod server;
pub mod shutdown;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod source;
pub mod telemetry;
pub mod validate;
