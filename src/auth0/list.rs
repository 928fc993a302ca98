//! A user's sessions: every page of them.

use std::collections::HashSet;

use reqwest::StatusCode;

use super::error::{Error, object};
use super::limiter::{CallContext, Priority};
use super::observer::Operation;
use super::parse::Page;
use super::{TenantClient, path};
use crate::policy::{Failure, SessionList};

/// The most that Auth0's public cloud puts on a page.
const PAGE_SIZE: &str = "50";

/// More than this is not a user's sessions.
const MAX_PAGES: usize = 40;

impl TenantClient {
    /// Lists the sessions of a user, all pages of them, by the errand's deadline. A user whom the tenant does not know has none.
    ///
    /// # Errors
    /// Any page that could not be had or read: there is no list with holes.
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

    /// One page; nothing when the tenant does not know the user.
    async fn page(&self, path: &str, from: Option<&str>, context: &CallContext) -> Result<Option<Page>, Error> {
        let mut url = self.url(path);
        url.query_pairs_mut().append_pair("take", PAGE_SIZE).extend_pairs(from.map(|cursor| ("from", cursor)));
        let priority = match from {
            Some(_) => Priority::NextPage,
            None if context.silent => Priority::Silent,
            None => Priority::Login,
        };
        let answer = self.call(Operation::List, priority, &url, context).await?;
        match answer.status {
            status if status.is_success() => Page::read(&answer.body).map(Some),
            // Without an object it was not the API that answered. On a later page it is not the user who is unknown.
            StatusCode::NOT_FOUND if from.is_none() && object(&answer.body).is_some() => Ok(None),
            status => Err(Error::of_api(status, &answer.body)),
        }
    }
}
