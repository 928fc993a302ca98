//! Kubernetes as a source of policies and Secrets. No Kubernetes type leaves this module.
//!
//! ```text
//!  SessionPolicies ── one watch per namespace ──────┐
//!                                                   ├─▶ reconcile ──▶ Publisher ──▶ snapshot      every replica
//!  Secrets ── one watch per Secret that is named ───┘    │               │
//!     ▲                                                  │               └──▶ reports
//!     └── watches start and stop with the references ────┘                      │
//!                                                                               │
//!  status, Events ◀── the replica that holds the Lease ◀────────────────────────┘
//! ```
//!
//! Every replica watches, compiles and serves. Changes that arrive together are published together: all policies at the
//! start make one snapshot, and a single change later takes effect at once.
//!
//! A watch starts with a list that is not older than what the watch showed before, so that a replaced credential cannot
//! come back. The watch is renewed before a proxy would drop it, resumes where it was after a hang-up, lists again when
//! the API server no longer knows the resource version, and is retried with increasing pauses when it fails. The last
//! known policies stay active all the time: an API server that is down changes nothing for a check.
//!
//! A policy reaches the [`Index`](crate::policy::Index) as it is stored, even when it does not match the schema: one
//! invalid object affects no other. Each Secret is watched by its name. When the API server does not show a Secret, the
//! policies that name it report so, and no other policy is affected.

mod audit_switch;
mod client;
mod grace;
pub mod metrics;
mod objects;
mod reconcile;
mod secret_clients;
mod startup;
pub mod status;
mod watch;
mod watch_failures;

pub(crate) use client::innermost;
pub use client::{Cluster, ClusterConnection, ClusterError, Namespaces};
pub use objects::{ObservedPolicies, ObservedPolicy};
pub use reconcile::follow_cluster;
