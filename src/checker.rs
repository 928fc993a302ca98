//! The way of a check, from a login to an answer. One way through, no back and forth.

use std::collections::HashSet;
use std::sync::Arc;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::in_force::{Current, InForce};
use crate::metrics::{CheckRecord, Metrics};
use crate::policy::{Answer, Decision, Evidence, Failure, Governance, Login, Policy, Reason, Rule, Verdict, View};

/// Answers checks.
pub struct Checker {
    current: Current,
    metrics: Arc<Metrics>,
    options: CheckerOptions,
    /// A place for each check that may wait for Auth0 at the same time.
    places: Semaphore,
}

/// How checks are answered, beside the policies.
#[derive(Debug)]
pub struct CheckerOptions {
    /// How many checks may wait for Auth0 at the same time; more are answered `overloaded`.
    pub max_in_flight: usize,
    /// Whether every policy only audits.
    pub force_audit: bool,
    /// Keys the hash under which users appear in logs.
    pub log_hash_key: hmac::Key,
}

impl Checker {
    /// Answers by what is in force.
    pub fn new(current: Current, metrics: Arc<Metrics>, options: CheckerOptions) -> Self {
        metrics.forced_audit(options.force_audit);
        Self { current, metrics, places: Semaphore::new(options.max_in_flight), options }
    }

    /// What is in force: to be taken once for a check.
    pub fn in_force(&self) -> Arc<InForce> {
        self.current.load_full()
    }

    /// Whether every policy only audits.
    pub fn force_audit(&self) -> bool {
        self.options.force_audit
    }

    /// Answers a login that arrived at `arrived`, by the policies that its caller may use. The answer comes before the
    /// policy's timeout, counted from then.
    pub async fn check(&self, in_force: &InForce, view: &View, login: &Login, arrived: Instant) -> Answer {
        let (tenant, answer) = match view.govern(login) {
            Governance::Ambiguous => ("", Answer::allow(Reason::TenantAmbiguous)),
            Governance::Nobody => ("", Answer::allow(Reason::NoPolicy)),
            Governance::By(governor) => {
                let verdict = match &*governor.rule {
                    Rule::Invalid(_) => Verdict::failed(Failure::PolicyInvalid),
                    Rule::Compiled(policy) => self.verdict(in_force, policy, login, arrived).await,
                };
                let answer = governor.rule.stance().answer(verdict, self.options.force_audit);
                (governor.rule.claim().tenant.domain.as_str(), answer)
            }
        };
        self.record(login, &answer, tenant, arrived);
        answer
    }

    async fn verdict(&self, in_force: &InForce, policy: &Policy, login: &Login, arrived: Instant) -> Verdict {
        let question = match policy.before_asking(login, Timestamp::now(), |_| false) {
            Ok(question) => question,
            Err(verdict) => return verdict,
        };
        let Some(client) = in_force.client(&policy.claim.name) else {
            return Verdict::failed(Failure::CredentialsMissing);
        };
        let Ok(_place) = self.places.try_acquire() else {
            return Verdict::failed(Failure::Overloaded);
        };
        let sessions = match client.list_sessions(login.user_id(), arrived + policy.timeout).await {
            Ok(sessions) => sessions,
            Err(error) => {
                tracing::warn!(policy = %policy.claim.name, %error, "the user's sessions could not be listed");
                return Verdict::failed(error.failure);
            }
        };
        let evidence =
            Evidence { sessions: &sessions, admissions: &[], revoked: &HashSet::new(), now: Timestamp::now() };
        match question.decide(evidence) {
            Decision::Within { count, .. } => Verdict::Within(Some(count)),
            Decision::Exceeded { count, revoke_session } => Verdict::Exceeded { count, revoke_session },
            Decision::Evict { .. } => Verdict::failed(Failure::UpstreamError),
        }
    }

    /// Counts the check and writes its line.
    fn record(&self, login: &Login, answer: &Answer, tenant: &str, arrived: Instant) {
        let tag = hmac::sign(&self.options.log_hash_key, login.user_id().as_bytes());
        let user = u64::from_be_bytes(tag.as_ref()[..8].try_into().expect("a tag is longer than that"));
        let took = arrived.elapsed();
        self.metrics.check(CheckRecord { answer, tenant, user, took });
        tracing::info!(
            policy = answer.policy.as_ref().map(tracing::field::display),
            client_id = login.client_id(),
            user = format!("{user:016x}"),
            block = answer.block,
            reason = answer.reason.as_str(),
            audited_reason = answer.audited_reason.map(Reason::as_str),
            limit = answer.count.map(|count| count.limit),
            limit_scope = answer.count.map(|count| count.scope.as_str()),
            active_sessions = answer.count.map(|count| count.active),
            revoked_sessions = answer.revoked_sessions,
            duration_ms = took.as_secs_f64() * 1000.0,
            "check"
        );
    }
}
