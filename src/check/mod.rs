//! The steps of a check, from a login to an answer, for the server and for `session-checker check`.
//!
//! ```text
//!   resolve ──▶ pre-checks ──▶ begin ──▶ credential ──▶ recall ──▶ list, admit ──▶ evict ──▶ answer ──▶ finish
//!                              ledger                   ledger     lists, ledger   auth0                ledger
//! ```
//!
//! A dry run does not use the ledger, and it revokes nothing.

mod action_warnings;
mod blocked_users;
mod choice;
mod dry_run;
mod evict;
mod explain;
mod failure_log;
mod metrics;
mod noted;
mod over_limit;
mod remembered;
pub mod session_lists;

use std::collections::HashSet;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt;
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

pub use choice::{Choices, Chosen, ListedDevices};
pub use dry_run::{DryRun, Hypothesis, dry_run};
pub use metrics::{CheckMetrics, CheckRecord, TenantHandling};

use crate::auth0::{CallContext, EndReason};
use crate::clock::ServiceClock;
use crate::coverage::Coverage;
use crate::decisions::DecisionLog;
use crate::ledger::{Attempt, Eviction, Ledger, MAX_LIST_AGE, Recalled, SessionKey, Terms, UserKey, listing_kept_for};
use crate::policy::{
    Admission, Answer, CallerView, Completeness, Decision, Failure, LimitCheck, LimitInputs, Login, Mode, ObjectName,
    Origins, Policy, PolicyScope, PolicyVersion, Reason, Resolution, SessionRole, Verdict,
};
use crate::snapshot::Snapshot;
use action_warnings::ActionWarnings;
use choice::Asking;
use failure_log::{FailureLog, Task};
use remembered::NOTE_TIMEOUT;
use session_lists::{ListOrigin, ListRequest, SessionListing, SessionLists};

/// Answers checks.
pub struct Checker {
    current: Arc<ArcSwap<Snapshot>>,
    metrics: CheckMetrics,
    decisions: Arc<DecisionLog>,
    action_warnings: ActionWarnings,
    failures: FailureLog,
    ledger: Arc<Ledger>,
    session_lists: SessionLists,
    clock: ServiceClock,
    coverage: Arc<Coverage>,
    /// What asking people which sessions to end needs.
    asking: Asking,
}

/// The sessions that a decision counted.
struct CountedSessions {
    listing: Arc<SessionListing>,
    /// The role of each session, in the order of the list.
    roles: Vec<SessionRole>,
}

/// The state of a check, or of a dry run, between its steps.
struct Walk<'a> {
    /// Has the ledger; `None` in a dry run.
    checker: Option<&'a Checker>,
    snapshot: &'a Snapshot,
    login: &'a Login,
    arrived: Instant,
    /// The attempt to finish.
    attempt: Option<Attempt>,
    /// The sessions it revoked or could not revoke.
    eviction: Eviction,
    seen: DryRun<'a>,
    /// The sessions by which a check stopped the login or ended others.
    counted: Option<CountedSessions>,
    /// What the login was allowed by, when no list was needed.
    recalled: Option<Recalled>,
    /// Whether the ledger knows the answer, or need not.
    is_noted: bool,
    /// Whether the tenant is not named but assumed: the check reads, and changes nothing.
    read_only: bool,
}

impl Checker {
    /// Answers by the current snapshot. `decisions` has the key of the hash under which users appear in logs.
    pub fn new(
        current: Arc<ArcSwap<Snapshot>>,
        ledger: Arc<Ledger>,
        metrics: CheckMetrics,
        decisions: Arc<DecisionLog>,
        coverage: Arc<Coverage>,
    ) -> Self {
        Self {
            current,
            metrics,
            decisions,
            action_warnings: ActionWarnings::default(),
            failures: FailureLog::default(),
            ledger,
            session_lists: SessionLists::default(),
            clock: ServiceClock::default(),
            coverage,
            asking: Asking::default(),
        }
    }

    /// Lets decisions and lists follow this clock in place of the system's.
    #[must_use]
    pub fn with_clock(self, clock: ServiceClock) -> Self {
        Self { session_lists: SessionLists::with_clock(clock.clone()), clock, ..self }
    }

    /// Forgets what has ended, and users without a recent check.
    pub fn sweep(&self) {
        self.ledger.sweep();
        self.session_lists.sweep();
        self.failures.sweep();
        self.metrics.kept_lists(self.session_lists.kept());
        self.coverage.sweep();
        self.decisions.sweep();
        self.asking.sweep();
    }

    /// The records of decisions.
    pub fn decisions(&self) -> &DecisionLog {
        &self.decisions
    }

    /// When a policy last answered a check since this process started.
    pub fn last_check(&self, policy: &ObjectName) -> Option<Timestamp> {
        self.metrics.last_checks().get(policy.as_str())
    }

    /// Creates the series of the policies of a snapshot, and ends those of others.
    pub fn show_policies(&self, snapshot: &Snapshot) {
        self.metrics.show_policies(snapshot.policy_set.active_policies().iter().filter_map(|active_policy| {
            match &*active_policy.version {
                PolicyVersion::Compiled(policy) => Some(policy),
                PolicyVersion::Invalid(_) => None,
            }
        }));
    }

    /// The current snapshot: to be taken once for a check.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Answers a login that arrived at `arrived`, by the policies that its caller may use. The policy's
    /// timeout starts at `arrived`.
    pub async fn check(
        &self,
        snapshot: &Snapshot,
        view: &CallerView,
        login: &Login,
        request_id: &str,
        arrived: Instant,
    ) -> Answer {
        let mut walk = Walk::new(Some(self), snapshot, login, arrived);
        let mut answer = walk.answer(view).await;
        if answer.block && answer.asks {
            let limit_check = walk.seen.limit_check;
            let url = || limit_check.and_then(|limit_check| self.choose_url(login, limit_check));
            answer.choose_url = after_decision(url).flatten();
        }
        let tenant = walk.seen.policy.map_or("", |policy| policy.scope().tenant.domain());
        let listing_age = walk.recalled.map(|recalled| recalled.age);
        let (user, took) = (self.decisions.hash_number(login.user_id()), arrived.elapsed());
        let version = walk.seen.policy;
        let record = CheckRecord { answer: &answer, login, version, tenant, user, took, listing_age };
        after_decision(|| self.record(record));
        after_decision(|| self.note_not_asked(login, walk.seen.policy));
        after_decision(|| self.note(login, request_id, record, &walk));
        let has_log_streams = snapshot.policy_set.has_log_streams();
        after_decision(|| self.coverage.note_check(login.sid(), login.client_id(), has_log_streams));
        answer
    }

    /// Lists, decides and records the decision.
    ///
    /// # Errors
    /// The verdict, when the sessions could not be listed or the ledger could not record a decision.
    async fn admit(
        &self,
        attempt: &mut Attempt,
        version: &Arc<PolicyVersion>,
        limit_check: LimitCheck<'_>,
        request: ListRequest<'_>,
    ) -> Result<(Decision, Option<CountedSessions>), Verdict> {
        let enough_for = Some((version, limit_check));
        let mut decided = self.decide(attempt, limit_check, ListRequest { enough_for, ..request }).await?;
        if let (Err(Verdict::Failed { failure: Failure::UpstreamError, .. }), listing, _) = &decided
            && listing.sessions.completeness() == Completeness::Enough
        {
            // A session that counted while the list was read has ended, or this service revoked it.
            decided = self.decide(attempt, limit_check, request).await?;
        }
        let (decision, listing, roles) = decided;
        Ok((decision?, roles.map(|roles| CountedSessions { listing, roles })))
    }

    /// Lists the sessions, and decides by them and the ledger. The inner error is the verdict of the ledger. A decision that stops
    /// or ends a session has the roles of the listed ones.
    ///
    /// # Errors
    /// The verdict, when the sessions could not be listed.
    async fn decide(
        &self,
        attempt: &mut Attempt,
        limit_check: LimitCheck<'_>,
        request: ListRequest<'_>,
    ) -> Result<(Result<Decision, Verdict>, Arc<SessionListing>, Option<Vec<SessionRole>>), Verdict> {
        let policy = limit_check.policy();
        let (origin, listing) = self.session_lists.get(request).await;
        if origin != ListOrigin::Own {
            self.metrics.list_shared(policy.scope.tenant.domain(), origin);
        }
        let tenant = policy.scope.tenant.domain();
        let listing = listing.map_err(|error| {
            if let Some(suppressed) = self.failures.failed(tenant, Task::List, error.failure) {
                tracing::warn!(policy = %policy.scope.name, tenant, %error, suppressed, "the user's sessions could not be listed");
            }
            Verdict::failed(error.failure)
        })?;
        if let Some(failures) = self.failures.succeeded(tenant, Task::List) {
            tracing::info!(tenant, failures, "users' sessions can be listed again");
        }
        let (sessions, mut roles) = (&listing.sessions, None);
        let decide = |admissions: &[Admission], revoked: &HashSet<String>, origins: &Origins| {
            let now = sessions.tenant_time(self.clock.timestamp());
            let inputs = LimitInputs { sessions, admissions, revoked, origins, now };
            let decision = limit_check.decide(inputs);
            let is_notable =
                !matches!(decision, Decision::Within { .. } | Decision::UnknownUser { .. } | Decision::Undecided);
            roles = is_notable.then(|| limit_check.explain(inputs));
            decision
        };
        let decision = attempt.admit(sessions, listing.since, request.call.deadline, decide).await;
        Ok((decision, listing, roles))
    }

    /// Counts the check and writes its log line.
    fn record(&self, record: CheckRecord<'_>) {
        let CheckRecord { answer, login, tenant, user, took, listing_age, .. } = record;
        self.metrics.check(record);
        tracing::info!(
            policy = answer.policy.as_ref().map(tracing::field::display),
            client_id = login.client_id(),
            user = %format_args!("{user:016x}"),
            block = answer.block,
            reason = answer.reason.as_str(),
            audited_reason = answer.audited_reason.map(Reason::as_str),
            limit = answer.count.map(|count| count.limit),
            limit_scope = answer.count.map(|count| count.limit_scope.as_str()),
            active_sessions = answer.count.map(|count| count.active),
            revoked_sessions = answer.revoked_sessions,
            listing_age_s = listing_age.map(|age| age.as_secs()),
            duration_ms = took.as_secs_f64() * 1000.0,
            "check"
        );
        // After the line, which has these fields itself.
        let span = tracing::Span::current();
        if span.is_disabled() {
            return;
        }
        span.record("session_checker.decision", if answer.block { "block" } else { "allow" });
        span.record("session_checker.reason", answer.reason.as_str());
        span.record("session_checker.tenant", tenant);
        if let Some(policy) = &answer.policy {
            span.record("session_checker.policy", policy.as_str());
        }
    }
}

/// Takes a step that follows the decision. A panic in it, which the panic hook logs and counts, must not take the answer away.
fn after_decision<T>(step: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(step)).ok()
}

impl<'a> Walk<'a> {
    fn new(checker: Option<&'a Checker>, snapshot: &'a Snapshot, login: &'a Login, arrived: Instant) -> Self {
        let (eviction, seen) = (Eviction::default(), DryRun::default());
        let (attempt, counted, recalled) = (None, None, None);
        let (is_noted, read_only) = (false, false);
        Self { checker, snapshot, login, arrived, attempt, eviction, seen, counted, recalled, is_noted, read_only }
    }

    /// Takes all steps.
    async fn take_steps(&mut self, view: &'a CallerView) -> Answer {
        let locale = self.login.context().locale.as_deref();
        let version = match view.resolve(self.login) {
            Resolution::AmbiguousTenant => return Answer::allow(Reason::TenantAmbiguous),
            Resolution::NoPolicy => return Answer::allow(Reason::NoPolicy),
            Resolution::UnknownTenant => {
                self.note_unknown_tenant(view, None);
                return Answer::allow(Reason::TenantUnknown);
            }
            Resolution::AssumedTenant(active_policy) => {
                self.note_unknown_tenant(view, Some(active_policy.version.scope().tenant.domain()));
                self.read_only = true;
                &active_policy.version
            }
            Resolution::Policy(active_policy) => &active_policy.version,
        };
        self.seen.policy = Some(&**version);
        let policy = match &**version {
            PolicyVersion::Compiled(policy) => policy,
            PolicyVersion::Invalid(fallback) => {
                Box::pin(self.note_origins(&fallback.scope, NOTE_TIMEOUT)).await;
                let forced = self.snapshot.is_audit_forced(&fallback.scope.name);
                return fallback.enforcement.answer(Verdict::failed(Failure::PolicyInvalid), locale, forced);
            }
        };
        // After a panic the failure policy answers, and the ledger learns that below. The panic hook has logged it. What a check
        // changes is behind locks, and no write leaves it half done.
        let decided = AssertUnwindSafe(self.verdict(version, policy)).catch_unwind().await;
        let (Ok(verdict) | Err(verdict)) = decided.unwrap_or_else(|_| Err(Verdict::failed(Failure::InternalError)));
        let forced = self.snapshot.is_audit_forced(&policy.scope.name);
        let answer = policy.enforcement.answer(verdict, locale, forced);
        // An attempt that only reads is dropped: its login must not count.
        if let Some(attempt) = self.attempt.take().filter(|_| !self.read_only) {
            self.is_noted = true;
            let finish = attempt.finish(take(&mut self.eviction), !answer.block, self.arrived + policy.timeout);
            // The decision stands, as after the other steps that follow it.
            let _ = AssertUnwindSafe(finish).catch_unwind().await;
        }
        answer
    }

    /// Lets the ledger remember how the session began. Few logins have such an origin.
    async fn note_origins(&self, scope: &PolicyScope, timeout: Duration) {
        let (Some(checker), Some(sid), false) = (self.checker, self.login.sid(), self.read_only) else { return };
        for origin in self.login.context().origins() {
            let user = UserKey::new(scope.tenant.domain(), self.login.user_id());
            let key = SessionKey::new(user, sid, self.login.client_id());
            let deadline = self.arrived + timeout;
            if timeout_at(deadline, checker.ledger.note(&key, &origin)).await.is_err() {
                tracing::warn!(policy = %scope.name, "the ledger could not remember how a session began");
            }
        }
    }

    /// The steps under a policy.
    ///
    /// # Errors
    /// The verdict, when a step ends the check early.
    async fn verdict(&mut self, version: &Arc<PolicyVersion>, policy: &'a Policy) -> Result<Verdict, Verdict> {
        self.note_origins(&policy.scope, policy.timeout).await;
        let chosen_by = policy.matching_override(self.login, self.now());
        if let Some((checker, position)) = self.checker.zip(chosen_by) {
            checker.metrics.override_matched(policy, position);
        }
        let mut limit_check = policy.pre_checks_by(chosen_by, self.login)?;
        if self.read_only {
            limit_check = limit_check.without_revoking();
        }
        if let Some(checker) = self.checker.filter(|checker| checker.chooser().is_none()) {
            limit_check = checker.without_page(limit_check);
        }
        self.seen.limit_check = Some(limit_check);
        if let Some(decision) = self.decide_by_given(limit_check) {
            return Ok(Verdict::from(&decision));
        }
        let snapshot = self.snapshot;
        let credentials_missing = Verdict::failed(Failure::CredentialsMissing);
        let tenant = snapshot.tenant(&policy.scope.tenant).ok_or(credentials_missing)?;
        let user = UserKey::new(policy.scope.tenant.domain(), limit_check.user_id());
        let key = SessionKey::new(user, limit_check.sid(), limit_check.client_id());
        let is_forced = snapshot.is_audit_forced(&policy.scope.name);
        let enforced = policy.enforcement.mode == Mode::Enforce && !is_forced && !self.read_only;
        let mut attempt = None;
        if let Some(checker) = self.checker {
            let kept_for = listing_kept_for(tenant.longest_recheck);
            // A login that may be another tenant's counts against no list, and its list is not remembered.
            let (window, listing_kept_for) = match self.read_only {
                true => (Duration::ZERO, Duration::ZERO),
                false => (policy.admission_window, kept_for),
            };
            let claims = !self.read_only;
            let terms = Terms { window, longest_check: tenant.longest_check, listing_kept_for, enforced, claims };
            let begun = checker.ledger.begin(key.clone(), terms, self.arrived + policy.timeout).await;
            if begun.was_revoked() {
                return Err(Verdict::SessionRevoked);
            }
            attempt = Some(begun);
        }
        let client = snapshot.client(&policy.scope.name).ok_or(credentials_missing)?;
        if let Some(attempt) = &attempt
            && self.recall(attempt, limit_check)
        {
            return Ok(Verdict::Within(None));
        }

        let call = CallContext {
            policy: Some(policy.scope.name.clone()),
            silent: self.login.context().is_silent(),
            deadline: self.arrived + policy.timeout,
        };
        // From here on the ledger has to know the answer.
        self.attempt = attempt;
        let _slot = tenant.check_slots.try_acquire().map_err(|_| Verdict::failed(Failure::Overloaded))?;
        let decision = match (self.checker, &mut self.attempt) {
            (Some(checker), Some(attempt)) => {
                let max_age = MAX_LIST_AGE.min(tenant.shortest_admission_window);
                let request = ListRequest {
                    client,
                    user: &key.user,
                    since: attempt.since(),
                    max_age,
                    call: &call,
                    enough_for: None,
                };
                let (decision, counted) = checker.admit(attempt, version, limit_check, request).await?;
                self.counted = counted;
                decision
            }
            _ => self.preview(limit_check, client, &call).await?,
        };
        let verdict = Verdict::from(&decision);
        match (decision, self.checker) {
            (Decision::Evict { count, victims }, Some(checker)) if enforced => {
                let (eviction, failure) = checker.evict((policy, client), victims, EndReason::Evicted, &call).await;
                let (revoked, not_revoked) = (eviction.revoked.len(), eviction.not_revoked.len());
                self.eviction = eviction;
                let tenant = policy.scope.tenant.domain();
                let Some(error) = failure else {
                    checker.note_revoked(tenant);
                    return Ok(verdict);
                };
                if let Some(suppressed) = checker.failures.failed(tenant, Task::Revoke, error.failure) {
                    tracing::warn!(policy = %policy.scope.name, tenant, %error, revoked, alive = not_revoked, suppressed, "some sessions could not be revoked");
                }
                Err(Verdict::Failed { failure: error.failure, count: Some(count), revoked: Some(revoked) })
            }
            _ => Ok(verdict),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a call of the function would make, without the call.
    fn future_size<T>(
        _: impl FnOnce(&'static Checker, &'static Snapshot, &'static CallerView, &'static Login) -> T,
    ) -> usize {
        size_of::<T>()
    }

    #[test]
    fn check_in_progress_takes_few_bytes() {
        let now = Instant::now();
        let size = future_size(|checker, snapshot, view, login| checker.check(snapshot, view, login, "id", now));
        assert!(size <= 6_000, "{size}");
    }
}
