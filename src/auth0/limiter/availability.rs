//! When the next request may be sent, as seen by one of the budget's two bounds.

use tokio::time::Instant;

/// When a request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Availability {
    /// At once.
    Now,
    /// Not before this time.
    At(Instant),
    /// It depends on an answer that has not come. Where a time is given, it is known by then at the latest.
    Unknown(Option<Instant>),
}
