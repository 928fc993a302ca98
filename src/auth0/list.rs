//! `read_list`: the pages of a user's sessions, within bounds.
//!
//! A tenant decides how many pages, entries and bytes it sends. Each bound is far above what Auth0 lists for a person, and
//! what it bounds is memory and time of this service.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use hyper::StatusCode;
use jiff::SignedDuration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::call::{CallContext, Operation, Priority};
use super::client::TenantClient;
use super::error::{Error, is_of_api};
use super::memory::Charge;
use super::observer::{ListBound, ListField};
use super::parse::{MAX_PAGE_ENTRIES, Page};
use super::path;
use super::transport::Reply;
use super::user_agents::{self, UserAgents};
use crate::policy::{Completeness, Failure, SessionList};

/// The largest page of Auth0's public cloud.
const PAGE_SIZE: &str = "50";

/// The most pages of one list: 2,000 sessions. A longer list is more likely an endless one.
const MAX_PAGES: usize = 40;

/// The most entries of one list: those of [`MAX_PAGES`] full pages.
const MAX_ENTRIES: usize = MAX_PAGE_ENTRIES;

/// The most bytes of the pages of one list: four times those of [`MAX_PAGES`] full pages of Auth0 (about 50 KiB each).
const MAX_LIST_BYTES: usize = 8 << 20;

/// A difference of two clocks of so many seconds says nothing: an answer has its time in whole seconds, and takes its way.
const CLOCK_PRECISION: i64 = 5;

/// The most applications of one session. Few tenants have as many.
const MAX_CLIENTS: usize = 1_000;

/// The longest cursor: about as long as a URL may be.
const MAX_CURSOR_BYTES: usize = 4 << 10;

/// A page of more bytes is parsed apart from the tasks that serve other checks: five full pages of Auth0. Less takes under a
/// millisecond.
const LARGE_PAGE_BYTES: usize = 256 << 10;

/// The most bytes of a page that is kept as it came: the sessions of a person, some twenty of them.
const MAX_KEPT_BYTES: usize = 16 << 10;

/// How many large pages are parsed at once: they must not take every core.
static LARGE_PARSES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(2)));

/// A user's sessions, and the memory that the list takes.
pub struct ReadList {
    /// The sessions.
    pub sessions: SessionList,
    /// The user agents of the sessions, when they were asked for.
    pub user_agents: UserAgents,
    /// The first page, unless it is large.
    pub first_page: Option<FirstPage>,
    /// Counts the memory until it is released.
    pub charge: Charge,
}

/// A page as it came, for what no check needs. Its memory counts until it is dropped.
pub struct FirstPage {
    body: Vec<u8>,
    _charge: Charge,
}

impl FirstPage {
    /// The user agents of its sessions.
    pub fn user_agents(&self) -> UserAgents {
        user_agents::read(&self.body)
    }
}

/// What is read of a page.
struct ReadPage {
    page: Page,
    user_agents: UserAgents,
    bytes: usize,
    /// By how many seconds the tenant's clock is ahead of ours.
    clock_ahead: i64,
    kept: Option<FirstPage>,
}

impl TenantClient {
    /// The sessions of [`read_list`](Self::read_list).
    ///
    /// # Errors
    /// As for `read_list`.
    pub async fn list_sessions(&self, user_id: &str, context: &CallContext) -> Result<SessionList, Error> {
        Ok(self.read_list(user_id, context, |_| false).await?.sessions)
    }

    /// Lists the sessions of a user before the deadline of the call: all of them, as many as `is_enough` needs, or as many as
    /// the bounds permit.
    ///
    /// # Errors
    /// Any page that cannot be fetched or read: a list with a missing page would not be true. A session that exceeds a bound.
    pub async fn read_list(
        &self,
        user_id: &str,
        context: &CallContext,
        is_enough: impl Fn(&SessionList) -> bool,
    ) -> Result<ReadList, Error> {
        self.read_pages(user_id, context, false, is_enough).await
    }

    /// Lists all sessions of a user, with their user agents.
    ///
    /// # Errors
    /// As for `read_list`.
    pub async fn read_devices(&self, user_id: &str, context: &CallContext) -> Result<ReadList, Error> {
        self.read_pages(user_id, context, true, |_| false).await
    }

    async fn read_pages(
        &self,
        user_id: &str,
        context: &CallContext,
        with_user_agents: bool,
        is_enough: impl Fn(&SessionList) -> bool,
    ) -> Result<ReadList, Error> {
        let (mut list, mut agents, mut charge) = (SessionList::default(), UserAgents::new(), self.charge());
        let (mut pages, mut entries, mut bytes, mut unreadable) = (0, 0, 0, 0);
        let (mut without_sessions, mut without_clients) = (0, 0);
        let mut cursors = HashSet::new();
        let mut from: Option<String> = None;
        let mut first_page = None;
        let asked_at = self.endpoint().clock().timestamp();
        loop {
            let read = self.page(user_id, from.as_deref(), context, with_user_agents).await?;
            let Some(ReadPage { page, user_agents, bytes: page_bytes, clock_ahead, kept }) = read else {
                self.observer().unknown_user(self.tenant());
                let sessions = SessionList::of_unknown_user();
                return Ok(ReadList { sessions, user_agents: agents, first_page, charge });
            };
            charge.grow(memory_of(&page))?;
            first_page = first_page.or(kept);
            pages += 1;
            entries += page.entries;
            bytes += page_bytes;
            unreadable += page.entries.min(MAX_PAGE_ENTRIES) - page.sessions.len();
            for (id, agent) in user_agents {
                agents.entry(id).or_insert(agent);
            }
            without_sessions += usize::from(!page.has_sessions);
            without_clients +=
                page.sessions.iter().filter(|it| it.clients.is_none() || it.has_unreadable_clients).count();
            list.extend(user_id, page.sessions);
            let clock_ahead = if clock_ahead.abs() <= CLOCK_PRECISION { 0 } else { clock_ahead };
            list.set_time(asked_at, SignedDuration::from_secs(clock_ahead));
            from = page.next.filter(|cursor| page.entries > 0 && !cursors.contains(cursor));
            if list.most_clients() > MAX_CLIENTS {
                self.observer().oversized_list(self.tenant(), ListBound::Clients);
                let detail = "a session of the list has more than 1000 applications";
                return Err(Error::new(Failure::UpstreamError, detail));
            }
            if entries > MAX_ENTRIES {
                self.cap(&mut list, ListBound::Entries);
                break;
            }
            let Some(cursor) = &from else { break };
            if is_enough(&list) {
                list.set_completeness(Completeness::Enough);
                break;
            }
            if cursor.len() > MAX_CURSOR_BYTES {
                return Err(Error::new(
                    Failure::UpstreamError,
                    "the cursor of the next page is longer than a URL may be",
                ));
            }
            if pages == MAX_PAGES {
                self.cap(&mut list, ListBound::Pages);
                break;
            }
            if bytes >= MAX_LIST_BYTES {
                self.cap(&mut list, ListBound::Bytes);
                break;
            }
            cursors.insert(cursor.clone());
        }
        if pages > 1 {
            list.set_several_pages();
        }
        charge.grow(agents.iter().map(|(id, agent)| id.len() + agent.len()).sum())?;
        match unreadable + list.dropped() {
            0 => {}
            dropped => self.observer().dropped_entries(self.tenant(), dropped),
        }
        for (field, count) in [(ListField::Sessions, without_sessions), (ListField::Clients, without_clients)] {
            if count > 0 {
                self.observer().missing_fields(self.tenant(), field, count);
            }
        }
        match list.unusual_ids() {
            0 => {}
            unusual => self.observer().unusual_ids(self.tenant(), unusual),
        }
        Ok(ReadList { sessions: list, user_agents: agents, first_page, charge })
    }

    fn cap(&self, list: &mut SessionList, bound: ListBound) {
        self.observer().oversized_list(self.tenant(), bound);
        list.set_completeness(Completeness::Capped);
    }

    /// One page, with its user agents where they are wanted. `None` when the tenant does not know the user.
    async fn page(
        &self,
        user_id: &str,
        from: Option<&str>,
        context: &CallContext,
        with_user_agents: bool,
    ) -> Result<Option<ReadPage>, Error> {
        let target = path::sessions_of(user_id, PAGE_SIZE, from)?;
        let priority = match from {
            Some(_) => Priority::NextPage,
            None if context.silent => Priority::Silent,
            None => Priority::Login,
        };
        let reply = self.call(Operation::List, priority, &target, context).await?;
        match reply.status {
            status if status.is_success() => {
                let (bytes, clock_ahead) = (reply.body.len(), reply.clock_ahead);
                // The charge goes with the body, also when the check is given up while it is parsed.
                let Reply { body, charge, .. } = reply;
                let is_kept = from.is_none() && bytes <= MAX_KEPT_BYTES;
                let read = move |owner: &str| {
                    let page = Page::read(&body, Some(owner));
                    let agents = if with_user_agents { user_agents::read(&body) } else { UserAgents::new() };
                    (page, agents, is_kept.then_some(FirstPage { body, _charge: charge }))
                };
                let (page, user_agents, kept) = apart(bytes, user_id, context.deadline, read).await?;
                Ok(Some(ReadPage { page: page?, user_agents, bytes, clock_ahead, kept }))
            }
            // On a later page it is not the user who is unknown.
            StatusCode::NOT_FOUND if from.is_none() && is_of_api(reply.status, &reply.body) => Ok(None),
            status => Err(Error::from_api(status, &reply.body)),
        }
    }
}

/// Does work on this many bytes of a user: apart from the tasks of checks where they are many, and then by the deadline.
async fn apart<T: Send + 'static>(
    bytes: usize,
    user_id: &str,
    deadline: Instant,
    work: impl FnOnce(&str) -> T + Send + 'static,
) -> Result<T, Error> {
    if bytes <= LARGE_PAGE_BYTES {
        return Ok(work(user_id));
    }
    let user_id = user_id.to_owned();
    let worked = async {
        // The place goes with the work, which ends by itself when the check is given up. The semaphore is never closed.
        let place = Arc::clone(&LARGE_PARSES).acquire_owned().await;
        let work = move || {
            let result = work(&user_id);
            drop(place);
            result
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::ended())
    };
    timeout_at(deadline, worked).await.unwrap_or_else(|_| Err(Error::timeout()))
}

/// The memory that the entries of a page take in a list.
fn memory_of(page: &Page) -> usize {
    /// An entry without its texts, in the list and in its index.
    const ENTRY: usize = 256;
    /// A place in a set of applications.
    const PLACE: usize = 16;
    let texts = |session: &crate::policy::ListedSession| {
        let clients = session.clients.iter().flatten().map(|client| client.len() + PLACE);
        ENTRY + session.id.len() + clients.sum::<usize>()
    };
    page.sessions.iter().map(texts).sum()
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn late() -> Instant {
        Instant::now() + Duration::from_secs(3_600)
    }

    #[tokio::test]
    async fn large_page_waits_for_its_place_until_the_deadline() {
        let places = LARGE_PARSES.acquire_many(2).await.unwrap();
        let result = apart(LARGE_PAGE_BYTES + 1, "u", Instant::now(), |_| ()).await;
        assert_eq!(result.unwrap_err().failure, Failure::UpstreamTimeout);
        drop(places);
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let result = apart(LARGE_PAGE_BYTES + 1, "u", Instant::now(), move |_| wait.recv().is_ok()).await;
        assert_eq!(result.unwrap_err().failure, Failure::UpstreamTimeout, "and for its parse");
        drop(release);
    }

    #[tokio::test]
    async fn large_page_is_parsed_on_another_thread() {
        let here = thread::current().id();
        let worker = |bytes| async move { apart(bytes, "u", late(), |_| thread::current().id()).await.unwrap() };
        assert_eq!(worker(LARGE_PAGE_BYTES).await, here, "a page of a person costs no other thread");
        assert_ne!(worker(LARGE_PAGE_BYTES + 1).await, here);
    }

    #[tokio::test]
    async fn panic_of_a_large_parse_is_an_error() {
        let result = apart(LARGE_PAGE_BYTES + 1, "u", late(), |_| -> u8 { panic!("the parser") }).await;
        assert_eq!(result.unwrap_err().failure, Failure::InternalError);
    }
}
