//! What the records of decisions say of a check.

use std::cell::LazyCell;

use super::metrics::CheckRecord;
use super::{Checker, CountedSessions, Walk};
use crate::auth0::UserAgents;
use crate::choose::Device;
use crate::decisions::RecordedCheck;
use crate::policy::{Login, PolicyVersion};

impl Checker {
    /// Gives the decision of a check to the records, with the sessions by which it stopped the login or ended others.
    pub(super) fn note(&self, login: &Login, request_id: &str, record: CheckRecord<'_>, walk: &Walk<'_>) {
        let check = RecordedCheck {
            request_id,
            user: record.user,
            client_id: login.client_id(),
            tenant: record.tenant,
            generation: walk.seen.policy.and_then(PolicyVersion::generation),
            limit_check: walk.seen.limit_check,
            took: record.took,
            listing_age: record.listing_age,
        };
        let counted = walk.counted.as_ref();
        let sessions = counted.into_iter().flat_map(|counted| counted.listing.sessions.views().zip(&counted.roles));
        // Most decisions have no record, and no check needs a user agent.
        let agents = LazyCell::new(|| counted.map(CountedSessions::user_agents).unwrap_or_default());
        let device = |session: &str| {
            let device = agents.get(session).map(|agent| Device::of(agent)).unwrap_or_default();
            (device.browser, device.system)
        };
        self.decisions.note(record.answer, &check, sessions, device);
    }
}

impl CountedSessions {
    fn user_agents(&self) -> UserAgents {
        self.listing.user_agents()
    }
}
