//! Counts the distinct users whose logins were blocked in the last hour.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::{MetricRegistry, ScrapedGauges, to_i64};

/// How long a blocked user counts: the time in which people call the help desk.
const WINDOW: Duration = Duration::from_secs(3600);
/// The users of all policies together: an hour in which everybody of a large tenant is blocked, and at most 4 MiB of hashes.
const MAX_USERS: usize = 100_000;

/// Counts distinct users by policy. Shown at each scrape.
pub(super) struct BlockedUsers(Arc<Mutex<Kept>>);

/// When each user was last blocked.
#[derive(Default)]
struct Kept {
    policies: HashMap<String, KeptPolicy>,
    /// The users of all policies.
    users: usize,
}

/// The blocked users of a policy.
#[derive(Default)]
struct KeptPolicy {
    tenant: String,
    /// By keyed hash.
    last_blocks: HashMap<u64, Instant>,
}

impl BlockedUsers {
    pub(super) fn new(registry: &MetricRegistry) -> Self {
        let gauge = registry.scraped_gauges(
            "blocked_users",
            "Distinct users whose logins were blocked in the last hour, at most 100000 in all.",
            &["policy", "tenant"],
        );
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let shown = Arc::clone(&kept);
        registry.on_scrape(move |live| {
            let mut kept = shown.lock().unwrap_or_else(PoisonError::into_inner);
            kept.forget(Instant::now(), |policy| live.has_policy(policy));
            kept.show(&gauge);
        });
        Self(kept)
    }

    /// Notes that a user was blocked.
    pub(super) fn note(&self, policy: &str, tenant: &str, user: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).note(policy, tenant, user, Instant::now());
    }
}

impl Kept {
    fn note(&mut self, policy: &str, tenant: &str, user: u64, now: Instant) {
        let is_full = self.users >= MAX_USERS;
        let Some(kept) = self.policies.get_mut(policy).filter(|kept| kept.tenant == tenant) else {
            let replaced = self.policies.insert(policy.to_owned(), KeptPolicy::of(tenant));
            self.users -= replaced.map_or(0, |replaced| replaced.last_blocks.len());
            return self.note(policy, tenant, user, now);
        };
        match kept.last_blocks.get_mut(&user) {
            Some(last) => *last = now,
            None if is_full => {}
            None => {
                kept.last_blocks.insert(user, now);
                self.users += 1;
            }
        }
    }

    /// Forgets users who were not blocked for an hour, and policies that are gone. The others stay, so that their series end at
    /// zero.
    fn forget(&mut self, now: Instant, is_live: impl Fn(&str) -> bool) {
        self.policies.retain(|policy, _| is_live(policy));
        for kept in self.policies.values_mut() {
            kept.last_blocks.retain(|_, last| now.duration_since(*last) < WINDOW);
        }
        self.users = self.policies.values().map(|kept| kept.last_blocks.len()).sum();
    }

    fn show(&self, gauge: &ScrapedGauges) {
        for (policy, kept) in &self.policies {
            gauge.set(&[policy, &kept.tenant], to_i64(kept.last_blocks.len()));
        }
    }
}

impl KeptPolicy {
    fn of(tenant: &str) -> Self {
        Self { tenant: tenant.to_owned(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "acme.eu.auth0.com";

    fn count(kept: &Kept, policy: &str) -> usize {
        kept.policies[policy].last_blocks.len()
    }

    #[test]
    fn blocked_user_counts_once_and_for_an_hour() {
        let (mut kept, start) = (Kept::default(), Instant::now());
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        for (user, minutes) in [(1, 0), (1, 1), (2, 0), (1, 30)] {
            kept.note("ns/one", TENANT, user, at(minutes));
        }
        kept.note("ns/two", TENANT, 1, at(0));
        kept.forget(at(59), |_| true);
        assert_eq!((count(&kept, "ns/one"), count(&kept, "ns/two"), kept.users), (2, 1, 3));
        kept.forget(at(60), |_| true);
        assert_eq!((count(&kept, "ns/one"), count(&kept, "ns/two"), kept.users), (1, 0, 1));
        kept.forget(at(61), |policy| policy != "ns/one");
        assert_eq!((kept.policies.len(), kept.users), (1, 0));
    }

    #[test]
    fn policy_that_moves_to_another_tenant_begins_at_zero() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        kept.note("ns/one", TENANT, 1, now);
        kept.note("ns/one", "other.eu.auth0.com", 2, now);
        assert_eq!((count(&kept, "ns/one"), kept.users), (1, 1));
    }

    #[test]
    fn users_are_bounded_over_all_policies() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        for user in 0..MAX_USERS as u64 {
            kept.note(if user % 2 == 0 { "ns/one" } else { "ns/two" }, TENANT, user, now);
        }
        kept.note("ns/one", TENANT, u64::MAX, now);
        kept.note("ns/three", TENANT, u64::MAX, now);
        assert_eq!(kept.users, MAX_USERS);
        assert_eq!(count(&kept, "ns/three"), 0);
        // A user who counts is noted again, and room that becomes free is used.
        kept.note("ns/one", TENANT, 0, now + WINDOW);
        kept.forget(now + WINDOW, |_| true);
        kept.note("ns/three", TENANT, u64::MAX, now + WINDOW);
        assert_eq!((count(&kept, "ns/one"), count(&kept, "ns/three"), kept.users), (1, 1, 2));
    }
}
