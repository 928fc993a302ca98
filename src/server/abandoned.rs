//! Checks whose caller disconnects before the answer. Such a check continues and is counted as every other one, but the
//! caller's failure mode decides the login unless the caller asks again: the limit may be off for it.

use std::thread;

use super::app::App;

/// A caller that waits for the answer to its check. Dropped before [`answered`](Self::answered), it counts the check as
/// abandoned.
#[must_use = "the check counts as abandoned when this is dropped"]
pub(super) struct WaitingCaller<'a>(Option<&'a App>);

impl<'a> WaitingCaller<'a> {
    pub fn new(app: &'a App) -> Self {
        Self(Some(app))
    }

    /// The answer is there.
    pub fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for WaitingCaller<'_> {
    fn drop(&mut self) {
        // After a panic the caller still waits, and gets an error as the answer.
        let Some(app) = self.0.take().filter(|_| !thread::panicking()) else { return };
        app.metrics.check_abandoned();
        if let Some(suppressed) = app.abandoned_lines.admit() {
            let remedy = "compare the policy's timeout with the time limit of the caller and of what is between";
            tracing::warn!(
                suppressed,
                remedy,
                "the caller left before the answer: its failure mode decides the login, unless it asks again"
            );
        }
    }
}
