//! A tenant as the ledger's tests need it: sessions that show an application once a login has completed, several replicas,
//! and a store that lets others go first at every step.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use session_checker::ledger::{
    Attempt, Ledger, Listed, Memory, Opened, Record, Stats, Store, StoreTime, Terms, User, Versioned,
};
use session_checker::policy::{
    Admission, Decision, LimitInputs, ListedSession, Login, LoginContext, Manifest, ObjectName, Policy, SessionList,
    Verdict, compile,
};
use tokio::time::Instant;

pub const TIMEOUT: Duration = Duration::from_secs(3);
pub const WINDOW: Duration = Duration::from_secs(10);

/// A store in which whoever is about to read or exchange first lets everybody else go on.
pub struct Yielding<S>(pub S);

impl<S: Store> Store for Yielding<Arc<S>> {
    async fn read(&self, user: &User) -> Versioned {
        tokio::task::yield_now().await;
        self.0.read(user).await
    }

    async fn compare_exchange(&self, user: &User, expected: &Versioned, next: Record) -> Result<(), Versioned> {
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

/// One replica with the ledger in memory.
pub fn memory() -> Ledger<Memory> {
    Ledger::new(Memory::default())
}

/// A policy, from the fields beside the tenant's.
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
    /// The list as long as nothing changes: what a test asks for most.
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

/// The user that all tests are about.
pub fn user() -> User {
    User::new("acme.eu.auth0.com", "u")
}

/// A login to one application of the one user.
pub struct Case<'a> {
    pub policy: &'a Policy,
    pub sid: &'a str,
    pub client: &'a str,
}

impl Case<'_> {
    pub async fn open<S: Store>(&self, ledger: &Ledger<S>) -> Opened {
        ledger.open(&user(), Some(self.sid)).await
    }

    pub async fn admit<S: Store>(
        &self,
        ledger: &Ledger<S>,
        since: StoreTime,
        list: &SessionList,
        deadline: Instant,
    ) -> Result<Decision, Verdict> {
        self.admit_meanwhile(ledger, since, list, deadline, || ()).await
    }

    /// Admits, and has something else happen each time between deciding and committing.
    pub async fn admit_meanwhile<S: Store>(
        &self,
        ledger: &Ledger<S>,
        since: StoreTime,
        sessions: &SessionList,
        deadline: Instant,
        mut meanwhile: impl FnMut(),
    ) -> Result<Decision, Verdict> {
        let login = Login::new("u".into(), self.client.into(), Some(self.sid.into()), LoginContext::default()).unwrap();
        let limit_check = self.policy.pre_checks(&login, Timestamp::now()).unwrap();
        let decide = |admissions: &[Admission], revoked: &HashSet<String>| {
            let decision = limit_check.decide(LimitInputs { sessions, admissions, revoked, now: Timestamp::now() });
            meanwhile();
            decision
        };
        ledger.admit(&self.attempt(&user()), Listed { sessions, since }, deadline, decide).await
    }

    pub fn attempt<'a>(&'a self, user: &'a User) -> Attempt<'a> {
        Attempt {
            user,
            sid: self.sid,
            client_id: self.client,
            terms: Terms { window: self.policy.admission_window, longest_check: TIMEOUT },
            enforced: true,
        }
    }

    /// A whole check with nothing in between: whether it lets the login in.
    pub async fn check<S: Store>(&self, ledger: &Ledger<S>, tenant: &Tenant) -> bool {
        let opened = self.open(ledger).await;
        let decision = self.admit(ledger, opened.since, &tenant.list(), Instant::now() + TIMEOUT).await;
        !opened.revoked && matches!(decision, Ok(Decision::Within { .. } | Decision::Evict { .. }))
    }
}

/// A store as several replicas of a test share it.
pub struct Direct<S>(pub Arc<S>);

impl<S: Store> Store for Direct<S> {
    async fn read(&self, user: &User) -> Versioned {
        self.0.read(user).await
    }

    async fn compare_exchange(&self, user: &User, expected: &Versioned, next: Record) -> Result<(), Versioned> {
        self.0.compare_exchange(user, expected, next).await
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }
}

/// A store that never finishes an exchange.
pub struct Stuck(pub Memory);

impl Store for Stuck {
    async fn read(&self, user: &User) -> Versioned {
        self.0.read(user).await
    }

    async fn compare_exchange(&self, _: &User, _: &Versioned, _: Record) -> Result<(), Versioned> {
        std::future::pending().await
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }
}

/// A store whose answers to exchanges are lost, so that they are sent again by whoever sends them.
pub struct Repeated(pub Memory);

impl Store for Repeated {
    async fn read(&self, user: &User) -> Versioned {
        self.0.read(user).await
    }

    async fn compare_exchange(&self, user: &User, expected: &Versioned, next: Record) -> Result<(), Versioned> {
        self.0.compare_exchange(user, expected, next.clone()).await?;
        self.0.compare_exchange(user, expected, next).await
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }
}
