//! A folder of policies and Secrets while the service runs: valid, invalid and missing files, and what stays active.

mod files;
mod secrets;
mod service;

use std::os::unix::fs::symlink;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_checker::server::TlsFiles;
use simulator::{Application, Session, Simulator};
use tempfile::TempDir;

use crate::common::{
    APP, DOMAIN, Running, TOKEN, callers, credentials, eventually, folder, policy, provider, tenant, write,
};
use crate::https::{Https, write_certificate};

const OTHER_TOKEN: &str = "another-token-of-some-length";

fn empty() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The three documents that a service needs; the policy has this limit.
fn limited(limit: u32) -> [Value; 3] {
    [credentials(), callers(), policy("one", json!({ "limits": { "perClient": limit } }))]
}

fn text(documents: &[Value]) -> String {
    documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

async fn serve(tenant: &Simulator, folder: &TempDir) -> Running {
    Running::path(tenant, folder.path(), &[]).await
}
