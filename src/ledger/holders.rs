//! What `recheckAfter` remembers: sessions that were let in as holders of every limit are let in again from memory for a
//! while, so that silent renewals do not use up the tenant's few requests a second.
//!
//! It opens no door. Under `KeepPlace` a holder is let in whatever others do, for as long as the policy stands: the policy's
//! version is a part of what is remembered, and so is the override that chose the limits. A session that this service
//! revoked is refused before this memory is asked; what else ends a session ends its logins too. An answer from memory is not
//! remembered again, so a list confirms it at least every `recheckAfter`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hashlink::LinkedHashMap;
use tokio::time::Instant;

use super::User;

/// How many holders are remembered when nobody says otherwise.
pub const DEFAULT_CAPACITY: usize = 100_000;

/// Who holds a place, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holding {
    /// The position of the override that chose the limits.
    pub chosen_by: Option<usize>,
    /// The user.
    pub user: User,
    /// The session.
    pub sid: String,
    /// The application.
    pub client_id: String,
}

/// The holders that were let in of late, by versions `P` of policies: each compiled version is an allocation of its own.
pub struct Holders<P> {
    capacity: usize,
    holdings: Mutex<LinkedHashMap<Key, Held<P>>>,
}

/// The version is compared by its address, which nobody else can have while the weak reference beside it lives.
type Key = (usize, Arc<Holding>);

struct Held<P> {
    until: Instant,
    policy: Weak<P>,
}

impl<P> Holders<P> {
    /// Remembers at most `capacity` holders; the oldest make room.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, holdings: Mutex::new(LinkedHashMap::new()) }
    }

    /// Remembers for `recheck_after` that a list showed a holder of every limit, and the policy let it in.
    pub fn remember(&self, policy: &Arc<P>, holding: Holding, recheck_after: Duration) {
        let now = Instant::now();
        let Some(until) = now.checked_add(recheck_after).filter(|until| *until > now) else { return };
        let mut holdings = self.lock();
        holdings.insert(key(policy, holding), Held { until, policy: Arc::downgrade(policy) });
        if holdings.len() > self.capacity {
            holdings.pop_front();
        }
    }

    /// Whether the holder is let in again by the same version of the policy. What has ended is forgotten.
    pub fn covers(&self, policy: &Arc<P>, holding: &Holding) -> bool {
        let key = key(policy, holding.clone());
        let mut holdings = self.lock();
        let covers = holdings.get(&key).is_some_and(|held| held.until > Instant::now());
        if !covers {
            holdings.remove(&key);
        }
        covers
    }

    /// How many are remembered, after those that have ended or whose policy is gone are forgotten.
    pub fn sweep(&self) -> usize {
        let now = Instant::now();
        let mut holdings = self.lock();
        holdings.retain(|_, held| held.until > now && held.policy.strong_count() > 0);
        holdings.len()
    }

    fn lock(&self) -> MutexGuard<'_, LinkedHashMap<Key, Held<P>>> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key<P>(policy: &Arc<P>, holding: Holding) -> Key {
    (Arc::as_ptr(policy).addr(), Arc::new(holding))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHILE: Duration = Duration::from_secs(300);

    fn holding(sid: &str) -> Holding {
        Holding { chosen_by: None, user: User::new("t", "u"), sid: sid.to_owned(), client_id: "c".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_is_let_in_from_memory_until_its_time_is_over_however_often_it_asks() {
        let (holders, policy) = (Holders::new(10), Arc::new(0));
        holders.remember(&policy, holding("s"), WHILE);
        for _ in 0..5 {
            assert!(holders.covers(&policy, &holding("s")));
            tokio::time::advance(WHILE / 5).await;
        }
        assert!(!holders.covers(&policy, &holding("s")));
        assert_eq!(holders.sweep(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_same_session_application_override_user_and_version_are_covered() {
        let (holders, policy) = (Holders::new(10), Arc::new(0));
        holders.remember(&policy, holding("s"), WHILE);
        assert!(!holders.covers(&Arc::new(0), &holding("s")), "a new version of the policy");
        for other in [
            holding("other"),
            Holding { chosen_by: Some(0), ..holding("s") },
            Holding { user: User::new("t", "v"), ..holding("s") },
            Holding { user: User::new("other", "u"), ..holding("s") },
            Holding { client_id: "d".to_owned(), ..holding("s") },
        ] {
            assert!(!holders.covers(&policy, &other));
        }
        assert!(holders.covers(&policy, &holding("s")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_that_is_gone_leaves_nothing_behind() {
        let (holders, policy) = (Holders::new(10), Arc::new(0));
        holders.remember(&policy, holding("s"), WHILE);
        drop(policy);
        assert_eq!(holders.sweep(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn zero_remembers_nothing_and_the_oldest_make_room() {
        let (holders, policy) = (Holders::new(2), Arc::new(0));
        holders.remember(&policy, holding("zero"), Duration::ZERO);
        assert_eq!(holders.sweep(), 0);
        for sid in ["a", "b", "c"] {
            holders.remember(&policy, holding(sid), WHILE);
        }
        assert!(!holders.covers(&policy, &holding("a")));
        assert!(holders.covers(&policy, &holding("b")) && holders.covers(&policy, &holding("c")));
    }

    /// The table in docs/policy.md, on which people choose `recheckAfter`.
    #[tokio::test(start_paused = true)]
    async fn ten_thousand_users_who_renew_every_ten_minutes_need_as_many_lists_as_the_documentation_says() {
        const USERS: u32 = 10_000;
        const EVERY: Duration = Duration::from_secs(600);
        let documentation = include_str!("../../docs/policy.md");
        let policy = Arc::new(0);
        let users: Vec<_> =
            (0..USERS).map(|user| Holding { user: User::new("t", &format!("auth0|{user}")), ..holding("s") }).collect();
        for (recheck_after, minutes) in [("0s", 0), ("5m", 5), ("15m", 15), ("30m", 30), ("1h", 60)] {
            let (holders, mut lists) = (Holders::new(DEFAULT_CAPACITY), 0);
            let began = Instant::now();
            // Whole hours, so that every setting comes to the end of its cycle.
            while began.elapsed() < Duration::from_secs(2 * 3_600) {
                for user in &users {
                    if !holders.covers(&policy, user) {
                        lists += 1;
                        holders.remember(&policy, user.clone(), Duration::from_secs(60 * minutes));
                    }
                }
                // All of them in one moment, for the count is the same as if they were spread over the ten minutes.
                tokio::time::advance(EVERY).await;
            }
            let row = format!("| `{recheck_after}` | {:.1} |\n", f64::from(lists) / began.elapsed().as_secs_f64());
            assert!(documentation.contains(&row), "docs/policy.md lacks {row}");
        }
    }
}
