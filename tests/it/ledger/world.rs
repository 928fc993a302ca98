//! A tenant for the ledger's tests: sessions that show an application once a login has completed, several replicas, and a store
//! that lets other checks go first at every step.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use session_checker::ledger::{
    Attempt, Eviction, Ledger, Memory, Record, SessionKey, Stats, Store, StoreTime, Terms, UserKey, Versioned,
    listing_kept_for,
};
use session_checker::policy::{
    Admission, Decision, LimitInputs, ListedSession, Login, LoginContext, Manifest, ObjectName, Origins, Policy,
    SessionList, Verdict, compile,
};
use tokio::time::Instant;

pub const TIMEOUT: Duration = Duration::from_secs(3);
pub const WINDOW: Duration = Duration::from_secs(10);

/// A store in which a check that is about to read or exchange first lets all others go on.
pub struct Yielding<S>(pub S);

impl<S: Store> Store for Yielding<Arc<S>> {
    async fn read(&self, user: &UserKey) -> Versioned {
        tokio::task::yield_now().await;
        self.0.read(user).await
    }

    async fn compare_exchange(&self, user: &UserKey, expected: &Versioned, next: &mut Record) -> Result<(), Versioned> {
        tokio::task::yield_now().await;
        self.0.compare_exchange(user, expected, next).await
    }

    fn pseudonym<'a>(&self, sid: &'a str) -> Cow<'a, str> {
        self.0.pseudonym(sid)
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }
}

/// Replicas that share one store.
pub fn replicas<S: Store>(count: usize, store: S) -> Vec<Arc<Ledger<Yielding<Arc<S>>>>> {
    let store = Arc::new(store);
    (0..count).map(|_| Arc::new(Ledger::new(Yielding(Arc::clone(&store))))).collect()
}

/// One replica with the ledger in a store.
pub fn ledger<S: Store>(store: S) -> Arc<Ledger<S>> {
    Arc::new(Ledger::new(store))
}

/// One replica with the ledger in memory.
pub fn memory() -> Arc<Ledger<Memory>> {
    ledger(Memory::default())
}

/// A policy, from the fields other than the tenant's.
pub fn policy(fields: &Value) -> Policy {
    let mut spec = json!({
        "tenant": {"domain": "acme.eu.auth0.com", "credentialsSecretRef": {"name": "auth0"}},
        "selector": {"clientIds": ["a", "b", "c"]},
    });
    for (field, value) in fields.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let name = ObjectName::new("default", "limits");
    compile(&Manifest { name, generation: 1, created_at: None, spec }).unwrap()
}

/// The tenant's sessions of the one user there is.
#[derive(Default)]
pub struct Tenant {
    sessions: BTreeMap<String, (Timestamp, BTreeSet<String>)>,
    begun: i64,
    ended: BTreeSet<String>,
    /// The list while nothing changes, because tests need it often.
    listed: RefCell<Option<Rc<SessionList>>>,
}

impl Tenant {
    /// The user authenticates: there is a session, without applications. One that has ended never comes back.
    pub fn begin(&mut self, sid: &str) {
        if self.ended.contains(sid) {
            return;
        }
        self.listed.take();
        self.begun += 1;
        let created_at = Timestamp::from_second(1_700_000_000 + self.begun).unwrap();
        self.sessions.entry(sid.to_owned()).or_insert((created_at, BTreeSet::new()));
    }

    /// A login completes; it cannot on a session that has ended.
    pub fn complete(&mut self, sid: &str, client: &str) {
        self.listed.take();
        if let Some((_, clients)) = self.sessions.get_mut(sid) {
            clients.insert(client.to_owned());
        }
    }

    pub fn end(&mut self, sid: &str) {
        self.listed.take();
        self.sessions.remove(sid);
        self.ended.insert(sid.to_owned());
    }

    pub fn alive(&self, sid: &str) -> bool {
        self.sessions.contains_key(sid)
    }

    pub fn clients(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        self.sessions.iter().map(|(sid, (_, clients))| (sid.as_str(), clients))
    }

    pub fn list(&self) -> Rc<SessionList> {
        let listed = |(sid, (created_at, clients)): (&String, &(Timestamp, BTreeSet<String>))| ListedSession {
            id: sid.clone(),
            created_at: Some(*created_at),
            clients: Some(clients.iter().cloned().collect()),
            ..ListedSession::default()
        };
        let list = || Rc::new(SessionList::new("u", self.sessions.iter().map(listed)));
        Rc::clone(self.listed.borrow_mut().get_or_insert_with(list))
    }
}

/// A deadline that no test reaches unless it advances the time.
pub fn soon() -> Instant {
    Instant::now() + TIMEOUT
}

/// The user of all tests.
pub fn user() -> UserKey {
    UserKey::new("acme.eu.auth0.com", "u")
}

/// A login to one application of the one user.
pub struct Case<'a> {
    pub policy: &'a Policy,
    pub sid: &'a str,
    pub client: &'a str,
}

impl Case<'_> {
    pub fn key(&self, user: UserKey) -> SessionKey {
        SessionKey::new(user, self.sid, self.client)
    }

    pub fn terms(&self) -> Terms {
        Terms {
            window: self.policy.admission_window,
            longest_check: TIMEOUT,
            listing_kept_for: listing_kept_for(self.policy.recheck_after),
            enforced: true,
            claims: true,
        }
    }

    pub async fn begin<S: Store>(&self, ledger: &Arc<Ledger<S>>) -> Attempt<S> {
        self.begin_as(user(), ledger).await
    }

    pub async fn begin_as<S: Store>(&self, user: UserKey, ledger: &Arc<Ledger<S>>) -> Attempt<S> {
        ledger.begin(self.key(user), self.terms(), soon() + Duration::from_secs(60)).await
    }

    pub async fn admit<S: Store>(
        &self,
        attempt: &mut Attempt<S>,
        since: StoreTime,
        list: &SessionList,
        deadline: Instant,
    ) -> Result<Decision, Verdict> {
        self.admit_between(attempt, since, list, deadline, |_| ()).await
    }

    /// Admits, and calls `between` with the decision each time between deciding and committing.
    pub async fn admit_between<S: Store>(
        &self,
        attempt: &mut Attempt<S>,
        since: StoreTime,
        sessions: &SessionList,
        deadline: Instant,
        mut between: impl FnMut(&Decision),
    ) -> Result<Decision, Verdict> {
        let login = Login::new("u".into(), self.client.into(), Some(self.sid.into()), LoginContext::default()).unwrap();
        let limit_check = self.policy.pre_checks(&login, Timestamp::now()).unwrap();
        let decide = |admissions: &[Admission], revoked: &HashSet<String>, origins: &Origins| {
            let decision =
                limit_check.decide(LimitInputs { sessions, admissions, revoked, origins, now: Timestamp::now() });
            between(&decision);
            decision
        };
        attempt.admit(sessions, since, deadline, decide).await
    }

    /// Begins and admits with nothing in between.
    pub async fn decide<S: Store>(
        &self,
        ledger: &Arc<Ledger<S>>,
        tenant: &Tenant,
    ) -> (Attempt<S>, Result<Decision, Verdict>) {
        let mut attempt = self.begin(ledger).await;
        let since = attempt.since();
        let decision = self.admit(&mut attempt, since, &tenant.list(), soon()).await;
        (attempt, decision)
    }

    /// A whole check with nothing in between, in which every victim is revoked: whether it allows the login.
    pub async fn check<S: Store>(&self, ledger: &Arc<Ledger<S>>, tenant: &Tenant) -> bool {
        let (attempt, decision) = self.decide(ledger, tenant).await;
        let (allows, revoked) = match decision {
            Ok(Decision::Within { .. } | Decision::UnknownUser { .. }) => (true, Vec::new()),
            Ok(Decision::Evict { victims, .. }) => (true, victims),
            Ok(Decision::Exceeded { .. } | Decision::Ask { .. } | Decision::Undecided) | Err(_) => (false, Vec::new()),
        };
        attempt.finish(Eviction { revoked, not_revoked: Vec::new() }, allows, soon()).await;
        allows
    }

    /// Ends an attempt without a list, as when the failure policy answers: it allows the login or not.
    pub async fn fail<S: Store>(&self, ledger: &Arc<Ledger<S>>, user: UserKey, allows: bool) {
        self.begin_as(user, ledger).await.finish(Eviction::default(), allows, soon()).await;
    }
}

/// A store as several replicas of a test share it.
pub struct Direct<S>(pub Arc<S>);

impl<S: Store> Store for Direct<S> {
    async fn read(&self, user: &UserKey) -> Versioned {
        self.0.read(user).await
    }

    async fn compare_exchange(&self, user: &UserKey, expected: &Versioned, next: &mut Record) -> Result<(), Versioned> {
        self.0.compare_exchange(user, expected, next).await
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }
}

/// A store that never finishes an exchange.
pub struct Stuck(pub Memory);

impl Store for Stuck {
    async fn read(&self, user: &UserKey) -> Versioned {
        self.0.read(user).await
    }

    async fn compare_exchange(&self, _: &UserKey, _: &Versioned, _: &mut Record) -> Result<(), Versioned> {
        std::future::pending().await
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }
}

/// A store whose answers to exchanges are lost, so that the exchange is sent again.
pub struct Repeated(pub Memory);

impl Store for Repeated {
    async fn read(&self, user: &UserKey) -> Versioned {
        self.0.read(user).await
    }

    async fn compare_exchange(&self, user: &UserKey, expected: &Versioned, next: &mut Record) -> Result<(), Versioned> {
        self.0.compare_exchange(user, expected, &mut next.clone()).await?;
        self.0.compare_exchange(user, expected, next).await
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }
}
