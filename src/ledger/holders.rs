//! Recent holders, for `recheckAfter`: a session that was allowed as a holder of every limit is allowed again without a list for
//! a while, so that silent renewals do not use up the tenant's few requests a second.
//!
//! It never allows a login that a list would block. Under `KeepPlace` a holder is allowed whatever other sessions do, as long as
//! the policy stays the same: the policy's version is a part of the key, and so is the override that chose the limits. A session
//! that this service revoked is blocked before the recent holders are read; whatever else ends a session ends its logins too. Such an
//! answer does not prolong the entry, so a list confirms it at least every `recheckAfter`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::key::{HashedTable, KeyHash, KeyHasher, SessionKey, shrink};
use crate::clock::ServiceClock;

/// How many holders a replica remembers: as many as the ledger has entries. Each takes the same 150 bytes at most, whatever the
/// length of its ids, so all take at most 15 MB.
pub const DEFAULT_CAPACITY: usize = 100_000;

/// The holders that were allowed recently, by versions `P` of policies: each compiled version is a separate allocation.
pub struct RecentHolders<P> {
    capacity: usize,
    clock: ServiceClock,
    hasher: KeyHasher,
    /// By the hash of a session, a version of a policy and the override that chose the limits.
    holders: Mutex<HashedTable<Expiry<P>>>,
}

struct Expiry<P> {
    at: Instant,
    policy: Weak<P>,
}

impl<P> RecentHolders<P> {
    /// Remembers at most `capacity` holders; the oldest are forgotten first.
    pub fn new(capacity: usize) -> Self {
        let (clock, hasher) = (ServiceClock::default(), KeyHasher::default());
        Self { capacity, clock, hasher, holders: Mutex::default() }
    }

    /// Lets holders expire by this clock in place of the system's.
    #[must_use]
    pub fn with_clock(self, clock: ServiceClock) -> Self {
        Self { clock, ..self }
    }

    /// Remembers for `recheck_after` that a list showed a holder of every limit and the policy allowed it.
    pub fn add(&self, policy: &Arc<P>, chosen_by: Option<usize>, session: &SessionKey, recheck_after: Duration) {
        let now = self.clock.instant();
        let Some(at) = now.checked_add(recheck_after).filter(|at| *at > now) else { return };
        let mut holders = self.lock();
        holders.insert(self.key(policy, chosen_by, session), Expiry { at, policy: Arc::downgrade(policy) });
        if holders.len() > self.capacity {
            holders.pop_front();
        }
    }

    /// Whether the same version of the policy allows the holder again. An entry that has expired is removed.
    pub fn contains(&self, policy: &Arc<P>, chosen_by: Option<usize>, session: &SessionKey) -> bool {
        let key = self.key(policy, chosen_by, session);
        let mut holders = self.lock();
        let contains = holders.get(&key).is_some_and(|expiry| expiry.at > self.clock.instant());
        if !contains {
            holders.remove(&key);
        }
        contains
    }

    /// Removes entries that have expired or whose policy is gone, and returns how many are left.
    pub fn sweep(&self) -> usize {
        let now = self.clock.instant();
        let mut holders = self.lock();
        holders.retain(|_, expiry| expiry.at > now && expiry.policy.strong_count() > 0);
        shrink(&mut holders);
        holders.len()
    }

    /// The version is compared by its address, which no other version can have while the weak reference in the value exists.
    fn key(&self, policy: &Arc<P>, chosen_by: Option<usize>, session: &SessionKey) -> KeyHash {
        self.hasher.hash(&(Arc::as_ptr(policy).addr(), chosen_by, session))
    }

    fn lock(&self) -> MutexGuard<'_, HashedTable<Expiry<P>>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::UserKey;

    const RECHECK_AFTER: Duration = Duration::from_secs(300);

    fn session(sid: &str) -> SessionKey {
        SessionKey::new(UserKey::new("t", "u"), sid, "c")
    }

    #[tokio::test(start_paused = true)]
    async fn holder_is_allowed_from_memory_until_it_expires() {
        let (holders, policy) = (RecentHolders::new(10), Arc::new(0));
        holders.add(&policy, None, &session("s"), RECHECK_AFTER);
        for _ in 0..5 {
            assert!(holders.contains(&policy, None, &session("s")), "however often it is asked");
            tokio::time::advance(RECHECK_AFTER / 5).await;
        }
        assert!(!holders.contains(&policy, None, &session("s")));
        assert_eq!(holders.sweep(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn holder_is_one_of_policy_version_override_and_session() {
        let (holders, policy) = (RecentHolders::new(10), Arc::new(0));
        holders.add(&policy, None, &session("s"), RECHECK_AFTER);
        assert!(!holders.contains(&Arc::new(0), None, &session("s")), "a new version of the policy");
        assert!(!holders.contains(&policy, Some(0), &session("s")), "another override");
        for other in [
            session("other"),
            SessionKey { user: UserKey::new("t", "v"), ..session("s") },
            SessionKey { user: UserKey::new("other", "u"), ..session("s") },
            SessionKey { client_id: "d".into(), ..session("s") },
        ] {
            assert!(!holders.contains(&policy, None, &other));
        }
        assert!(holders.contains(&policy, None, &session("s")));
    }

    #[tokio::test(start_paused = true)]
    async fn policy_that_is_gone_leaves_nothing() {
        let (holders, policy) = (RecentHolders::new(10), Arc::new(0));
        holders.add(&policy, None, &session("s"), RECHECK_AFTER);
        drop(policy);
        assert_eq!(holders.sweep(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn zero_remembers_nothing_and_the_oldest_go_first() {
        let (holders, policy) = (RecentHolders::new(2), Arc::new(0));
        holders.add(&policy, None, &session("zero"), Duration::ZERO);
        assert_eq!(holders.sweep(), 0);
        for sid in ["a", "b", "c"] {
            holders.add(&policy, None, &session(sid), RECHECK_AFTER);
        }
        assert!(!holders.contains(&policy, None, &session("a")));
        assert!(["b", "c"].iter().all(|sid| holders.contains(&policy, None, &session(sid))));
    }

    #[test]
    fn holder_takes_at_most_150_bytes() {
        // Two links, and in the table a pointer and a byte for each place, of which half are empty at worst.
        let node = size_of::<(KeyHash, Expiry<u8>)>() + 2 * size_of::<usize>();
        assert!(node + 2 * (size_of::<usize>() + 1) <= 150, "{node}");
    }

    /// The table in docs/policy.md, by which people choose `recheckAfter`.
    #[tokio::test(start_paused = true)]
    async fn renewing_users_need_as_many_lists_as_documented() {
        const USERS: u32 = 10_000;
        const RENEWAL_INTERVAL: Duration = Duration::from_secs(600);
        let documentation = include_str!("../../docs/policy.md");
        let policy = Arc::new(0);
        let users: Vec<_> = (0..USERS)
            .map(|user| SessionKey { user: UserKey::new("t", &format!("auth0|{user}")), ..session("s") })
            .collect();
        for (recheck_after, minutes) in [("0s", 0), ("5m", 5), ("15m", 15), ("30m", 30), ("1h", 60)] {
            let (holders, mut lists) = (RecentHolders::new(DEFAULT_CAPACITY), 0);
            let began = Instant::now();
            // Whole hours, so that every setting completes its cycles.
            while began.elapsed() < Duration::from_secs(2 * 3_600) {
                for user in &users {
                    if !holders.contains(&policy, None, user) {
                        lists += 1;
                        holders.add(&policy, None, user, Duration::from_secs(60 * minutes));
                    }
                }
                // All at the same time: the count is the same when they are spread over the ten minutes.
                tokio::time::advance(RENEWAL_INTERVAL).await;
            }
            let row = format!("| `{recheck_after}` | {:.1} |\n", f64::from(lists) / began.elapsed().as_secs_f64());
            assert!(documentation.contains(&row), "docs/policy.md lacks {row}");
        }
    }
}
