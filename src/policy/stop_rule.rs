//! When the pages of a list that were read are enough for a check.

use std::sync::Arc;

use jiff::Timestamp;

use super::limit_check::LimitCheck;
use super::policy_set::PolicyVersion;
use super::session::SessionList;

/// Decides for one login when its list need not be read any further. It owns what it needs of the login, because the list is
/// read by a task of its own.
pub struct StopRule {
    version: Arc<PolicyVersion>,
    chosen_by: Option<usize>,
    /// The user, the application and the session, one after the other.
    ids: Box<str>,
    user_id_end: usize,
    client_id_end: usize,
    mfa: bool,
    may_revoke: bool,
}

impl StopRule {
    /// The rule of a login under this version of its policy. `None` where the whole list is needed: a strategy that revokes
    /// chooses among all sessions, and the device of a web view may be on the last page.
    pub fn new(version: &Arc<PolicyVersion>, limit_check: &LimitCheck<'_>) -> Option<Self> {
        let (user_id, client_id) = (limit_check.user_id(), limit_check.client_id());
        (!limit_check.may_evict() && !limit_check.is_web_view()).then(|| Self {
            version: Arc::clone(version),
            chosen_by: limit_check.chosen_by(),
            ids: [user_id, client_id, limit_check.sid()].concat().into(),
            user_id_end: user_id.len(),
            client_id_end: user_id.len() + client_id.len(),
            mfa: limit_check.mfa(),
            may_revoke: limit_check.may_revoke,
        })
    }

    /// Whether the pages so far block the login, whatever further pages show.
    pub fn is_met(&self, sessions: &SessionList, now: Timestamp) -> bool {
        let PolicyVersion::Compiled(policy) = &*self.version else { return false };
        let (ids, sid) = self.ids.split_at(self.client_id_end);
        let (user_id, client_id) = ids.split_at(self.user_id_end);
        let limit_check = policy.limit_check(self.chosen_by, user_id, client_id, sid, self.mfa);
        let may_revoke = self.may_revoke;
        limit_check.is_some_and(|check| {
            let check = if may_revoke { check } else { check.without_revoking() };
            check.is_blocked_by(sessions, now)
        })
    }
}
