//! The limits of a policy, the numbers that are compared with them, and the outcome of that comparison.

use std::fmt;

/// Which sessions of a user a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitScope {
    /// Sessions with the application that logs in.
    Client,
    /// Sessions with any application of the policy's selector.
    Group,
    /// Sessions with any application of the tenant.
    User,
}

/// The limits that apply to a login; at least one of the three is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits([Option<u32>; 3]);

/// A limit, and how many other sessions count towards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Which sessions the limit counts.
    pub limit_scope: LimitScope,
    /// How many sessions the limit allows.
    pub limit: u32,
    /// How many sessions count, without the one that logs in.
    pub active: usize,
    /// Whether more may count, because the list was not read to the end.
    pub at_least: bool,
}

/// The outcome of [`LimitCheck::decide`](super::LimitCheck::decide).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The login is within every limit.
    Within {
        /// The limit with the least room left.
        count: Count,
        /// Whether the session already held a place under every limit.
        holder: bool,
    },
    /// The tenant does not know the user, and the login is within every limit.
    UnknownUser {
        /// The limit with the least room left.
        count: Count,
    },
    /// The list was not read to the end, and what was read does not decide.
    Undecided,
    /// The login is over a limit and is blocked.
    Exceeded {
        /// The first limit that is exceeded.
        count: Count,
        /// Whether the Action should end the session, because it is new and serves no other application.
        revoke_session: bool,
    },
    /// The login is over a limit and is blocked until the person has chosen sessions to end.
    Ask {
        /// The first limit that is exceeded.
        count: Count,
    },
    /// The login is over a limit and is allowed once other sessions are revoked.
    Evict {
        /// The first limit that is exceeded.
        count: Count,
        /// The ids of the sessions to revoke.
        victims: Vec<String>,
    },
}

impl LimitScope {
    /// Every scope, in the order in which limits are checked.
    pub const ALL: [Self; 3] = [Self::Client, Self::Group, Self::User];

    /// The value of the answer's `limit_scope`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Group => "group",
            Self::User => "user",
        }
    }
}

impl Limits {
    /// Combines the three limits; `None` when none of them is set.
    pub fn new(per_client: Option<u32>, per_group: Option<u32>, per_user: Option<u32>) -> Option<Self> {
        let limits = [per_client, per_group, per_user];
        limits.iter().any(Option::is_some).then_some(Self(limits))
    }

    /// The limits that are set, in the order in which they are checked.
    pub fn iter(&self) -> impl Iterator<Item = (LimitScope, u32)> {
        LimitScope::ALL.into_iter().zip(self.0).filter_map(|(limit_scope, limit)| Some((limit_scope, limit?)))
    }
}

impl fmt::Display for Limits {
    /// Writes one line such as `client=1 user=5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (limit_scope, limit)) in self.iter().enumerate() {
            let space = if position == 0 { "" } else { " " };
            write!(f, "{space}{}={limit}", limit_scope.as_str())?;
        }
        Ok(())
    }
}
