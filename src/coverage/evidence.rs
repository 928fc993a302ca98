//! What was seen in the last hour of the logins that each policy selects.

use std::collections::{BTreeMap, HashMap};
use std::ops::AddAssign;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::judge::Checked;

/// The length of a bucket in seconds.
const BUCKET_SECONDS: i64 = 600;
/// How many buckets count: an hour, so that a condition neither hangs on one login nor speaks of yesterday.
const BUCKETS: usize = 6;

/// How many logins were seen, by whether they were checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LoginTally {
    pub yes: u64,
    pub no: u64,
    pub unknown: u64,
}

/// The tallies of the policies. They end with their policies.
#[derive(Default)]
pub(super) struct Evidence(Mutex<HashMap<String, Window>>);

#[derive(Default)]
struct Window {
    /// The number of the newest bucket since the epoch.
    newest: i64,
    buckets: [LoginTally; BUCKETS],
}

impl LoginTally {
    pub fn add(&mut self, checked: Checked) {
        match checked {
            Checked::Yes => self.yes += 1,
            Checked::No => self.no += 1,
            Checked::Unknown => self.unknown += 1,
        }
    }
}

impl AddAssign for LoginTally {
    fn add_assign(&mut self, other: Self) {
        self.yes += other.yes;
        self.no += other.no;
        self.unknown += other.unknown;
    }
}

impl Evidence {
    /// Counts a login of a policy.
    pub fn add(&self, policy: &str, checked: Checked, now: Timestamp) {
        let mut windows = self.lock();
        let window = windows.entry(policy.to_owned()).or_default();
        window.advance(now);
        window.buckets[0].add(checked);
    }

    /// What was seen of one policy in the last hour.
    pub fn tally(&self, policy: &str, now: Timestamp) -> LoginTally {
        self.lock().get_mut(policy).map(|window| window.sum(now)).unwrap_or_default()
    }

    /// What was seen of each policy in the last hour; a policy without a login is left out.
    pub fn tallies(&self, now: Timestamp) -> BTreeMap<String, LoginTally> {
        let mut windows = self.lock();
        let sums = windows.iter_mut().map(|(policy, window)| (policy.clone(), window.sum(now)));
        sums.filter(|(_, sum)| *sum != LoginTally::default()).collect()
    }

    /// Forgets policies.
    pub fn retain(&self, lives: impl Fn(&str) -> bool) {
        self.lock().retain(|policy, _| lives(policy));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Window>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn sum(&mut self, now: Timestamp) -> LoginTally {
        self.advance(now);
        let mut sum = LoginTally::default();
        self.buckets.iter().for_each(|bucket| sum += *bucket);
        sum
    }

    fn advance(&mut self, now: Timestamp) {
        let newest = now.as_second().div_euclid(BUCKET_SECONDS);
        let steps = usize::try_from(newest - self.newest).unwrap_or_default().min(BUCKETS);
        self.buckets.rotate_right(steps % BUCKETS);
        self.buckets[..steps].fill(LoginTally::default());
        self.newest = self.newest.max(newest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_count_for_an_hour() {
        let evidence = Evidence::default();
        let at = |minutes: i64| Timestamp::from_second(1_800_000_000 + 60 * minutes).unwrap();
        evidence.add("team/seats", Checked::Yes, at(0));
        evidence.add("team/seats", Checked::No, at(30));
        evidence.add("team/seats", Checked::Unknown, at(31));
        let seen = |minutes| evidence.tallies(at(minutes)).get("team/seats").copied();
        assert_eq!(seen(45), Some(LoginTally { yes: 1, no: 1, unknown: 1 }));
        assert_eq!(seen(70), Some(LoginTally { yes: 0, no: 1, unknown: 1 }));
        assert_eq!(seen(200), None);
        evidence.add("team/seats", Checked::Yes, at(201));
        assert_eq!(seen(202), Some(LoginTally { yes: 1, no: 0, unknown: 0 }));
        evidence.retain(|policy| policy != "team/seats");
        assert_eq!(seen(202), None);
    }
}
