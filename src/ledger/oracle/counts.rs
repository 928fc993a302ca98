//! What the histories reached.

use std::ops::AddAssign;

use super::super::ListNeed;

/// What the histories reached.
#[derive(Debug, Default, Clone, Copy)]
pub struct Reached {
    pub recalled: usize,
    /// Logins that need a list, by the order of `ListNeed`.
    pub listed: [usize; ListNeed::ALL.len()],
    pub completed: usize,
    pub blocked: usize,
    pub evicted: usize,
    /// Allowed logins that the exception alone explains.
    pub excepted: usize,
}

impl AddAssign for Reached {
    fn add_assign(&mut self, other: Self) {
        self.recalled += other.recalled;
        self.listed.iter_mut().zip(other.listed).for_each(|(sum, more)| *sum += more);
        self.completed += other.completed;
        self.blocked += other.blocked;
        self.evicted += other.evicted;
        self.excepted += other.excepted;
    }
}
