//! The revocations of a check.

use futures::stream::{self, StreamExt};

use super::Checker;
use super::failure_log::Task;
use crate::auth0::{CallContext, EndReason, Error, TenantClient};
use crate::ledger::Eviction;
use crate::policy::Policy;

/// The maximum number of concurrent revocations of one check. A production tenant accepts bursts of 50, so other checks still get
/// requests.
const MAX_CONCURRENT_REVOCATIONS: usize = 8;

impl Checker {
    /// Revokes sessions, several at a time. It tries all of them, and returns the first error.
    pub(super) async fn evict(
        &self,
        (policy, client): (&Policy, &TenantClient),
        victims: Vec<String>,
        reason: EndReason,
        call: &CallContext,
    ) -> (Eviction, Option<Error>) {
        if policy.explain_evictions {
            // On the heap: few policies do it, and each check takes the memory of all its steps.
            Box::pin(self.explain_evictions((policy, client), &victims, reason, call)).await;
        }
        let revoke = |sid: String| async move {
            let result = client.revoke_session(&sid, call).await;
            (sid, result)
        };
        let mut results = stream::iter(victims).map(revoke).buffer_unordered(MAX_CONCURRENT_REVOCATIONS);
        let (mut eviction, mut failure) = (Eviction::default(), None);
        while let Some((sid, result)) = results.next().await {
            match result {
                Ok(_) => eviction.revoked.push(sid),
                Err(error) => {
                    eviction.not_revoked.push(sid);
                    failure.get_or_insert(error);
                }
            }
        }
        (eviction, failure)
    }

    /// Notes that sessions of the tenant were revoked, and writes a line when that ends an outage.
    pub(super) fn note_revoked(&self, tenant: &str) {
        if let Some(failures) = self.failures.succeeded(tenant, Task::Revoke) {
            tracing::info!(tenant, failures, "sessions can be revoked again");
        }
    }
}
