//! The login pipeline, as far as sessions are concerned.
//!
//! Auth0 makes the session before the post-login Actions run, and keeps it when one of them denies the login. The
//! application is added to the session only when the login completes. A browser that comes back with the session's cookie
//! goes through the same pipeline on the same session.

use std::sync::Arc;

use rand::distr::{Alphanumeric, SampleString};

use super::session::Session;
use super::tenant::Tenant;

/// The length of the ids that the tenant gives to sessions, which is that of Auth0's examples.
const SESSION_ID_LENGTH: usize = 32;

/// A login that has reached the post-login Actions. Its session exists; what becomes of the login is decided by one of
/// [`Self::complete`], [`Self::deny`] and [`Self::revoke`]. Dropping it is a browser that was closed on the way.
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

    /// The session id: what the Action reads as `event.session.id`, and what the browser keeps.
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// Who logs in.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The application that they log in to.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Whether it goes on with the session that the browser had.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// All Actions let it pass: the application joins the session. Gives the session id; `None` when the session was ended
    /// while the login was under way, which leaves nothing.
    pub fn complete(self) -> Option<String> {
        let (now, delay) = (self.tenant.now(), self.tenant.visibility_delay());
        let completed = self.tenant.users.complete_login((&self.user_id, &self.sid), &self.client_id, now, delay);
        completed.then_some(self.sid)
    }

    /// An Action called `api.access.deny`: the login fails, the session stays. Gives the session id, as
    /// [`Self::complete`] does.
    pub fn deny(self) -> Option<String> {
        let denied = self.tenant.users.deny_login((&self.user_id, &self.sid), self.tenant.now());
        denied.then_some(self.sid)
    }

    /// An Action called `api.session.revoke`: the login fails and the session ends.
    pub fn revoke(self) {
        self.tenant.users.end_session(&self.sid, self.tenant.now(), self.tenant.visibility_delay());
    }
}
