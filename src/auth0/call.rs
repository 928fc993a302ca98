//! One call to a tenant: which operation it is, how urgent it is, and for whom it is made.

use hyper::Method;
use tokio::time::Instant;

use crate::policy::ObjectName;

/// The calls that this client makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `POST /oauth/token`.
    Token,
    /// One page of `GET /api/v2/users/{id}/sessions`.
    List,
    /// `POST /api/v2/sessions/{id}/revoke`.
    Revoke,
    /// `GET /api/v2/sessions/{id}`, before its metadata is changed.
    Read,
    /// `PATCH /api/v2/sessions/{id}`: changes its metadata.
    Annotate,
}

/// How urgent a request is. The first is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Priority {
    /// Finishes a check whose list is paid for. It may use the reserve.
    Revocation,
    /// A further page of a list, which is worth nothing without that page.
    NextPage,
    /// A user waits at a login.
    Login,
    /// A session that already counts is renewed without the user, or no check depends on the request.
    Silent,
}

/// For whom a tenant is called, and until when an answer is of use.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The policy of the check. While requests wait for the budget, the policies of a tenant alternate.
    pub policy: Option<ObjectName>,
    /// Whether the login is a silent renewal. While requests wait for the budget, logins with a waiting user go first.
    pub silent: bool,
    /// The call ends at this time at the latest.
    pub deadline: Instant,
}

/// A call that belongs to no policy.
impl From<Instant> for CallContext {
    fn from(deadline: Instant) -> Self {
        Self { policy: None, silent: false, deadline }
    }
}

impl Operation {
    /// The operations of a check. A failure of any of them decides its answer.
    pub const OF_CHECKS: [Self; 3] = [Self::Token, Self::List, Self::Revoke];

    /// Every operation, for tables and metrics.
    pub const ALL: [Self; 5] = [Self::Token, Self::List, Self::Revoke, Self::Read, Self::Annotate];

    /// The stable machine word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::List => "list",
            Self::Revoke => "revoke",
            Self::Read => "read",
            Self::Annotate => "annotate",
        }
    }

    pub(super) const fn method(self) -> Method {
        match self {
            Self::List | Self::Read => Method::GET,
            Self::Token | Self::Revoke => Method::POST,
            Self::Annotate => Method::PATCH,
        }
    }

    /// Whether no check depends on it: it is sent once, and its failure says nothing to the circuit breaker.
    pub(super) const fn is_best_effort(self) -> bool {
        matches!(self, Self::Read | Self::Annotate)
    }

    /// The path without its ids, for spans.
    pub(super) const fn template(self) -> &'static str {
        match self {
            Self::Token => "/oauth/token",
            Self::List => "/api/v2/users/{id}/sessions",
            Self::Revoke => "/api/v2/sessions/{id}/revoke",
            Self::Read | Self::Annotate => "/api/v2/sessions/{id}",
        }
    }
}

impl Priority {
    pub const COUNT: usize = Self::Silent as usize + 1;

    pub fn uses_reserve(self) -> bool {
        self == Self::Revocation
    }
}
