//! How often each ticket was used in this replica, and the list that its page shows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::TICKET_SECONDS;
use crate::ledger::{HashedTable, KeyHasher, shrink};

/// How often the page of a ticket is shown: more than a person reloads it. Each may cost a list.
const MAX_RENDERS: u8 = 10;
/// How often a choice of a ticket is tried: the first, and two more after a failure.
const MAX_TRIES: u8 = 3;
/// How many lists are requested for a ticket: one for each page and each try. Forms with a wrong number, and lists that fail, cost
/// neither, and must not cost lists without a bound.
const MAX_LISTS_OF_TICKET: u8 = MAX_RENDERS + MAX_TRIES;
/// How long a list is shown again, as long as the last list of a check.
const LIST_AGE: Duration = Duration::from_secs(10);
/// The tickets whose use is counted: 33 people a second who are asked. Each takes at most 200 bytes without its list.
const MAX_TICKETS: usize = 10_000;
/// The tickets whose list is kept: 50 people a second. A list of a person takes some kilobytes, and counts for the memory of
/// the tenant's lists as well.
const MAX_LISTS: usize = 500;

/// The uses of tickets, with lists `L`.
pub struct TicketUses<L> {
    hasher: KeyHasher,
    /// By the hash of a ticket, the first use first.
    uses: Mutex<HashedTable<Uses<L>>>,
    /// How many tickets were forgotten before they expired. Never falls.
    forgotten: AtomicU64,
}

struct Uses<L> {
    first_at: Instant,
    renders: u8,
    tries: u8,
    lists: u8,
    list: Option<(Instant, Arc<L>)>,
}

impl<L> Default for TicketUses<L> {
    fn default() -> Self {
        Self { hasher: KeyHasher::default(), uses: Mutex::default(), forgotten: AtomicU64::new(0) }
    }
}

impl<L> TicketUses<L> {
    /// Counts that the page of a ticket is shown. False when it was shown too often.
    pub fn render(&self, id: &str) -> bool {
        self.count(id, |uses| {
            uses.renders = uses.renders.saturating_add(1);
            uses.renders <= MAX_RENDERS
        })
    }

    /// Counts that a choice is carried out. False when that was tried too often.
    pub fn try_choice(&self, id: &str) -> bool {
        self.count(id, |uses| {
            uses.tries = uses.tries.saturating_add(1);
            uses.tries <= MAX_TRIES
        })
    }

    /// Takes back a try that did not come to a revocation.
    pub fn return_try(&self, id: &str) {
        self.count(id, |uses| uses.tries = uses.tries.saturating_sub(1));
    }

    /// Counts that a list is requested for a ticket. False when that was done too often.
    pub fn request_list(&self, id: &str) -> bool {
        self.count(id, |uses| {
            uses.lists = uses.lists.saturating_add(1);
            uses.lists <= MAX_LISTS_OF_TICKET
        })
    }

    /// The list that was requested for the ticket a moment ago.
    pub fn list(&self, id: &str) -> Option<Arc<L>> {
        let uses = self.lock();
        let (at, list) = uses.get(&self.hasher.hash(&id))?.list.as_ref()?;
        (at.elapsed() < LIST_AGE).then(|| Arc::clone(list))
    }

    /// Keeps the list for the next page or form.
    pub fn keep_list(&self, id: &str, list: Arc<L>) {
        let now = Instant::now();
        let mut uses = self.lock();
        let kept = uses.values().filter(|uses| uses.list.is_some()).count();
        if let Some(uses) = uses.get_mut(&self.hasher.hash(&id)).filter(|uses| kept < MAX_LISTS || uses.list.is_some())
        {
            uses.list = Some((now, list));
        }
    }

    /// Drops the list: it is no longer true.
    pub fn drop_list(&self, id: &str) {
        if let Some(uses) = self.lock().get_mut(&self.hasher.hash(&id)) {
            uses.list = None;
        }
    }

    /// Forgets tickets that have expired and lists that are too old. Returns how many tickets are left, and how many were
    /// forgotten before they expired.
    pub fn sweep(&self) -> (usize, u64) {
        let life = Duration::from_secs(TICKET_SECONDS.into());
        let mut uses = self.lock();
        uses.retain(|_, uses| {
            uses.list.take_if(|(at, _)| at.elapsed() >= LIST_AGE);
            uses.first_at.elapsed() < life
        });
        shrink(&mut uses);
        (uses.len(), self.forgotten.load(Ordering::Relaxed))
    }

    fn count<T>(&self, id: &str, count: impl FnOnce(&mut Uses<L>) -> T) -> T {
        let new = || Uses { first_at: Instant::now(), renders: 0, tries: 0, lists: 0, list: None };
        let mut uses = self.lock();
        let counted = count(uses.entry(self.hasher.hash(&id)).or_insert_with(new));
        while uses.len() > MAX_TICKETS {
            uses.pop_front();
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
        counted
    }

    fn lock(&self) -> MutexGuard<'_, HashedTable<Uses<L>>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ticket_is_shown_and_tried_a_few_times() {
        let uses = TicketUses::<()>::default();
        assert!((0..MAX_RENDERS).all(|_| uses.render("a")) && !uses.render("a") && uses.render("b"));
        assert!(uses.try_choice("a"));
        uses.return_try("a");
        assert!((0..MAX_TRIES).all(|_| uses.try_choice("a")) && !uses.try_choice("a"));
        let lists = MAX_RENDERS + MAX_TRIES;
        assert!((0..lists).all(|_| uses.request_list("a")) && !uses.request_list("a") && uses.request_list("b"));
        tokio::time::advance(Duration::from_secs(TICKET_SECONDS.into())).await;
        assert_eq!(uses.sweep(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn list_is_kept_for_ten_seconds_and_few_are() {
        let uses = TicketUses::default();
        uses.render("a");
        uses.keep_list("a", Arc::new(1));
        assert_eq!(uses.list("a").as_deref(), Some(&1));
        for number in 0..MAX_LISTS {
            uses.render(&number.to_string());
            uses.keep_list(&number.to_string(), Arc::new(2));
        }
        assert!(uses.list("0").is_some() && uses.list(&(MAX_LISTS - 1).to_string()).is_none());
        uses.keep_list("a", Arc::new(3));
        assert_eq!(uses.list("a").as_deref(), Some(&3), "the list of a ticket is replaced");
        tokio::time::advance(LIST_AGE).await;
        assert!(uses.list("a").is_none());
        uses.sweep();
        uses.keep_list(&(MAX_LISTS - 1).to_string(), Arc::new(4));
        assert!(uses.list(&(MAX_LISTS - 1).to_string()).is_some());
        uses.drop_list(&(MAX_LISTS - 1).to_string());
        assert!(uses.list(&(MAX_LISTS - 1).to_string()).is_none());
    }

    #[tokio::test]
    async fn tickets_are_bounded() {
        let uses = TicketUses::<()>::default();
        for number in 0..MAX_TICKETS + 5 {
            assert!(uses.render(&number.to_string()));
        }
        assert_eq!(uses.sweep(), (MAX_TICKETS, 5));
    }
}
