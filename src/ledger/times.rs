//! How long an answer matters, and the arithmetic of times that saturates.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How long an entry that is not settled is renewed by the same login, without a write.
pub(super) const RENEWED_AFTER: Duration = Duration::from_secs(300);

/// How long after its answer a login may complete: the hour that Auth0 gives a transaction, the time in which an entry is not
/// renewed, and a minute in which a list is read and two clocks may differ.
pub const PENDING_FOR: Duration = Duration::from_secs(3600 + 300 + 60);

/// Saturates at the end of time, which only a clock that is far wrong reaches.
pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

/// Saturates at the beginning of time.
pub(super) fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_sub(by).ok()).unwrap_or(Timestamp::MIN)
}
