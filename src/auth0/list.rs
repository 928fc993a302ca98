//! `list_sessions`: all pages of a user's sessions.

use std::collections::HashSet;

use reqwest::StatusCode;

use super::call::{CallContext, Operation, Priority};
use super::client::TenantClient;
use super::error::{Error, object};
use super::parse::Page;
use super::path;
use crate::policy::{Failure, SessionList};

/// The largest page of Auth0's public cloud.
const PAGE_SIZE: &str = "50";

/// The most pages of one list: 2,000 sessions. A longer list is more likely an endless one.
const MAX_PAGES: usize = 40;

impl TenantClient {
    /// Lists all sessions of a user before the deadline of the call. A user whom the tenant does not know has none.
    ///
    /// # Errors
    /// Any page that cannot be fetched or read: a list with a missing page would not be true.
    pub async fn list_sessions(&self, user_id: &str, context: &CallContext) -> Result<SessionList, Error> {
        let path = path::sessions_of(user_id)?;
        let (mut sessions, mut unreadable) = (Vec::new(), 0);
        let mut cursors = HashSet::new();
        let mut from: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let Some(page) = self.page(&path, from.as_deref(), context).await? else {
                self.observer().unknown_user(self.tenant());
                break;
            };
            unreadable += page.entries - page.sessions.len();
            sessions.extend(page.sessions);
            from = page.next.filter(|cursor| page.entries > 0 && cursors.insert(cursor.clone()));
            if from.is_none() {
                break;
            }
        }
        if from.is_some() {
            return Err(Error::new(Failure::UpstreamError, "the list has more than 40 pages"));
        }
        let list = SessionList::new(user_id, sessions);
        match unreadable + list.dropped() {
            0 => {}
            dropped => self.observer().dropped_entries(self.tenant(), dropped),
        }
        Ok(list)
    }

    /// One page. `None` when the tenant does not know the user.
    async fn page(&self, path: &str, from: Option<&str>, context: &CallContext) -> Result<Option<Page>, Error> {
        let mut url = self.url(path);
        url.query_pairs_mut().append_pair("take", PAGE_SIZE).extend_pairs(from.map(|cursor| ("from", cursor)));
        let priority = match from {
            Some(_) => Priority::NextPage,
            None if context.silent => Priority::Silent,
            None => Priority::Login,
        };
        let reply = self.call(Operation::List, priority, &url, context).await?;
        match reply.status {
            status if status.is_success() => Page::read(&reply.body).map(Some),
            // Without a JSON object the 404 is not the API's. On a later page it is not the user who is unknown.
            StatusCode::NOT_FOUND if from.is_none() && object(&reply.body).is_some() => Ok(None),
            status => Err(Error::from_api(status, &reply.body)),
        }
    }
}
