//! The rule for a login that is allowed by what is remembered, without a list (decision 1.13): how many remembered sessions belong
//! to each limit.
//!
//! What is remembered can be more than the user has, never less: nothing is left out that [`decide`](super::decide) might count.
//! So fewer than a limit allows are fewer in a list of this moment, too.

use std::time::Duration;

use super::evaluation::{Membership, bit, membership_of};
use super::limit_check::LimitCheck;
use super::limits::LimitScope;
use super::model::{Policy, Reentry, Strategy};

/// The limits that count a remembered session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RememberedLimits(Membership);

/// How many remembered sessions belong to each limit of a check.
pub struct RememberedCount<'a> {
    limit_check: LimitCheck<'a>,
    counts: [u32; LimitScope::ALL.len()],
}

impl RememberedLimits {
    /// Every limit: for a session whose applications are not known.
    pub const ALL: Self = Self(Membership::MAX);

    /// The limits of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Policy {
    /// How old a remembered list may be that allows a login; `None` when none is used.
    pub fn recheck_after(&self) -> Option<Duration> {
        (self.reentry == Reentry::KeepPlace && !self.recheck_after.is_zero()).then_some(self.recheck_after)
    }
}

impl<'a> LimitCheck<'a> {
    /// How old a remembered list may be that allows the login; `None` when none is used.
    pub fn recheck_after(&self) -> Option<Duration> {
        self.policy.recheck_after()
    }

    /// The limits that count a session with this application.
    pub fn limits_of(&self, client: &str) -> RememberedLimits {
        RememberedLimits(membership_of(self, client))
    }

    /// Whether a session with these limits holds a place under every limit of the check.
    pub fn is_held_by(&self, limits: RememberedLimits) -> bool {
        self.limits.iter().all(|(limit_scope, _)| limits.0 & bit(limit_scope) != 0)
    }

    /// Whether a holder is allowed whatever other sessions the user has (decision 3.7).
    pub fn makes_room(&self) -> bool {
        self.policy.strategy != Strategy::Deny && self.may_revoke
    }

    /// Begins to count.
    pub fn remembered_count(&self) -> RememberedCount<'a> {
        RememberedCount { limit_check: *self, counts: Default::default() }
    }
}

impl RememberedCount<'_> {
    /// Counts another session.
    pub fn add(&mut self, limits: RememberedLimits) {
        for (count, limit_scope) in self.counts.iter_mut().zip(LimitScope::ALL) {
            *count += u32::from(limits.0 & bit(limit_scope) != 0);
        }
    }

    /// Whether every limit has room for one more.
    pub fn has_room(&self) -> bool {
        self.limit_check.limits.iter().all(|(limit_scope, limit)| self.counts[limit_scope as usize] < limit)
    }
}
