//! The way of a check, from a login to an answer. One way through, no back and forth.

mod metrics;
pub mod session_lists;

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

pub use metrics::{CheckMetrics, CheckRecord};

use crate::auth0::{CallContext, Error, TenantClient};
use crate::ledger::{Attempt, HOLDERS, Holders, Holding, Ledger, Listed, MAX_LIST_AGE, Terms, User};
use crate::policy::{
    Admission, Answer, CallerView, Decision, Failure, LimitCheck, LimitInputs, Login, Mode, Policy, PolicyVersion,
    Reason, Reentry, Resolution, Verdict,
};
use crate::snapshot::Snapshot;
use session_lists::{ListOrigin, Request, SessionLists};

/// How many sessions are revoked at the same time.
const REVOKED_AT_ONCE: usize = 8;

/// Answers checks.
pub struct Checker {
    current: Arc<ArcSwap<Snapshot>>,
    metrics: CheckMetrics,
    /// Keys the hash under which users appear in logs.
    log_hash_key: hmac::Key,
    ledger: Arc<Ledger>,
    holders: Holders<PolicyVersion>,
    session_lists: SessionLists,
}

impl Checker {
    /// Answers by what is in force. `log_hash_key` keys the hash under which users appear in logs.
    pub fn new(
        current: Arc<ArcSwap<Snapshot>>,
        ledger: Arc<Ledger>,
        metrics: CheckMetrics,
        log_hash_key: hmac::Key,
    ) -> Self {
        Self {
            current,
            metrics,
            log_hash_key,
            ledger,
            holders: Holders::new(HOLDERS),
            session_lists: SessionLists::new(),
        }
    }

    /// Forgets holders whose time has ended, and who asks no more.
    pub fn sweep(&self) {
        self.holders.sweep();
        self.session_lists.sweep();
    }

    /// What is in force: to be taken once for a check.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Answers a login that arrived at `arrived`, by the policies that its caller may use. The answer comes before the
    /// policy's timeout, counted from then.
    pub async fn check(&self, snapshot: &Snapshot, view: &CallerView, login: &Login, arrived: Instant) -> Answer {
        let (tenant, answer) = match view.resolve(login) {
            Resolution::AmbiguousTenant => ("", Answer::allow(Reason::TenantAmbiguous)),
            Resolution::NoPolicy => ("", Answer::allow(Reason::NoPolicy)),
            Resolution::Policy(active_policy) => {
                let verdict = match &*active_policy.version {
                    PolicyVersion::Invalid(_) => Verdict::failed(Failure::PolicyInvalid),
                    PolicyVersion::Compiled(policy) => {
                        self.verdict(snapshot, &active_policy.version, policy, login, arrived).await
                    }
                };
                let answer = active_policy.version.enforcement().answer(verdict, snapshot.force_audit);
                (active_policy.version.scope().tenant.domain(), answer)
            }
        };
        self.record(login, &answer, tenant, arrived);
        answer
    }

    /// The steps before Auth0 is asked, and then the question itself.
    async fn verdict(
        &self,
        snapshot: &Snapshot,
        rule: &Arc<PolicyVersion>,
        policy: &Policy,
        login: &Login,
        arrived: Instant,
    ) -> Verdict {
        let limit_check = match policy.pre_checks(login, Timestamp::now()) {
            Ok(limit_check) => limit_check,
            Err(verdict) => return verdict,
        };
        let user = User::new(policy.scope.tenant.domain(), login.user_id());
        let opened = self.ledger.open(&user, login.sid()).await;
        if opened.revoked {
            return Verdict::SessionRevoked;
        }
        let (Some(client), Some(tenant)) = (snapshot.client(&policy.scope.name), snapshot.tenant(&policy.scope.tenant))
        else {
            return Verdict::failed(Failure::CredentialsMissing);
        };
        let holding = Holding {
            chosen_by: limit_check.chosen_by(),
            user: user.clone(),
            sid: limit_check.sid().to_owned(),
            client_id: limit_check.client_id().to_owned(),
        };
        if policy.reentry == Reentry::KeepPlace && self.holders.covers(rule, &holding) {
            self.metrics.recheck(policy.scope.tenant.domain());
            return Verdict::Within(None);
        }

        let enforced = policy.enforcement.mode == Mode::Enforce && !snapshot.force_audit;
        let terms = Terms { window: policy.admission_window, longest_check: tenant.longest_check };
        let attempt =
            Attempt { user: &user, sid: limit_check.sid(), client_id: limit_check.client_id(), terms, enforced };
        let call = CallContext {
            policy: Some(policy.scope.name.clone()),
            silent: login.context().is_silent(),
            deadline: arrived + policy.timeout,
        };
        let request = Request {
            client,
            user: &user,
            user_id: limit_check.user_id(),
            since: opened.since,
            reusable_for: MAX_LIST_AGE.min(tenant.shortest_admission_window),
            call: &call,
        };
        let verdict = self.ask(request, &tenant.check_slots, limit_check, &attempt).await;
        match verdict {
            Ok((verdict, holder)) => {
                if holder && policy.reentry == Reentry::KeepPlace {
                    self.holders.remember(rule, holding, policy.recheck_after);
                }
                verdict
            }
            Err(verdict) => {
                // What the failure policy answers is final, and the ledger has to know it.
                let block = policy.enforcement.answer(verdict, snapshot.force_audit).block;
                let (user, sid, client_id) =
                    (user.clone(), limit_check.sid().to_owned(), limit_check.client_id().to_owned());
                let ledger = Arc::clone(&self.ledger);
                let told = async move {
                    let attempt = Attempt { user: &user, sid: &sid, client_id: &client_id, terms, enforced };
                    match block {
                        true => ledger.withdraw(&attempt).await,
                        false => ledger.remember(&attempt).await,
                    }
                };
                finish_by(told, call.deadline).await;
                verdict
            }
        }
    }

    /// Lists, decides and admits, and revokes what has to give way. Beside the verdict: whether the session holds a place
    /// under every limit.
    ///
    /// # Errors
    /// The verdict, when it could not be decided or not be carried out.
    async fn ask(
        &self,
        request: Request<'_>,
        places: &Semaphore,
        limit_check: LimitCheck<'_>,
        attempt: &Attempt<'_>,
    ) -> Result<(Verdict, bool), Verdict> {
        let Ok(_place) = places.try_acquire() else {
            return Err(Verdict::failed(Failure::Overloaded));
        };
        let (client, call) = (request.client, request.call);
        let (source, listed) = self.session_lists.get(request).await;
        if source != ListOrigin::Own {
            self.metrics.list_shared(limit_check.policy().scope.tenant.domain(), source);
        }
        let listed = listed.map_err(|error| {
            tracing::warn!(policy = %limit_check.policy().scope.name, %error, "the user's sessions could not be listed");
            Verdict::failed(error.failure)
        })?;
        let sessions = &listed.sessions;
        let list = Listed { sessions, since: listed.since };
        let decide = |admissions: &[Admission], revoked: &HashSet<String>| {
            limit_check.decide(LimitInputs { sessions, admissions, revoked, now: Timestamp::now() })
        };
        let decision = self.ledger.admit(attempt, list, call.deadline, decide).await?;
        let verdict = Verdict::from(&decision);
        match decision {
            Decision::Within { holder, .. } => {
                // Only a place that the list shows is relied on later: a login that is remembered may never complete.
                let shown = sessions.shows(limit_check.sid(), limit_check.client_id());
                Ok((verdict, holder && shown))
            }
            Decision::Evict { count, victims } if attempt.enforced => {
                let Eviction { revoked, alive, failure } = evict(client, victims, call).await;
                let counts = (revoked.len(), alive.len());
                let (ledger, user) = (Arc::clone(&self.ledger), attempt.user.clone());
                finish_by(async move { ledger.settle(&user, &revoked, &alive).await }, call.deadline).await;
                let (revoked, alive) = counts;
                match failure {
                    None => Ok((verdict, false)),
                    Some(error) => {
                        tracing::warn!(policy = %limit_check.policy().scope.name, %error, revoked, alive, "sessions could not be revoked");
                        Err(Verdict::Failed { failure: error.failure, count: Some(count), revoked: Some(revoked) })
                    }
                }
            }
            Decision::Exceeded { .. } | Decision::Evict { .. } => Ok((verdict, false)),
        }
    }

    /// Counts the check and writes its line.
    fn record(&self, login: &Login, answer: &Answer, tenant: &str, arrived: Instant) {
        let tag = hmac::sign(&self.log_hash_key, login.user_id().as_bytes());
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
            limit_scope = answer.count.map(|count| count.limit_scope.as_str()),
            active_sessions = answer.count.map(|count| count.active),
            revoked_sessions = answer.revoked_sessions,
            duration_ms = took.as_secs_f64() * 1000.0,
            "check"
        );
    }
}

/// Lets the ledger take note of what became of a check. It does so in any case, and is waited for until the deadline: no answer
/// is late because others of the same user are before it.
async fn finish_by(note: impl Future<Output = ()> + Send + 'static, deadline: Instant) {
    let finish_by = tokio::spawn(note);
    // Past the deadline it goes on by itself.
    let _ = timeout_at(deadline, finish_by).await;
}

/// What became of the sessions that had to give way.
#[derive(Default)]
struct Eviction {
    /// Revoked, or already gone.
    revoked: Vec<String>,
    alive: Vec<String>,
    /// Why the first of those could not be revoked.
    failure: Option<Error>,
}

/// Revokes sessions, some at a time; all are tried, whatever becomes of the others.
async fn evict(client: &TenantClient, victims: Vec<String>, call: &CallContext) -> Eviction {
    let revoke = |sid: String| async move {
        let result = client.revoke_session(&sid, call).await;
        (sid, result)
    };
    let mut results = stream::iter(victims).map(revoke).buffer_unordered(REVOKED_AT_ONCE);
    let mut eviction = Eviction::default();
    while let Some((sid, result)) = results.next().await {
        match result {
            Ok(_) => eviction.revoked.push(sid),
            Err(error) => {
                eviction.alive.push(sid);
                eviction.failure.get_or_insert(error);
            }
        }
    }
    eviction
}
