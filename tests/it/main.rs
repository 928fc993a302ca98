//! Tests that need sockets, processes or files, one module per subject.

// Helpers outside of `#[test]` functions may panic like the tests.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, clippy::type_complexity)]

mod api_server;
mod assembly;
mod auth0_bounds;
mod auth0_client;
mod auth0_connections;
mod auth0_proxy;
mod auth0_retries;
mod authority;
mod book;
#[path = "../fixtures/broken_manifests.rs"]
#[expect(dead_code, reason = "the lines and words are for the tests of `validate`")]
mod broken_manifests;
mod budget;
mod ca_file;
mod cardinality;
mod check;
mod choose;
mod cli;
mod client_certificates;
mod clock;
mod cluster;
mod clusters;
mod command;
mod common;
mod connections;
mod control_plane;
mod crd;
mod docs;
mod doctor;
mod endurance;
mod environment;
mod eviction;
mod explain;
mod failures;
mod faults;
mod folder;
mod fresh_panels;
mod http;
mod https;
mod lease;
mod ledger;
mod lists;
mod log_lines;
mod log_streams;
mod login_host;
mod memory;
mod monitoring;
mod node_demo;
mod not_asked;
mod origins;
mod overrides;
mod panics;
mod partial_lists;
mod playground;
mod plot;
mod policy_tests;
mod populations;
mod ports;
mod probe;
mod process;
mod rbac;
mod redis_proxy;
mod redis_server;
mod remembered;
mod resource;
mod scenario;
mod secrets;
#[path = "../fixtures/session_policies.rs"]
mod session_policies;
mod shutdown;
mod signed_tokens;
mod simulator;
mod soak;
mod strategies;
mod tenant_names;
mod tenant_share;
mod traces;
mod unread;
mod user_ids;
mod walls;
mod warmth;
mod why;
