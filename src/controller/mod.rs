//! Kubernetes: what only a service in a cluster does.

pub mod lease;

use std::time::Duration;

/// The field manager of everything that the service writes.
const FIELD_MANAGER: &str = "session-checker";
/// How long a watch lasts before it is renewed: some load balancers drop what is idle for 240 s without a word.
const WATCH_TIMEOUT: Duration = Duration::from_secs(200);
