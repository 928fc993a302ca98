//! What a check does with the ledger when it needs no list: it allows a holder by what is remembered, and remembers the answers
//! that no list decided.

use std::time::Duration;

use super::Walk;
use crate::ledger::{Attempt, ListNeed, SessionKey, UserKey};
use crate::policy::{Answer, CallerView, LimitCheck, PolicyVersion};

/// How long an answer without a policy waits for the ledger: the default `timeout` of a policy.
const NOTE_TIMEOUT: Duration = Duration::from_secs(3);

impl<'a> Walk<'a> {
    /// Takes all steps, and lets the ledger know the answer.
    pub(super) async fn answer(&mut self, view: &'a CallerView) -> Answer {
        let answer = self.take_steps(view).await;
        if self.is_noted {
            return answer;
        }
        // Boxed: few checks come here, and each check in progress would take the memory.
        let answer = Box::new(answer);
        Box::pin(self.note_answer(view, !answer.block)).await;
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
