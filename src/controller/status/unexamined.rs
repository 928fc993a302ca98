//! Which policies the status writer has yet to look at. A change concerns one policy of thousands, and causes up to three rounds of
//! the writer: its event, the new snapshot, and the event of the status that was written.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::policy::{ObjectName, PolicyReport};
use crate::snapshot::differences;

/// The policies whose status was not compared since something about them changed.
pub(super) struct Unexamined {
    names: BTreeSet<ObjectName>,
    /// The policies of which it is known when to look at them again, although nothing changes.
    again: HashMap<ObjectName, Instant>,
    /// The reports whose policies are among `names`, or were examined; `None` before the first. They have no credentials.
    reports: Option<Arc<[Arc<PolicyReport>]>>,
    /// When all policies are examined: what was seen of logins changes without a change of a policy.
    all_at: Instant,
    interval: Duration,
}

impl Unexamined {
    /// All policies, now and whenever the interval has passed.
    pub fn all(now: Instant, interval: Duration) -> Self {
        Self { names: BTreeSet::new(), again: HashMap::new(), reports: None, all_at: now, interval }
    }

    /// Adds the policies whose report is another one than in the last call, those that the watch showed since, and those whose time
    /// has come.
    pub fn extend(&mut self, reports: &Arc<[Arc<PolicyReport>]>, observed: HashSet<ObjectName>, now: Instant) {
        let last = self.reports.replace(Arc::clone(reports)).filter(|_| now < self.all_at);
        let Some(last) = last else {
            self.names = reports.iter().map(|report| report.name.clone()).collect();
            self.again.clear();
            self.all_at = now + self.interval;
            return;
        };
        let changed = differences(&last, reports).into_iter().filter_map(|difference| difference.new);
        let due = self.again.extract_if(|_, at| *at <= now).map(|(name, _)| name);
        self.names.extend(changed.map(|report| report.name.clone()).chain(observed).chain(due));
    }

    /// The next policy, in the order of names.
    pub fn next(&mut self) -> Option<ObjectName> {
        let name = self.names.pop_first()?;
        self.again.remove(&name);
        Some(name)
    }

    /// Looks at a policy again at a time, or earlier.
    pub fn look_again(&mut self, name: &ObjectName, at: Instant) {
        let due = self.again.entry(name.clone()).or_insert(at);
        *due = at.min(*due);
    }

    /// When there is something to examine, although nothing changes.
    pub fn next_at(&self) -> Instant {
        self.again.values().copied().fold(self.all_at, Instant::min)
    }
}

#[cfg(test)]
mod tests {
    use std::iter::from_fn;

    use serde_json::json;

    use super::*;
    use crate::policy::Manifest;
    use crate::snapshot::Publisher;

    const INTERVAL: Duration = Duration::from_secs(60);

    fn name(name: &str) -> ObjectName {
        ObjectName::new("team", name)
    }

    /// Applies policies, each for an application of its own.
    fn apply(publisher: &Publisher, limit: u8, policies: &[&str]) -> Arc<[Arc<PolicyReport>]> {
        publisher.update(|observed| {
            for policy in policies {
                let spec = json!({
                    "tenant": { "domain": "acme.eu.auth0.com", "credentialsSecretRef": { "name": "tenant" } },
                    "selector": { "clientIds": [policy] }, "limits": { "perUser": limit },
                });
                let manifest = Manifest { name: name(policy), generation: 0, created_at: None, spec };
                observed.index.apply_policy(&manifest);
            }
        });
        Arc::clone(&publisher.current().load().reports)
    }

    fn rest(unexamined: &mut Unexamined) -> Vec<String> {
        from_fn(|| unexamined.next()).map(|policy| policy.name().to_owned()).collect()
    }

    #[test]
    fn all_policies_are_examined_first_and_after_a_time_and_else_those_that_changed() {
        let (publisher, now) = (Publisher::offline(), Instant::now());
        let mut unexamined = Unexamined::all(now, INTERVAL);
        let reports = apply(&publisher, 1, &["a", "b", "c", "d"]);
        unexamined.extend(&reports, HashSet::new(), now);
        assert_eq!(rest(&mut unexamined), ["a", "b", "c", "d"]);
        assert_eq!(unexamined.next_at(), now + INTERVAL);

        let reports = apply(&publisher, 2, &["c"]);
        unexamined.extend(&reports, [name("a")].into(), now);
        assert_eq!(rest(&mut unexamined), ["a", "c"]);

        unexamined.extend(&reports, HashSet::new(), now);
        assert_eq!(rest(&mut unexamined), [""; 0]);
        unexamined.extend(&reports, HashSet::new(), now + INTERVAL);
        assert_eq!(rest(&mut unexamined), ["a", "b", "c", "d"]);
        assert_eq!(unexamined.next_at(), now + 2 * INTERVAL);
    }

    #[test]
    fn policies_of_a_round_that_a_change_ended_are_examined_in_the_next() {
        let (publisher, now) = (Publisher::offline(), Instant::now());
        let mut unexamined = Unexamined::all(now, INTERVAL);
        unexamined.extend(&apply(&publisher, 1, &["a", "b", "c"]), HashSet::new(), now);
        assert_eq!(unexamined.next(), Some(name("a")));
        unexamined.extend(&apply(&publisher, 2, &["a"]), HashSet::new(), now);
        assert_eq!(rest(&mut unexamined), ["a", "b", "c"]);
    }

    #[test]
    fn policy_is_examined_again_at_its_time_alone() {
        let (publisher, now) = (Publisher::offline(), Instant::now());
        let second = |number| now + Duration::from_secs(number);
        let mut unexamined = Unexamined::all(now, INTERVAL);
        let reports = apply(&publisher, 1, &["a", "b", "c"]);
        unexamined.extend(&reports, HashSet::new(), now);
        rest(&mut unexamined);
        for (policy, at) in [("a", 9), ("b", 5), ("b", 7), ("c", 6)] {
            unexamined.look_again(&name(policy), second(at));
        }
        assert_eq!(unexamined.next_at(), second(5));
        unexamined.extend(&reports, [name("c")].into(), second(5));
        assert_eq!(rest(&mut unexamined), ["b", "c"]);
        // The look at `c` came before its time, and knows no other.
        assert_eq!(unexamined.next_at(), second(9));
        unexamined.extend(&reports, HashSet::new(), now + INTERVAL);
        assert_eq!(unexamined.next_at(), now + 2 * INTERVAL);
    }
}
