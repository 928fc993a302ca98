//! What the histories reached.

use std::ops::AddAssign;

/// What the histories reached.
#[derive(Debug, Default, Clone, Copy)]
pub struct Reached {
    pub recalled: usize,
    pub listed: usize,
    pub completed: usize,
    pub blocked: usize,
    pub evicted: usize,
    /// Allowed logins that the exception alone explains.
    pub excepted: usize,
}

impl AddAssign for Reached {
    fn add_assign(&mut self, other: Self) {
        self.recalled += other.recalled;
        self.listed += other.listed;
        self.completed += other.completed;
        self.blocked += other.blocked;
        self.evicted += other.evicted;
        self.excepted += other.excepted;
    }
}
