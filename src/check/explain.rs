//! Why a session ends, in its metadata at Auth0, before it is revoked (`explainEvictions`).
//!
//! An eviction never fails for it: it takes at most a second and half of the time that is left, stops at the first failure, and
//! is then left out for a minute.

use std::time::Duration;

use tokio::time::Instant;

use super::Checker;
use super::failure_log::Task;
use crate::auth0::{CallContext, EndReason, TenantClient};
use crate::policy::Policy;

/// The longest time that it takes of an eviction: Auth0 answers in a tenth of it.
const MAX_TIME: Duration = Duration::from_secs(1);
/// How long it is left out for a tenant after a failure, so that a plan without it costs few requests.
const PAUSE: Duration = Duration::from_secs(60);
/// What a failure mostly needs.
const REMEDY: &str = "grant update:sessions, and see that the plan has session metadata; or remove explainEvictions";

impl Checker {
    /// Writes into the metadata of the sessions why they end.
    pub(super) async fn explain_evictions(
        &self,
        (policy, client): (&Policy, &TenantClient),
        sids: &[String],
        reason: EndReason,
        call: &CallContext,
    ) {
        let tenant = policy.scope.tenant.domain();
        if self.failures.has_failed_within(PAUSE, tenant, Task::Explain) {
            return;
        }
        let now = Instant::now();
        let time = MAX_TIME.min(call.deadline.saturating_duration_since(now) / 2);
        let call = CallContext { deadline: now + time, ..call.clone() };
        for sid in sids {
            if let Err(error) = client.explain_end(sid, reason, &call).await {
                if let Some(suppressed) = self.failures.failed(tenant, Task::Explain, error.failure) {
                    tracing::warn!(policy = %policy.scope.name, tenant, %error, suppressed, remedy = REMEDY, "a session is evicted, and its metadata does not say why");
                }
                return;
            }
        }
        if let Some(failures) = self.failures.succeeded(tenant, Task::Explain) {
            tracing::info!(tenant, failures, "the metadata of evicted sessions says why again");
        }
    }
}
