//! A check without any effect, for `session-checker check`: it can also decide by sessions and a time that are given.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Walk;
use crate::auth0::{CallContext, Error, TenantClient};
use crate::policy::{
    Answer, CallerView, Decision, LimitCheck, LimitInputs, Login, Origins, PolicyVersion, SessionList, SessionRole,
    Verdict,
};
use crate::snapshot::Snapshot;

/// What a dry run takes as given.
#[derive(Default)]
pub struct Hypothesis {
    /// The user's sessions. Without them, the tenant is asked.
    pub sessions: Option<SessionList>,
    /// The time of the login. Without it, now.
    pub at: Option<Timestamp>,
}

/// What a dry run saw before the answer. Nothing is seen of the steps that were not reached.
#[derive(Default)]
pub struct DryRun<'a> {
    /// The policy that governs the login.
    pub policy: Option<&'a PolicyVersion>,
    /// The limits that apply, and the override that chose them.
    pub limit_check: Option<LimitCheck<'a>>,
    /// The user's sessions and the role of each, in the order of the list; or why they could not be listed.
    pub sessions: Option<Result<(SessionList, Vec<SessionRole>), Error>>,
    /// The ids of the sessions that Enforce would revoke.
    pub victims: Vec<String>,
    /// How long a service that remembers these sessions allows the login by them, without a list. `None` when it does not.
    pub recheck_after: Option<Duration>,
    /// Boxed: a check of the server has none, and would carry its bytes.
    pub(super) given: Option<Box<Hypothesis>>,
}

/// Takes the steps of a check without any effect, and returns the answer and what it saw. It decides by the tenant's list alone
/// and does not read the ledger, so logins in progress do not count.
pub async fn dry_run<'a>(
    snapshot: &'a Snapshot,
    view: &'a CallerView,
    login: &'a Login,
    given: Hypothesis,
) -> (Answer, DryRun<'a>) {
    let mut walk = Walk::new(None, snapshot, login, Instant::now());
    walk.seen.given = Some(Box::new(given));
    let answer = walk.answer(view).await;
    (answer, walk.seen)
}

impl<'a> Walk<'a> {
    /// The time by which overrides end.
    pub(super) fn now(&self) -> Timestamp {
        let now = || self.checker.map_or_else(Timestamp::now, |checker| checker.clock.timestamp());
        self.given_time().unwrap_or_else(now)
    }

    fn given_time(&self) -> Option<Timestamp> {
        self.seen.given.as_ref()?.at
    }

    /// Decides by the sessions that are given; `None` when none are.
    pub(super) fn decide_by_given(&mut self, limit_check: LimitCheck<'a>) -> Option<Decision> {
        let sessions = self.seen.given.as_mut()?.sessions.take()?;
        Some(self.weigh(limit_check, sessions))
    }

    /// Lists and decides without the ledger, and keeps what is seen.
    pub(super) async fn preview(
        &mut self,
        limit_check: LimitCheck<'a>,
        client: &TenantClient,
        call: &CallContext,
    ) -> Result<Decision, Verdict> {
        match client.list_sessions(limit_check.user_id(), call).await {
            Ok(sessions) => Ok(self.weigh(limit_check, sessions)),
            Err(error) => {
                let verdict = Verdict::failed(error.failure);
                self.seen.sessions = Some(Err(error));
                Err(verdict)
            }
        }
    }

    fn weigh(&mut self, limit_check: LimitCheck<'a>, sessions: SessionList) -> Decision {
        let (revoked, origins) = (HashSet::new(), Origins::default());
        let now = self.given_time().unwrap_or_else(|| sessions.tenant_time(self.now()));
        let inputs = LimitInputs { sessions: &sessions, admissions: &[], revoked: &revoked, origins: &origins, now };
        let (decision, roles) = (limit_check.decide(inputs), limit_check.explain(inputs));
        if let Decision::Evict { victims, .. } = &decision {
            self.seen.victims.clone_from(victims);
        }
        let is_holder = matches!(decision, Decision::Within { holder: true, .. });
        self.seen.recheck_after = limit_check.recheck_after().filter(|_| is_holder && sessions.is_of_one_moment());
        self.seen.sessions = Some(Ok((sessions, roles)));
        decision
    }
}
