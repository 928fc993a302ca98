//! The time that a deleted Secret stays in use. Several tools replace a Secret by deleting and creating it, and a login in
//! between must not find the policy without a credential.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::policy::ObjectName;

/// How long a Secret that was deleted stays in use unless it comes back. `kubectl replace --force` and operators that
/// recreate a Secret take a second or two; somebody who deletes a leaked credential waits no longer than for a watch.
pub(super) const DELETION_GRACE: Duration = Duration::from_secs(5);

/// The Secrets that exist, and those that were deleted a moment ago.
#[derive(Default)]
pub(super) struct SecretDeletions {
    existing: HashSet<ObjectName>,
    /// When the use of a deleted Secret ends.
    ends: HashMap<ObjectName, Instant>,
}

impl SecretDeletions {
    /// The Secret exists.
    pub fn seen(&mut self, name: &ObjectName) {
        self.ends.remove(name);
        self.existing.insert(name.clone());
    }

    /// The Secret does not exist; whether its use ends at once. Seeing the same again does not extend the grace.
    pub fn missing(&mut self, name: &ObjectName, now: Instant) -> bool {
        if self.existing.remove(name) {
            self.ends.insert(name.clone(), now + DELETION_GRACE);
        }
        !self.ends.contains_key(name)
    }

    /// No policy names the Secret any more.
    pub fn forget(&mut self, name: &ObjectName) {
        self.existing.remove(name);
        self.ends.remove(name);
    }

    /// When the next use ends.
    pub fn next_end(&self) -> Option<Instant> {
        self.ends.values().min().copied()
    }

    /// Takes the Secrets whose use ends now.
    pub fn take_ended(&mut self, now: Instant) -> Vec<ObjectName> {
        let ended: Vec<ObjectName> =
            self.ends.iter().filter(|(_, end)| **end <= now).map(|(name, _)| name.clone()).collect();
        ended.iter().for_each(|name| _ = self.ends.remove(name));
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn name() -> ObjectName {
        ObjectName::new("team", "auth0")
    }

    #[test]
    fn deleted_secret_stays_in_use_for_its_grace() {
        let (mut deletions, now) = (SecretDeletions::default(), Instant::now());
        deletions.seen(&name());
        assert!(!deletions.missing(&name(), now));
        // A watch that starts again says so once more.
        assert!(!deletions.missing(&name(), now + DELETION_GRACE - MILLISECOND));
        assert_eq!(deletions.next_end(), Some(now + DELETION_GRACE));
        assert_eq!(deletions.take_ended(now + DELETION_GRACE - MILLISECOND), []);
        assert_eq!(deletions.take_ended(now + DELETION_GRACE), [name()]);
        assert_eq!((deletions.next_end(), deletions.missing(&name(), now + DELETION_GRACE)), (None, true));
    }

    #[test]
    fn recreated_secret_is_not_ended() {
        let (mut deletions, now) = (SecretDeletions::default(), Instant::now());
        for _ in 0..3 {
            deletions.seen(&name());
            assert!(!deletions.missing(&name(), now));
        }
        deletions.seen(&name());
        assert_eq!((deletions.next_end(), deletions.take_ended(now + 2 * DELETION_GRACE)), (None, vec![]));
    }

    #[test]
    fn secret_that_never_existed_has_no_grace() {
        let (mut deletions, now) = (SecretDeletions::default(), Instant::now());
        assert!(deletions.missing(&name(), now));
        deletions.seen(&name());
        deletions.forget(&name());
        assert!(deletions.missing(&name(), now));
    }
}
