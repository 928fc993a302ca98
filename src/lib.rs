//! A limit on concurrent sessions for Auth0, which has none.
//!
//! An Auth0 post-login Action asks `POST /check` at every login. The service lists the user's sessions from the tenant's
//! Management API, decides by a `SessionPolicy`, and answers whether to block. The way of a check, one way through:
//!
//! ```text
//!  Action ──▶ server      request, caller's token, body            the HTTP contract, and only here
//!               │
//!               ▼
//!             checker     one load of what is in force             in_force: replaced as a whole
//!               │
//!               ├──▶ policy    which policy governs the login       pure
//!               ├──▶ policy    the steps before Auth0 is asked      pure
//!               ├──▶ ledger    the time T; was it revoked by us     memory, or Redis
//!               ├──▶ lists     the user's sessions                  shared by the checks of one user
//!               │      └─▶ auth0                                    budget, token, pages, deadline
//!               ├──▶ ledger    decide and remember, in one step ──▶ policy   the rule, pure
//!               ├──▶ auth0     revoke what has to give way
//!               ▼
//!             answer      + metrics, a span, a log line
//! ```
//!
//! Beside it, what is in force is kept up to date: a [`source`] shows policies and Secrets to the
//! [`Index`](policy::Index), which compiles them, keeps the last good version of each, and makes the immutable
//! [`Snapshot`](policy::Snapshot) that checks read.
//!
//! | module | its concern |
//! |---|---|
//! | [`crd`] | the `SessionPolicy` resource: types, schema, rules of the API server |
//! | [`policy`] | the pure core: compile, who governs, decide, answer |
//! | [`auth0`] | the tenant client: token, list, revoke |
//! | [`session_lists`](check::session_lists) | one list for several checks |
//! | [`ledger`] | the race of two logins at once; what holders are let in again from memory |
//! | [`check`] | the way of a check |
//! | [`snapshot`] | what is in force, and how it is replaced |
//! | [`controller`] | policies and Secrets from a cluster |
//! | [`source`] | policies from a folder or from the Node demo's variables |
//! | [`secret`] | the two kinds of Secret |
//! | [`server`] | HTTP: routers, errors, sockets |
//! | [`metrics`], [`telemetry`] | what the service says of itself |
//! | [`readiness`], [`shutdown`] | the beginning and the end |
//! | [`service`] | the composition root |
//! | [`args`], [`cli`] | the command line, and its commands |

pub mod args;
pub mod auth0;
pub mod check;
pub mod cli;
pub mod controller;
pub mod crd;
pub mod ledger;
pub mod metrics;
pub mod policy;
pub mod readiness;
pub mod redis;
pub mod secret;
pub mod server;
pub mod service;
pub mod shutdown;
pub mod snapshot;
pub mod source;
pub mod telemetry;
