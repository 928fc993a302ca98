//! What the context of a check says of an Action that is not set up for the policies: it is counted, and sometimes warned about.

use std::time::Duration;

use super::{Checker, TenantHandling, Walk};
use crate::policy::{CallerView, Login, PolicyVersion};
use crate::sampler::LogSampler;

/// The warnings of a kind that are written at once: one for each of a few Actions.
const LINES: u32 = 5;
/// How often one more of a kind is written: as often as other lines about callers.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// Bounds the warnings: an Action sends the same with every login.
pub(super) struct ActionWarnings {
    /// About tenants that no policy knows.
    unknown_tenants: LogSampler,
    /// About protocols that are not asked about.
    not_asked: LogSampler,
}

impl Default for ActionWarnings {
    fn default() -> Self {
        let [unknown_tenants, not_asked] = [(); 2].map(|()| LogSampler::new(LINES, LINE_INTERVAL));
        Self { unknown_tenants, not_asked }
    }
}

impl Checker {
    /// Counts a check whose Action does not ask about a protocol that the policy limits, and sometimes warns about it.
    pub(super) fn note_not_asked(&self, login: &Login, version: Option<&PolicyVersion>) {
        let Some(PolicyVersion::Compiled(policy)) = version else { return };
        let Some(protocol) = policy.not_asked(login.context()).next() else { return };
        self.metrics.protocol_not_asked(policy);
        if let Some(suppressed) = self.action_warnings.not_asked.admit() {
            let remedy = "set SKIP_PROTOCOLS of the Action to the protocols that all policies of the tenant skip";
            tracing::warn!(
                policy = %policy.scope.name,
                protocol,
                suppressed,
                remedy,
                "the Action does not ask about a protocol that the policy limits"
            );
        }
    }
}

impl Walk<'_> {
    /// Counts a login whose tenant no policy knows, and sometimes warns about it.
    pub(super) fn note_unknown_tenant(&self, view: &CallerView, assumed: Option<&str>) {
        let Some(checker) = self.checker else { return };
        let tenant = view.only_tenant().unwrap_or_default();
        let handling = if assumed.is_some() { TenantHandling::Assumed } else { TenantHandling::Unlimited };
        checker.metrics.unknown_tenant(tenant, handling);
        if let Some(suppressed) = checker.action_warnings.unknown_tenants.admit() {
            let name = self.login.context().tenant.as_deref();
            let remedy =
                "add a custom domain to tenant.customDomains of the policy; else correct TENANT_DOMAIN of the Action";
            tracing::warn!(
                name,
                assumed,
                suppressed,
                remedy,
                "the request names a tenant that no policy of the caller has"
            );
        }
    }
}
