//! session-checker limits the concurrent sessions of Auth0 users.
//!
//! An Auth0 post-login Action sends `POST /check` at every login. The service lists the user's sessions with the tenant's
//! Management API, decides by a `SessionPolicy`, and answers whether to block the login. A check takes these steps:
//!
//! ```text
//!  Action ──▶ server            loads the snapshot, authenticates the caller, parses the body
//!               │
//!               ▼
//!             check             takes the following steps with that snapshot
//!               │
//!               ├──▶ policy     finds the policy for the login, runs the pre-checks, which need no list
//!               ├──▶ ledger     begins an attempt: the store's time, recent evictions of this session
//!               ├──▶ check      ends here if the credential is missing; skips the list if the session was allowed recently
//!               ├──▶ check::session_lists   gets the user's sessions; concurrent checks of one user share one request
//!               │      └─▶ auth0            request budget, circuit breaker, token, pages, deadline
//!               ├──▶ ledger     decides and records the decision in one step ──▶ policy   the rules
//!               ├──▶ auth0      revokes the sessions that the decision evicts
//!               ▼
//!             answer            with metrics, a span and a log line
//! ```
//!
//! Beside it, a [`source`] or the [`controller`] reads policies and Secrets into the policy [`Index`](policy::Index). It
//! compiles them, keeps the last good version of each, and makes the immutable [`Snapshot`](snapshot::Snapshot) that checks
//! read.
//!
//! | module | contents |
//! |---|---|
//! | [`args`], [`cli`] | the options and exit codes; the commands |
//! | `playground`, `scenario` | the page of the demo; a scenario format and its player, also for `test` |
//! | [`service`] | the composition root: builds and runs what `serve` is made of |
//! | [`server`] | HTTP: routers, handlers, errors, sockets, request ids |
//! | [`check`] | the steps of a check, for the server and for the command line; session lists shared between checks |
//! | [`validate`] | manifests before they are applied: problems with their lines, and what to write |
//! | [`controller`] | policies and Secrets from a cluster; the Lease; the status of policies and its Events |
//! | [`source`] | policies from a folder or from the Node demo's variables; files that options name |
//! | [`snapshot`] | the active policies with their clients; how a new snapshot replaces the old one; credential probes |
//! | [`doctor`] | an examination of policies, tenants and ledger, with remedies |
//! | [`choose`] | the page on which people choose sessions to end: tickets, texts, templates |
//! | [`decisions`] | records of decisions, in memory and shared: why somebody was blocked |
//! | [`coverage`] | the audit of log streams: which of the logins that Auth0 reports were checked |
//! | [`ledger`] | the logins that are not yet in Auth0's list, per user; in memory, or shared through `redis` |
//! | [`auth0`] | the tenant client: list, revoke, token; rate limit, quota, circuit breaker; error classes |
//! | `redis` | one connection, key hashes, scripts: for the ledger and the shared quota |
//! | [`policy`] | pure: compile, resolve, decide, answer; conditions of a policy and their messages |
//! | [`crd`] | the `SessionPolicy` resource: types, schema, rules of the API server |
//! | [`secret`] | the types of Secret: credentials and caller tokens |
//! | [`metrics`], [`telemetry`] | the registry of metric families; logs and traces |
//! | [`readiness`], [`shutdown`] | what `/readyz` waits for; signals and draining |
//! | [`clock`] | the time of decisions and of what is kept |
//! | `sampler`, `backoff`, `loose_json` | bounds how often something happens; pauses between tries; reads JSON of any shape |
//! | `continued` | work that is finished although nobody waits for it any more |
//! | [`book`] | addresses in the documentation, for messages |
//! | `xml` | text in XML, for pictures and reports |
//!
//! Modules import only modules below them in this order, and `tests/it/walls.rs` enforces this. The specification is in
//! `docs/design`: `architecture.md`, `decision.md` and `contract.md`.

pub mod args;
pub mod auth0;
mod backoff;
pub mod book;
pub mod check;
pub mod choose;
pub mod cli;
pub mod clock;
mod continued;
pub mod controller;
pub mod coverage;
pub mod crd;
pub mod decisions;
pub mod doctor;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod ledger;
mod loose_json;
pub mod metrics;
#[cfg(feature = "simulator")]
pub mod playground;
pub mod policy;
pub mod readiness;
pub mod redis;
mod sampler;
#[cfg(feature = "simulator")]
pub mod scenario;
pub mod secret;
pub mod server;
pub mod service;
pub mod shutdown;
pub mod snapshot;
pub mod source;
pub mod telemetry;
pub mod validate;
#[cfg(feature = "simulator")]
mod xml;
