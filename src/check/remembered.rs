//! What a check does with the ledger when it needs no list: it allows a holder by what is remembered, and remembers the answers
//! that no list decided.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;

use super::Walk;
use crate::ledger::{Attempt, ListNeed, SessionKey, UserKey};
use crate::policy::{Answer, CallerView, LimitCheck, PolicyVersion};

/// How long an answer without a policy, or without a good version of it, waits for the ledger: the default `timeout` of a policy.
pub(super) const NOTE_TIMEOUT: Duration = Duration::from_secs(3);

impl<'a> Walk<'a> {
    /// Takes all steps, and lets the ledger know the answer.
    pub(super) async fn answer(&mut self, view: &'a CallerView) -> Answer {
        let answer = self.take_steps(view).await;
        if self.is_noted {
            return answer;
        }
        // Boxed: few checks come here, and each check in progress would take the memory.
        let answer = Box::new(answer);
        // The answer stands, also after a panic.
        let _ = Box::pin(AssertUnwindSafe(self.note_answer(view, !answer.block)).catch_unwind()).await;
        *answer
    }

    /// Whether the login is allowed by what is remembered (decision 1.13). Counts why it is not.
    pub(super) fn recall(&mut self, attempt: &Attempt, limit_check: LimitCheck<'_>) -> bool {
        let Some(checker) = self.checker else { return false };
        let recheck_after = limit_check.recheck_after().filter(|_| !self.read_only);
        let recalled =
            recheck_after.ok_or(ListNeed::Off).and_then(|recheck_after| attempt.recall(&limit_check, recheck_after));
        checker.metrics.recalled(limit_check.policy().scope.tenant.domain(), recalled.err());
        self.recalled = recalled.ok();
        // A holder is in the listing already.
        self.is_noted = self.recalled.is_some();
        self.is_noted
    }

    /// Lets the ledger remember an answer that no list decided, as soon as the tenant is known: such a login changes what the user
    /// has as any other does (decision 5.16). It is written before the answer is given.
    pub(super) async fn note_answer(&self, view: &CallerView, is_allowed: bool) {
        let (Some(checker), Some(sid)) = (self.checker, self.login.sid()) else { return };
        let (tenant, timeout) = match self.seen.policy {
            Some(PolicyVersion::Compiled(policy)) => (Some(policy.scope.tenant.domain()), policy.timeout),
            Some(PolicyVersion::Invalid(fallback)) => (Some(fallback.scope.tenant.domain()), NOTE_TIMEOUT),
            None => (view.known_tenant(self.login), NOTE_TIMEOUT),
        };
        let Some(tenant) = tenant else { return };
        let key = SessionKey::new(UserKey::new(tenant, self.login.user_id()), sid, self.login.client_id());
        checker.ledger.note_answer(key, is_allowed, self.arrived + timeout).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aws_lc_rs::hmac;
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;
    use crate::check::{CheckMetrics, Checker};
    use crate::coverage::{Coverage, CoverageOptions};
    use crate::decisions::DecisionLog;
    use crate::ledger::{Failover, Ledger, Memory, Terms};
    use crate::metrics::MetricRegistry;
    use crate::policy::{Decision, Login, LoginContext, Manifest, ObjectName, Reason, SessionList};
    use crate::snapshot::Publisher;

    const TENANT: &str = "acme.eu.auth0.com";

    /// A service with a policy that has no good version.
    fn checker() -> Checker {
        let registry = MetricRegistry::new();
        let publisher = Publisher::offline();
        let spec = json!({ "tenant": { "domain": TENANT }, "limits": { "perUser": -1 } });
        let name = ObjectName::new("team", "seats");
        publisher.update(|observed| {
            observed.index.apply_policy(&Manifest { name, generation: 1, created_at: None, spec });
        });
        let ledger = Arc::new(Ledger::new(Failover::new(Memory::new(1_000), None)));
        let decisions = Arc::new(DecisionLog::new(hmac::Key::new(hmac::HMAC_SHA256, b"tests"), None, &registry));
        let metrics = CheckMetrics::new(&registry);
        let last_checks = Arc::clone(metrics.last_checks());
        let coverage = Arc::new(Coverage::new(CoverageOptions::default(), None, &registry, last_checks));
        Checker::new(publisher.current(), ledger, metrics, decisions, coverage)
    }

    #[tokio::test]
    async fn origin_is_remembered_under_a_policy_without_a_good_version() {
        let checker = checker();
        let context = LoginContext { actor: true, ..LoginContext::default() };
        let login = Login::new("u".to_owned(), "c".to_owned(), Some("agent".to_owned()), context).unwrap();
        let snapshot = checker.snapshot();
        let view = snapshot.policy_set.whole_view();
        let answer = checker.check(&snapshot, &view, &login, "id", Instant::now()).await;
        assert!(matches!(answer.reason, Reason::Failed(_)), "{:?}", answer.reason);

        let terms = Terms {
            window: Duration::ZERO,
            longest_check: Duration::ZERO,
            listing_kept_for: Duration::ZERO,
            enforced: true,
            claims: true,
        };
        let deadline = Instant::now() + NOTE_TIMEOUT;
        let key = SessionKey::new(UserKey::new(TENANT, "u"), "customer", "c");
        let mut attempt = checker.ledger.begin(key, terms, deadline).await;
        let since = attempt.since();
        let mut remembered = None;
        let decide = |_: &[_], _: &_, origins: &crate::policy::Origins| {
            remembered = Some(origins.delegated.contains("agent"));
            Decision::Undecided
        };
        attempt.admit(&SessionList::new("u", []), since, deadline, decide).await.unwrap_err();
        assert_eq!(remembered, Some(true));
    }
}
