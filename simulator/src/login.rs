//! The login pipeline, as far as it concerns sessions.
//!
//! Auth0 makes the session before the post-login Actions run, and keeps it when one of them denies the login. The
//! application joins the session only when the login completes. A browser that returns with the session's cookie goes
//! through the same pipeline with the same session.

use std::sync::Arc;

use rand::distr::{Alphanumeric, SampleString};

use super::session::Session;
use super::tenant::Tenant;

/// The length of a session id, as in Auth0's examples.
const SESSION_ID_LENGTH: usize = 32;

/// A login that has reached the post-login Actions. Its session exists. The login ends with [`Self::complete`],
/// [`Self::deny`] or [`Self::revoke`]. To drop it is like closing the browser before the end.
#[derive(Debug)]
#[must_use = "a login that is dropped never completes"]
pub struct Login {
    tenant: Arc<Tenant>,
    user_id: String,
    client_id: String,
    sid: String,
    resumed: bool,
}

impl Login {
    pub(super) fn begin(tenant: Arc<Tenant>, user_id: &str, client_id: &str, cookie: Option<&str>) -> Self {
        let now = tenant.now();
        let resumed = cookie.filter(|sid| tenant.users.is_alive(user_id, sid, now)).map(str::to_owned);
        let is_resumed = resumed.is_some();
        let sid = resumed.unwrap_or_else(|| {
            let sid = Alphanumeric.sample_string(&mut rand::rng(), SESSION_ID_LENGTH);
            tenant.users.add_session(user_id, Session::new(&sid, now));
            sid
        });
        Self { tenant, user_id: user_id.to_owned(), client_id: client_id.to_owned(), sid, resumed: is_resumed }
    }

    /// The session id, which the Action reads as `event.session.id` and the browser keeps as a cookie.
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// The user id.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The client id of the application.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Whether it continues the session of the browser's cookie.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Notes the user agent of the login's browser in the session's entry.
    pub fn used_with(&self, user_agent: &str) {
        self.tenant.users.set_user_agent((&self.user_id, &self.sid), user_agent);
    }

    /// Completes the login, as when all Actions allow it: the application joins the session. Returns the session id, or `None`
    /// when the session has ended during the login.
    pub fn complete(self) -> Option<String> {
        let (now, delay) = (self.tenant.now(), self.tenant.visibility_delay());
        let completed = self.tenant.users.complete_login((&self.user_id, &self.sid), &self.client_id, now, delay);
        if completed {
            // A login that continues a session is silent here: nobody has to authenticate.
            self.tenant.log_streams.report(if self.resumed { "ssa" } else { "s" }, &self, now);
        }
        completed.then_some(self.sid)
    }

    /// Fails the login, as when an Action calls `api.access.deny`: the session stays. Returns the session id, as
    /// [`Self::complete`] does.
    pub fn deny(self) -> Option<String> {
        let denied = self.tenant.users.deny_login((&self.user_id, &self.sid), self.tenant.now());
        self.tenant.log_streams.report("f", &self, self.tenant.now());
        denied.then_some(self.sid)
    }

    /// Fails the login and ends the session, as when an Action calls `api.session.revoke`.
    pub fn revoke(self) {
        self.tenant.users.end_session(&self.sid, self.tenant.now(), self.tenant.visibility_delay());
    }
}
