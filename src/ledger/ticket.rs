//! The tickets with which users are asked to choose sessions: each belongs to one browser, and admits one login.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::record::{Record, TicketState};
use super::times::later;
use super::{Attempt, Known, Ledger, SessionKey, Store, StoreTime, UserKey};
use crate::policy::{Admission, Origins, SessionList};

/// The use of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketUse {
    /// The ticket.
    pub id: String,
    /// What is chosen: the same text for the same sessions.
    pub choice: String,
    /// How long the login that comes back from the page is admitted: the rest of the ticket's life.
    pub life: Duration,
}

impl TicketUse {
    /// Notes that the choice has admitted the login: whatever session it comes back with.
    pub(super) fn note(&self, next: &mut Record, sid: &str, client_id: &str, longest_check: Duration, now: Timestamp) {
        next.make_claimable(sid, client_id, later(now, self.life), longest_check);
        next.set_choice(&self.id, Some(&self.choice));
    }
}

impl<S: Store> Ledger<S> {
    /// Binds a ticket to the first browser that opens it, for the rest of its life. `None` when the user's lock was not
    /// free, or the store did not answer, until the deadline: the ticket may be bound to the browser or not.
    pub async fn open_ticket(
        &self,
        user: &UserKey,
        id: &str,
        browser: &str,
        life: Duration,
        deadline: Instant,
    ) -> Option<TicketState> {
        let open = self.edit(user, |read, next| next.open_ticket(id, browser, later(read.now.at, life)));
        timeout_at(deadline, open).await.ok()
    }

    /// Reads by the deadline what a decision about a list needs, and writes nothing. `None` when this service revoked the login's
    /// session.
    pub async fn read_for<T>(
        &self,
        key: &SessionKey,
        (sessions, since): (&SessionList, StoreTime),
        deadline: Instant,
        decide: impl FnOnce(&[Admission], &HashSet<String>, &Origins) -> T,
    ) -> Option<T> {
        let read = self.store.read_by(&key.user, deadline).await;
        let ids = self.ids(&read.record, key, sessions);
        let Known { admissions, revoked, origins } = Known::of(&read, since, &ids);
        (!revoked.contains(&*key.sid)).then(|| decide(&admissions, &revoked, &origins))
    }
}

impl<S: Store> Attempt<S> {
    /// The same attempt, made with a ticket.
    pub fn with_ticket(mut self, ticket: TicketUse) -> Self {
        self.ticket = Some(ticket);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Eviction, Memory};
    use crate::policy::{Count, Decision, LimitScope, ListedSession};

    const COUNT: Count = Count { limit_scope: LimitScope::Client, limit: 1, active: 1, at_least: false };
    const LIFE: Duration = Duration::from_secs(300);

    fn user() -> UserKey {
        UserKey::new("t", "u")
    }

    fn ledger() -> std::sync::Arc<Ledger<Memory>> {
        std::sync::Arc::new(Ledger::new(Memory::new(1_000)))
    }

    fn terms() -> super::super::Terms {
        super::super::Terms {
            window: Duration::from_secs(10),
            longest_check: Duration::from_secs(3),
            listing_kept_for: Duration::from_secs(3_600),
            enforced: true,
            claims: true,
        }
    }

    fn ticket(choice: &str) -> TicketUse {
        TicketUse { id: "ticket".to_owned(), choice: choice.to_owned(), life: LIFE }
    }

    /// One session for each application: the rule of these tests.
    fn one_each(sid: &str, sessions: &SessionList, admissions: &[Admission], revoked: &HashSet<String>) -> Decision {
        let remembered = admissions.iter().any(|it| it.sid != sid && it.client_id == "c");
        let listed: Vec<&str> =
            sessions.ids().filter(|id| *id != sid && sessions.shows(id, "c") && !revoked.contains(*id)).collect();
        if remembered || !listed.is_empty() {
            return Decision::Exceeded { count: COUNT, revoke_session: true };
        }
        Decision::Within { count: COUNT, holder: false }
    }

    async fn check(ledger: &std::sync::Arc<Ledger<Memory>>, sid: &str, sessions: &SessionList) -> bool {
        let mut attempt = ledger.begin(SessionKey::new(user(), sid, "c"), terms(), Instant::now()).await;
        let (since, deadline) = (attempt.since(), Instant::now() + Duration::from_secs(3));
        let decide = |admissions: &[Admission], revoked: &HashSet<String>, _: &Origins| {
            one_each(sid, sessions, admissions, revoked)
        };
        let decision = attempt.admit(sessions, since, deadline, decide).await.unwrap();
        let allows = matches!(decision, Decision::Within { .. });
        attempt.finish(Eviction::default(), allows, deadline).await;
        allows
    }

    /// Opens the ticket, with a second until the deadline.
    async fn open(ledger: &Ledger<Memory>, browser: &str) -> Option<TicketState> {
        ledger.open_ticket(&user(), "ticket", browser, LIFE, Instant::now() + Duration::from_secs(1)).await
    }

    /// A choice that ends the session `old` for the login of `s1`.
    async fn choose(ledger: &std::sync::Arc<Ledger<Memory>>, sessions: &SessionList, succeeds: bool) {
        let attempt = ledger.begin(SessionKey::new(user(), "s1", "c"), terms(), Instant::now()).await;
        let mut attempt = attempt.with_ticket(ticket("old"));
        let (since, deadline) = (attempt.since(), Instant::now() + Duration::from_secs(3));
        let evict = |_: &[Admission], _: &HashSet<String>, _: &Origins| Decision::Evict {
            count: COUNT,
            victims: vec!["old".to_owned()],
        };
        attempt.admit(sessions, since, deadline, evict).await.unwrap();
        let old = vec!["old".to_owned()];
        let eviction = match succeeds {
            true => Eviction { revoked: old, not_revoked: Vec::new() },
            false => Eviction { revoked: Vec::new(), not_revoked: old },
        };
        attempt.finish(eviction, succeeds, deadline).await;
    }

    fn list() -> SessionList {
        let old =
            ListedSession { id: "old".to_owned(), clients: Some(vec!["c".to_owned()]), ..ListedSession::default() };
        SessionList::new("u", [old])
    }

    #[tokio::test]
    async fn ticket_belongs_to_the_browser_that_opens_it_first() {
        let ledger = ledger();
        assert_eq!(open(&ledger, "a").await, Some(TicketState::Open));
        assert_eq!(open(&ledger, "a").await, Some(TicketState::Open));
        assert_eq!(open(&ledger, "b").await, Some(TicketState::Elsewhere));
        choose(&ledger, &list(), true).await;
        assert_eq!(open(&ledger, "a").await, Some(TicketState::Done("old".to_owned())));
        assert_eq!(open(&ledger, "b").await, Some(TicketState::Elsewhere));
    }

    #[tokio::test(start_paused = true)]
    async fn ticket_waits_for_the_lock_of_its_user_until_the_deadline() {
        let ledger = ledger();
        let lock = ledger.user_locks.lock(&user()).await;
        let begun = Instant::now();
        let opened = tokio::time::timeout(Duration::from_secs(60), open(&ledger, "a")).await;
        assert_eq!((opened, begun.elapsed().as_secs()), (Ok(None), 1));
        drop(lock);
        assert_eq!(open(&ledger, "b").await, Some(TicketState::Open), "the first one left nothing behind");
    }

    #[tokio::test]
    async fn login_is_admitted_once_whatever_its_session() {
        for back_as in ["s1", "s2"] {
            let (ledger, list) = (ledger(), list());
            assert!(!check(&ledger, "s1", &list).await);
            choose(&ledger, &list, true).await;
            assert!(check(&ledger, back_as, &list).await, "{back_as}");
            assert!(check(&ledger, back_as, &list).await, "a check may be repeated");
            for other in ["s1", "s2", "s3"].into_iter().filter(|sid| *sid != back_as) {
                assert!(!check(&ledger, other, &list).await, "{back_as} has the place, not {other}");
            }
        }
    }

    #[tokio::test]
    async fn failed_choice_admits_nobody_and_may_be_repeated() {
        let (ledger, list) = (ledger(), list());
        open(&ledger, "a").await;
        choose(&ledger, &list, false).await;
        assert_eq!(open(&ledger, "a").await, Some(TicketState::Open));
        assert!(!check(&ledger, "s1", &list).await && !check(&ledger, "s2", &list).await);
        choose(&ledger, &list, true).await;
        assert!(check(&ledger, "s2", &list).await);
    }

    #[tokio::test]
    async fn login_that_only_reads_leaves_the_claimable_entry() {
        let (ledger, list) = (ledger(), list());
        choose(&ledger, &list, true).await;
        let window = Duration::ZERO;
        let terms = super::super::Terms { window, listing_kept_for: window, enforced: false, claims: false, ..terms() };
        let mut attempt = ledger.begin(SessionKey::new(user(), "s2", "c"), terms, Instant::now()).await;
        let (since, deadline) = (attempt.since(), Instant::now() + Duration::from_secs(3));
        let decide = |admissions: &[Admission], revoked: &HashSet<String>, _: &Origins| {
            one_each("s2", &list, admissions, revoked)
        };
        let decision = attempt.admit(&list, since, deadline, decide).await.unwrap();
        assert!(matches!(decision, Decision::Exceeded { .. }), "the place is another login's: {decision:?}");
        drop(attempt);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(check(&ledger, "s1", &list).await);
    }

    #[tokio::test]
    async fn listed_login_and_one_with_an_entry_claim_nothing() {
        let ledger = ledger();
        let of =
            |id: &str| ListedSession { id: id.to_owned(), clients: Some(vec!["c".to_owned()]), ..Default::default() };
        choose(&ledger, &list(), true).await;
        // A holder asks again: the place stays for the login that comes back.
        let holder = SessionList::new("u", [of("holder")]);
        check(&ledger, "holder", &holder).await;
        let nobody = SessionList::new("u", []);
        assert!(check(&ledger, "s2", &nobody).await);
        assert!(!check(&ledger, "s3", &nobody).await);
    }
}
