//! The steps of a choice: a person whose login is blocked sees which sessions may end, and ends some of them.
//!
//! ```text
//!   show     policy of the ticket ──▶ list ──▶ what the ledger knows ──▶ offer
//!
//!   choose   policy of the ticket ──▶ begin ──▶ fresh list ──▶ decide, admit, reserve ──▶ revoke ──▶ finish
//!                                     ledger                   one exchange                          one write
//! ```
//!
//! A form that does not fit is answered from the list of the form before, if it is young enough: without a request to Auth0.
//!
//! A choice is an eviction (decision §4, 5.10, 5.11) whose victims a person names. The policy is read again, and what is exceeded
//! now bounds what may be revoked: a ticket that is used twice, also at two replicas, ends no more sessions than are too many. The
//! entry that admits the login waits for it: the next login of the user to the application takes it over, whatever its session.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Checker;
use super::failure_log::Task;
use crate::auth0::{CallContext, Charge, EndReason, ReadList, TenantClient, UserAgents};
use crate::choose::{ChoiceOutcome, Chooser, Device, OpenTicket, Ticket, TicketUses};
use crate::ledger::{
    Attempt, Eviction, SessionKey, StoreTime, Terms, TicketState, TicketUse, UserKey, listing_kept_for,
};
use crate::policy::{
    Admission, Decision, LimitCheck, LimitInputs, Login, Mode, Offer, Origins, Policy, PolicyVersion, SessionList,
    Strategy, Verdict,
};
use crate::sampler::LogSampler;
use crate::snapshot::{Snapshot, TenantState};

/// How often a warning about a policy that asks, without a page to ask on, is written.
const MISSING_PAGE_INTERVAL: Duration = Duration::from_secs(60);

/// How long a browser waits until its ticket is read: the default `timeout` of a policy. Checks of the user, which hold
/// the lock of the record one after the other, take no longer by default.
const OPENING_TIMEOUT: Duration = Duration::from_secs(3);

/// What a checker needs to ask people which sessions to end.
pub(super) struct Asking {
    /// The page, when there is one.
    chooser: Option<Arc<Chooser>>,
    ticket_uses: TicketUses<ListedDevices>,
    /// Bounds the warnings about policies that ask, without a page to ask on.
    missing_page: LogSampler,
}

impl Default for Asking {
    fn default() -> Self {
        let missing_page = LogSampler::new(1, MISSING_PAGE_INTERVAL);
        Self { chooser: None, ticket_uses: TicketUses::default(), missing_page }
    }
}

impl Asking {
    /// Forgets tickets that have expired.
    pub(super) fn sweep(&self) {
        let tickets = self.ticket_uses.sweep();
        self.chooser.iter().for_each(|chooser| chooser.metrics().tickets(tickets));
    }
}

/// The sessions of a page, with what the page says of their devices.
pub struct ListedDevices {
    sessions: SessionList,
    user_agents: UserAgents,
    since: StoreTime,
    /// Whether it was requested for a form. What a page shows may have ended before the person sent the form.
    is_of_form: bool,
    /// Counts the memory of the list while it is kept.
    _charge: Charge,
}

/// What a page shows.
pub enum Choices {
    /// Some of these sessions have to end.
    Offer(Offer, Arc<ListedDevices>),
    /// The login goes on: nothing has to end any more, or the policy does not ask any more.
    NotNeeded,
    /// No choice is enough.
    Impossible,
    /// The sessions could not be listed in time.
    Unavailable,
    /// Too many lists were requested for the ticket.
    WornOut,
}

/// What a choice led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// The sessions have ended, and the login goes on.
    Ended,
    /// The login goes on without an end of a session.
    NotNeeded,
    /// The choice is not what is needed now.
    Unfit,
    /// A session could not be ended.
    Failed,
    /// No choice is enough.
    Impossible,
    /// The choice could not be decided in time.
    Unavailable,
    /// The ticket was used too often.
    WornOut,
}

/// Why there is no fresh list.
enum NoList {
    Failed,
    WornOut,
}

/// A ticket under the policy as it is now.
struct AskedLogin<'a> {
    policy: &'a Policy,
    limit_check: LimitCheck<'a>,
    client: &'a TenantClient,
    tenant: &'a TenantState,
    key: SessionKey,
    call: CallContext,
}

impl ListedDevices {
    /// The time on the clock that dates the sessions, when ours shows `ours`.
    pub fn tenant_time(&self, ours: Timestamp) -> Timestamp {
        self.sessions.tenant_time(ours)
    }

    /// The device that last used a session.
    pub fn device(&self, sid: &str) -> Device {
        self.user_agents.get(sid).map(|user_agent| Device::of(user_agent)).unwrap_or_default()
    }
}

impl<'a> AskedLogin<'a> {
    /// `None` when the policy that made the ticket does not ask this login any more.
    fn new(snapshot: &'a Snapshot, ticket: &'a Ticket, arrived: Instant, now: Timestamp) -> Option<Self> {
        let mut policies = snapshot.policy_set.active_policies().iter();
        let active = policies.find(|it| it.version.scope().name.as_str() == ticket.policy)?;
        let PolicyVersion::Compiled(policy) = &*active.version else { return None };
        let scope = &policy.scope;
        let is_asking = policy.strategy == Strategy::Ask
            && policy.enforcement.mode == Mode::Enforce
            && !snapshot.is_audit_forced(&scope.name)
            && (ticket.mfa || !policy.ask.require_mfa);
        if !is_asking || scope.tenant.domain() != ticket.tenant || !scope.tenant.is_called(&ticket.host) {
            return None;
        }
        let chosen_by = match &ticket.chosen_by {
            None => None,
            Some(name) => Some(policy.overrides.iter().position(|it| it.name == *name && it.is_active(now))?),
        };
        let limit_check = policy.asked_check(chosen_by, &ticket.user_id, &ticket.client_id, &ticket.sid)?;
        let user = UserKey::new(scope.tenant.domain(), &ticket.user_id);
        Some(Self {
            policy,
            limit_check,
            client: snapshot.client(&scope.name)?,
            tenant: snapshot.tenant(&scope.tenant)?,
            key: SessionKey::new(user, &ticket.sid, &ticket.client_id),
            call: CallContext { policy: Some(scope.name.clone()), silent: false, deadline: arrived + policy.timeout },
        })
    }

    fn terms(&self) -> Terms {
        let (window, longest_check) = (self.policy.admission_window, self.tenant.longest_check);
        let listing_kept_for = listing_kept_for(self.tenant.longest_recheck);
        Terms { window, longest_check, listing_kept_for, enforced: true, claims: true }
    }
}

impl Checker {
    /// The same, with a page on which people choose sessions to end.
    #[must_use]
    pub fn with_chooser(self, chooser: Option<Arc<Chooser>>) -> Self {
        Self { asking: Asking { chooser, ..self.asking }, ..self }
    }

    /// The time by which tickets end and policies decide.
    pub fn now(&self) -> Timestamp {
        self.clock.timestamp()
    }

    /// The page for choosing sessions, when there is one.
    pub fn chooser(&self) -> Option<&Arc<Chooser>> {
        self.asking.chooser.as_ref()
    }

    /// The check of a login where there is no page to ask on. Sometimes warns that a policy asks.
    pub(super) fn without_page<'a>(&self, limit_check: LimitCheck<'a>) -> LimitCheck<'a> {
        if limit_check.asks()
            && let Some(suppressed) = self.asking.missing_page.admit()
        {
            let policy = &limit_check.policy().scope.name;
            let remedy = "give --choose-listen and --choose-url";
            tracing::warn!(%policy, suppressed, remedy, "a policy has strategy Ask, and there is no page to ask on: ask.otherwise decides");
        }
        limit_check.without_asking()
    }

    /// The address of the page on which the person is asked.
    pub(super) fn choose_url(&self, login: &Login, limit_check: LimitCheck<'_>) -> Option<String> {
        let (policy, context) = (limit_check.policy(), login.context());
        let ticket = Ticket {
            tenant: policy.scope.tenant.domain().to_owned(),
            host: context.hostname.as_deref()?.to_ascii_lowercase(),
            user_id: login.user_id().to_owned(),
            sid: limit_check.sid().to_owned(),
            client_id: login.client_id().to_owned(),
            policy: policy.scope.name.to_string(),
            chosen_by: limit_check.override_name().map(str::to_owned),
            mfa: context.is_multi_factor(),
            locale: context.locale.clone().filter(|locale| locale.len() <= MAX_LOCALE_BYTES),
            expires_at: self.now().as_second() + i64::from(crate::choose::TICKET_SECONDS),
        };
        self.asking.chooser.as_ref()?.url_for(&ticket)
    }

    /// Binds a ticket to a browser and to the state of its login. `None` when that takes longer than `OPENING_TIMEOUT`
    /// after the request arrived.
    pub async fn open_ticket(&self, ticket: &OpenTicket, browser_code: &str, arrived: Instant) -> Option<TicketState> {
        let user = UserKey::new(&ticket.ticket.tenant, &ticket.ticket.user_id);
        let (life, deadline) = (life(ticket, self.now()), arrived + OPENING_TIMEOUT);
        self.ledger.open_ticket(&user, &ticket.id(), browser_code, life, deadline).await
    }

    /// Counts that the page of a ticket is shown. False when it was shown too often.
    pub fn may_show(&self, ticket: &OpenTicket) -> bool {
        self.asking.ticket_uses.render(&ticket.id())
    }

    /// What the person may choose.
    pub async fn choices(&self, snapshot: &Snapshot, ticket: &OpenTicket, arrived: Instant) -> Choices {
        let Some(asked) = AskedLogin::new(snapshot, &ticket.ticket, arrived, self.now()) else {
            return Choices::NotNeeded;
        };
        let listed = match self.asking.ticket_uses.list(&ticket.id()) {
            Some(listed) => listed,
            None => match self.list_for_page(&asked, ticket).await {
                Ok(listed) => listed,
                Err(choices) => return choices,
            },
        };
        let read = |admissions: &[Admission], revoked: &HashSet<String>, origins: &Origins| {
            let sessions = &listed.sessions;
            let inputs = LimitInputs { sessions, admissions, revoked, origins, now: sessions.tenant_time(self.now()) };
            asked.limit_check.decide_with_offer(inputs)
        };
        match self.ledger.read_for(&asked.key, (&listed.sessions, listed.since), asked.call.deadline, read).await {
            // The login's own session has ended: its check says so.
            None => Choices::NotNeeded,
            Some((Decision::Ask { .. }, Some(offer))) => Choices::Offer(offer, listed),
            Some((Decision::Undecided, _)) => Choices::Unavailable,
            Some((Decision::Exceeded { .. } | Decision::Ask { .. }, _)) => Choices::Impossible,
            Some((Decision::Within { .. } | Decision::UnknownUser { .. } | Decision::Evict { .. }, _)) => {
                Choices::NotNeeded
            }
        }
    }

    /// Ends the chosen sessions, which are given by their codes, and admits the login.
    pub async fn choose(
        &self,
        snapshot: &Snapshot,
        ticket: &OpenTicket,
        codes: &BTreeSet<String>,
        arrived: Instant,
    ) -> Chosen {
        let Some(asked) = AskedLogin::new(snapshot, &ticket.ticket, arrived, self.now()) else {
            let chooser = self.asking.chooser.iter();
            chooser.for_each(|it| it.metrics().outcome(&ticket.ticket.tenant, ChoiceOutcome::NotNeeded));
            return Chosen::NotNeeded;
        };
        if self.is_unfit(&asked, ticket, codes).await {
            return Chosen::Unfit;
        }
        if !self.asking.ticket_uses.try_choice(&ticket.id()) {
            return Chosen::WornOut;
        }
        let (chosen, ended) = self.carry_out(&asked, ticket, codes).await;
        if matches!(chosen, Chosen::Unfit | Chosen::Impossible | Chosen::Unavailable | Chosen::NotNeeded) {
            self.asking.ticket_uses.return_try(&ticket.id());
        }
        if chosen != Chosen::Unfit {
            self.asking.ticket_uses.drop_list(&ticket.id());
        }
        let (policy, tenant) = (&asked.policy.scope.name, asked.policy.scope.tenant.domain());
        let outcome = match chosen {
            Chosen::Ended => Some(ChoiceOutcome::Chosen),
            Chosen::NotNeeded => Some(ChoiceOutcome::NotNeeded),
            Chosen::Failed | Chosen::Unavailable => Some(ChoiceOutcome::Failed),
            Chosen::Impossible => Some(ChoiceOutcome::Impossible),
            Chosen::Unfit | Chosen::WornOut => None,
        };
        if let Some((outcome, chooser)) = outcome.zip(self.asking.chooser.as_ref()) {
            chooser.metrics().outcome(tenant, outcome);
            let duration_ms = arrived.elapsed().as_secs_f64() * 1000.0;
            tracing::info!(%policy, outcome = outcome.as_str(), revoked_sessions = ended, duration_ms, "choice");
        }
        chosen
    }

    /// Whether the chosen sessions are not what the list of the form before needs. False without one that is young enough.
    async fn is_unfit(&self, asked: &AskedLogin<'_>, ticket: &OpenTicket, codes: &BTreeSet<String>) -> bool {
        let listed = self.asking.ticket_uses.list(&ticket.id());
        let Some(listed) = listed.filter(|listed| listed.is_of_form) else { return false };
        let sessions = &listed.sessions;
        let chosen = chosen_of(sessions, ticket, codes);
        let read = |admissions: &[Admission], revoked: &HashSet<String>, origins: &Origins| {
            let inputs = LimitInputs { sessions, admissions, revoked, origins, now: sessions.tenant_time(self.now()) };
            asked.limit_check.decide_choice(inputs, &chosen)
        };
        let decision = self.ledger.read_for(&asked.key, (sessions, listed.since), asked.call.deadline, read).await;
        matches!(decision, Some(Decision::Ask { .. }))
    }

    /// Takes the steps of a choice. Returns how many sessions have ended.
    async fn carry_out(
        &self,
        asked: &AskedLogin<'_>,
        ticket: &OpenTicket,
        codes: &BTreeSet<String>,
    ) -> (Chosen, usize) {
        let Ok(_slot) = asked.tenant.check_slots.try_acquire() else { return (Chosen::Unavailable, 0) };
        let attempt = self.ledger.begin(asked.key.clone(), asked.terms(), asked.call.deadline).await;
        if attempt.was_revoked() {
            return (Chosen::NotNeeded, 0);
        }
        let (choice, life) = (ticket.choice_code(codes), life(ticket, self.now()));
        let mut attempt = attempt.with_ticket(TicketUse { id: ticket.id(), choice, life });
        let listed = match self.fresh_list(asked, ticket, attempt.since(), true).await {
            Ok(listed) => listed,
            Err(NoList::Failed) => return (Chosen::Unavailable, 0),
            Err(NoList::WornOut) => return (Chosen::WornOut, 0),
        };
        let sessions = &listed.sessions;
        let chosen = chosen_of(sessions, ticket, codes);
        let decide = |admissions: &[Admission], revoked: &HashSet<String>, origins: &Origins| {
            let inputs = LimitInputs { sessions, admissions, revoked, origins, now: sessions.tenant_time(self.now()) };
            asked.limit_check.decide_choice(inputs, &chosen)
        };
        let (since, deadline) = (attempt.since(), asked.call.deadline);
        match attempt.admit(sessions, since, deadline, decide).await {
            Ok(Decision::Evict { victims, .. }) => self.end(asked, attempt, victims).await,
            Ok(Decision::Within { .. } | Decision::UnknownUser { .. }) => {
                attempt.finish(Eviction::default(), true, deadline).await;
                (Chosen::NotNeeded, 0)
            }
            Ok(decision) => {
                attempt.finish(Eviction::default(), false, deadline).await;
                (if matches!(decision, Decision::Ask { .. }) { Chosen::Unfit } else { Chosen::Impossible }, 0)
            }
            Err(Verdict::SessionRevoked) => (Chosen::NotNeeded, 0),
            Err(_) => (Chosen::Unavailable, 0),
        }
    }

    /// Revokes the sessions. When one fails, the login is not admitted, whatever the failure policy says: the page says so, and the
    /// person may try again.
    async fn end(&self, asked: &AskedLogin<'_>, attempt: Attempt, victims: Vec<String>) -> (Chosen, usize) {
        let by = (asked.policy, asked.client);
        let (eviction, failure) = self.evict(by, victims, EndReason::Chosen, &asked.call).await;
        let ended = eviction.revoked.len();
        attempt.finish(eviction, failure.is_none(), asked.call.deadline).await;
        match failure {
            None => {
                self.note_revoked(asked.policy.scope.tenant.domain());
                (Chosen::Ended, ended)
            }
            Some(error) => {
                self.log_failure(asked, Task::Revoke, &error);
                (Chosen::Failed, ended)
            }
        }
    }

    async fn list_for_page(&self, asked: &AskedLogin<'_>, ticket: &OpenTicket) -> Result<Arc<ListedDevices>, Choices> {
        let Ok(_slot) = asked.tenant.check_slots.try_acquire() else { return Err(Choices::Unavailable) };
        let begun = self.ledger.begin(asked.key.clone(), asked.terms(), asked.call.deadline).await;
        if begun.was_revoked() {
            return Err(Choices::NotNeeded);
        }
        self.fresh_list(asked, ticket, begun.since(), false).await.map_err(|reason| match reason {
            NoList::Failed => Choices::Unavailable,
            NoList::WornOut => Choices::WornOut,
        })
    }

    /// Requests the user's sessions, and keeps the list for the next page or form of the ticket.
    async fn fresh_list(
        &self,
        asked: &AskedLogin<'_>,
        ticket: &OpenTicket,
        since: StoreTime,
        is_of_form: bool,
    ) -> Result<Arc<ListedDevices>, NoList> {
        if !self.asking.ticket_uses.request_list(&ticket.id()) {
            return Err(NoList::WornOut);
        }
        let read = asked.client.read_devices(asked.limit_check.user_id(), &asked.call).await.map_err(|error| {
            self.log_failure(asked, Task::List, &error);
            NoList::Failed
        })?;
        let ReadList { sessions, user_agents, charge, .. } = read;
        let listed = Arc::new(ListedDevices { sessions, user_agents, since, is_of_form, _charge: charge });
        self.asking.ticket_uses.keep_list(&ticket.id(), Arc::clone(&listed));
        Ok(listed)
    }

    fn log_failure(&self, asked: &AskedLogin<'_>, task: Task, error: &crate::auth0::Error) {
        let (policy, tenant) = (&asked.policy.scope.name, asked.policy.scope.tenant.domain());
        if let Some(suppressed) = self.failures.failed(tenant, task, error.failure) {
            tracing::warn!(%policy, tenant, %error, suppressed, "a choice of sessions could not be carried out");
        }
    }
}

/// The longest locale that a ticket carries: a tag with all its parts. A longer one is no language of the page.
const MAX_LOCALE_BYTES: usize = 35;

/// The listed sessions that the codes stand for.
fn chosen_of(sessions: &SessionList, ticket: &OpenTicket, codes: &BTreeSet<String>) -> Vec<String> {
    sessions.ids().filter(|sid| codes.contains(&ticket.session_code(sid))).map(str::to_owned).collect()
}

/// How long the ticket is still valid.
fn life(ticket: &OpenTicket, now: Timestamp) -> Duration {
    let left = ticket.ticket.expires_at - now.as_second();
    Duration::from_secs(u64::try_from(left).unwrap_or(0))
}
