//! The user's sessions as a login sees them: which count, towards which limits, and which can be revoked.
//!
//! The list is read once to count, and a second time only when sessions have to be revoked.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::limit_check::{LimitCheck, LimitInputs};
use super::limits::{Count, LimitScope};
use super::model::{Actors, Reentry, Strategy};
use super::session::{ClientSet, Completeness, Session};

/// How long a login may still be in progress after it was allowed (a consent, a factor). Its session is not revoked in this time,
/// unless the list shows the application. A login that takes longer was most likely given up, and must not keep its place.
const IN_PROGRESS_FOR: SignedDuration = SignedDuration::from_secs(60);

/// The limits that count a session, one bit for each.
pub(super) type Membership = u8;

/// How many different memberships there are.
const MEMBERSHIPS: usize = 1 << LimitScope::ALL.len();

pub(super) const fn bit(limit_scope: LimitScope) -> Membership {
    1 << limit_scope as u8
}

/// The limits that count a session with this application.
pub(super) fn membership_of(limit_check: &LimitCheck<'_>, client: &str) -> Membership {
    let mut membership = bit(LimitScope::User);
    if client == limit_check.client_id {
        membership |= bit(LimitScope::Client);
    }
    if limit_check.policy.scope.selector.names_client(client) {
        membership |= bit(LimitScope::Group);
    }
    membership
}

/// A session as the ledger's admissions show it.
#[derive(Default)]
struct Remembered {
    membership: Membership,
    /// Whether an admission is for another application than the one that logs in.
    elsewhere: bool,
    /// The time of the last admission on the tenant's clock.
    admitted_at: Option<Timestamp>,
}

/// Another session that counts.
#[derive(Clone, Copy)]
pub(super) struct OtherSession<'a> {
    pub(super) id: &'a str,
    membership: Membership,
    /// `None` for a session that is only remembered: its login is in progress, and it can neither hold a place nor be
    /// revoked.
    pub(super) listed: Option<&'a Session>,
    remembered: Option<&'a Remembered>,
}

impl OtherSession<'_> {
    /// The last use of the session; an admission is a use.
    pub(super) fn last_used_at(&self) -> Option<Timestamp> {
        let listed = self.listed.and_then(|listed| listed.last_used_at);
        listed.max(self.remembered.and_then(|remembered| remembered.admitted_at))
    }
}

/// A limit after the sessions were counted.
pub(super) struct MeasuredLimit {
    pub count: Count,
    /// Whether the current session holds a place under the limit.
    pub holder: bool,
    pub exceeded: bool,
    /// Whether the limit is never exceeded, whatever else is listed.
    pub safe: bool,
}

impl MeasuredLimit {
    /// How many sessions have to go for the login to be within the limit.
    pub(super) fn surplus(&self) -> usize {
        (self.count.active + 1).saturating_sub(self.count.limit as usize)
    }
}

/// A limit check with its inputs, prepared for reading the list.
pub(super) struct Evaluation<'a, 'e> {
    limit_check: LimitCheck<'a>,
    inputs: LimitInputs<'e>,
    /// The membership of each set of applications of the list.
    memberships: Vec<Membership>,
    remembered: HashMap<&'e str, Remembered>,
    /// Of each application that opened a web view: the limits that count one of the sessions with it, the device. A web view does
    /// not count towards them. Empty where there is no web view, which is the usual case.
    devices: HashMap<&'e str, Membership>,
    /// The applications with a web view that cannot be revoked. Their sessions are not revoked either.
    unsettled: HashSet<&'e str>,
    current: Option<&'e Session>,
    /// The application that opened the current session, when it is a web view.
    opened_by: Option<&'e str>,
    inactive_before: Option<Timestamp>,
}

impl<'a: 'e, 'e> Evaluation<'a, 'e> {
    pub(super) fn new(limit_check: LimitCheck<'a>, inputs: LimitInputs<'e>) -> Self {
        let mut remembered: HashMap<&str, Remembered> = HashMap::new();
        for admission in inputs.admissions.iter().filter(|admission| !inputs.revoked.contains(&admission.sid)) {
            let session = remembered.entry(&admission.sid).or_default();
            session.membership |= membership_of(&limit_check, &admission.client_id);
            session.elsewhere |= admission.client_id != limit_check.client_id;
            let admitted_at = inputs.now.saturating_sub(admission.age).unwrap_or(Timestamp::MIN);
            session.admitted_at = session.admitted_at.max(Some(admitted_at));
        }
        let of_client: Vec<Membership> =
            inputs.sessions.clients().map(|client| membership_of(&limit_check, client)).collect();
        let of_set = |set: &ClientSet| match set {
            Some(clients) => clients.iter().fold(0, |all, client| all | of_client[*client]),
            None => bit(LimitScope::User),
        };
        let mut evaluation = Self {
            limit_check,
            inputs,
            memberships: inputs.sessions.client_sets().map(of_set).collect(),
            remembered,
            devices: HashMap::new(),
            unsettled: HashSet::new(),
            current: inputs.sessions.get(limit_check.sid),
            // A login that renews a web view does not say so again.
            opened_by: limit_check
                .opened_by
                .or_else(|| inputs.origins.web_views.get(limit_check.sid).map(String::as_str)),
            // A span that reaches before the first possible timestamp makes no session inactive.
            inactive_before: limit_check.policy.active_within.and_then(|span| inputs.now.checked_sub(span).ok()),
        };
        if !inputs.origins.web_views.is_empty() || evaluation.opened_by.is_some() {
            evaluation.unsettled = evaluation.unsettled();
            evaluation.devices = evaluation.devices(&[]);
        }
        evaluation
    }

    /// The limits that count a device, for each application that opened a web view. The sessions that are `gone` are no devices.
    fn devices(&self, gone: &[&str]) -> HashMap<&'e str, Membership> {
        let opened_by = self.inputs.origins.web_views.values().map(String::as_str).chain(self.opened_by);
        let mut devices: HashMap<&str, Membership> = opened_by.map(|client| (client, 0)).collect();
        let others: Vec<OtherSession<'_>> = self
            .others()
            .filter(|other| !self.inputs.origins.web_views.contains_key(other.id) && !gone.contains(&other.id))
            .collect();
        for (client, limits) in &mut devices {
            let counting = others.iter().filter(|other| self.has_client(other.id, other.listed, client));
            *limits = counting.fold(0, |all, other| all | other.membership);
            if self.opened_by.is_none() && self.current_has(client) {
                *limits |= self.held() | membership_of(&self.limit_check, self.limit_check.client_id);
            }
        }
        devices
    }

    /// The applications with a web view that is not listed, or has an unusual id.
    fn unsettled(&self) -> HashSet<&'e str> {
        let is_unsettled = |other: &OtherSession<'_>| other.listed.is_none_or(|listed| !listed.is_revocable);
        let others = self.others().filter(is_unsettled);
        others.filter_map(|other| Some(self.inputs.origins.web_views.get(other.id)?.as_str())).collect()
    }

    /// Whether the current session is a web view.
    pub(super) fn is_web_view(&self) -> bool {
        self.opened_by.is_some()
    }

    fn current_has(&self, client: &str) -> bool {
        let sid = self.limit_check.sid;
        client == self.limit_check.client_id || self.has_client(sid, self.current, client)
    }

    /// Whether the session is listed or remembered with the application. A revoked session is remembered with none.
    fn has_client(&self, id: &str, listed: Option<&Session>, client: &str) -> bool {
        let mut admissions = self.inputs.admissions.iter();
        listed.is_some() && self.inputs.sessions.shows(id, client)
            || !self.was_revoked(id) && admissions.any(|admission| admission.sid == id && admission.client_id == client)
    }

    /// The limits towards which a session does not count, because it is a web view. A list that was not read to the end may lack
    /// its device.
    fn carried(&self, id: &str) -> Membership {
        match self.inputs.origins.web_views.get(id) {
            None => 0,
            Some(_) if self.inputs.sessions.completeness() != Completeness::Whole => Membership::MAX,
            Some(client) => self.devices.get(client.as_str()).copied().unwrap_or_default(),
        }
    }

    /// The limits that count the device that opened the current session.
    fn own_device(&self) -> Membership {
        self.opened_by.and_then(|client| self.devices.get(client)).copied().unwrap_or_default()
    }

    /// Whether somebody else acts as the user in the session, and the policy exempts that.
    pub(super) fn is_exempt(&self, id: &str, listed: Option<&Session>) -> bool {
        let has_actor = || listed.is_some_and(|listed| listed.has_actor) || self.inputs.origins.delegated.contains(id);
        self.limit_check.policy.actors == Actors::Exempt && has_actor()
    }

    /// The limits that count a listed session, by its listed and its remembered applications.
    fn membership(&self, session: &Session, remembered: Option<&Remembered>) -> Membership {
        self.memberships[session.clients] | remembered.map_or(0, |remembered| remembered.membership)
    }

    // An empty map or set, the usual case, answers without hashing: both functions run once for each listed session.

    fn remembered(&self, id: &str) -> Option<&Remembered> {
        self.remembered.get(id)
    }

    pub(super) fn was_revoked(&self, id: &str) -> bool {
        self.inputs.revoked.contains(id)
    }

    /// Every other session that counts, listed ones first.
    fn others(&self) -> impl Iterator<Item = OtherSession<'_>> {
        let listed = self.inputs.sessions.iter().filter_map(|(id, session)| self.other(id, session));
        let only_remembered = self
            .remembered
            .iter()
            .filter(|(id, _)| **id != self.limit_check.sid && self.inputs.sessions.get(id).is_none())
            .filter(|(id, _)| !self.is_exempt(id, None))
            .map(|(id, remembered)| OtherSession {
                id,
                membership: remembered.membership & !self.carried(id),
                listed: None,
                remembered: Some(remembered),
            });
        listed.chain(only_remembered)
    }

    /// The listed session as another session, when it counts.
    pub(super) fn other(&self, id: &'e str, session: &'e Session) -> Option<OtherSession<'_>> {
        let ended = session.ends_at.is_some_and(|at| at <= self.inputs.now);
        if ended || self.is_current(session) || self.was_revoked(id) || self.is_exempt(id, Some(session)) {
            return None;
        }
        let remembered = self.remembered(id);
        let membership = self.membership(session, remembered) & !self.carried(id);
        let other = OtherSession { id, membership, listed: Some(session), remembered };
        // A session whose last use is not listed counts. An admission must not make it inactive.
        let inactive = self
            .inactive_before
            .is_some_and(|before| session.last_used_at.is_some() && other.last_used_at().is_some_and(|at| at < before));
        (!inactive).then_some(other)
    }

    pub(super) fn is_current(&self, session: &Session) -> bool {
        self.current.is_some_and(|current| std::ptr::eq(current, session))
    }

    /// The limits under which the current session holds a place.
    fn held(&self) -> Membership {
        self.current.map_or(0, |current| self.membership(current, self.remembered(self.limit_check.sid)))
    }

    fn comes_before_current(&self, other: &OtherSession<'_>) -> bool {
        match (other.listed, self.current) {
            (Some(listed), Some(current)) => {
                listed.created_at.cmp(&current.created_at).then_with(|| other.id.cmp(self.limit_check.sid)).is_lt()
            }
            _ => false,
        }
    }

    /// The limits towards which another session counts, in the order in which they are checked.
    pub(super) fn counts_towards(&self, other: &OtherSession<'_>) -> Vec<LimitScope> {
        let kept = if self.limit_check.policy.reentry == Reentry::KeepPlace { self.held() } else { 0 };
        let counts = |limit_scope: &LimitScope| {
            let bit = bit(*limit_scope);
            other.membership & bit != 0 && (kept & bit == 0 || self.comes_before_current(other))
        };
        self.limit_check.limits.iter().map(|(limit_scope, _)| limit_scope).filter(counts).collect()
    }

    /// Counts for every limit, in the order in which limits are checked.
    pub(super) fn measure(&self) -> Vec<MeasuredLimit> {
        let policy = self.limit_check.policy;
        let (held, own_device) = (self.held(), self.own_device());
        // Indexed by whether the session comes before the current one, and by its membership.
        let mut tally = [[0usize; MEMBERSHIPS]; 2];
        // `for_each` runs over the two halves of a chain one after the other; `for` would test at each step in which half it is.
        self.others().for_each(|other| {
            tally[usize::from(self.comes_before_current(&other))][usize::from(other.membership)] += 1;
        });

        self.limit_check
            .limits
            .iter()
            .map(|(limit_scope, limit)| {
                let holder = held & bit(limit_scope) != 0;
                let keeps_place = holder && policy.reentry == Reentry::KeepPlace;
                let mut active = counted(if keeps_place { &tally[1..] } else { &tally }, limit_scope);
                let has_device = own_device & bit(limit_scope) != 0;
                if has_device && !keeps_place {
                    // The device and its web view have one place.
                    active -= 1;
                }
                // A strategy that makes room for newcomers never takes a place that is kept.
                let safe = has_device || (keeps_place && self.limit_check.makes_room());
                let exceeded = !safe && active >= limit as usize;
                let at_least = self.inputs.sessions.completeness() != Completeness::Whole;
                MeasuredLimit { count: Count { limit_scope, limit, active, at_least }, holder, exceeded, safe }
            })
            .collect()
    }

    /// The limits for which a session can be revoked: those that count its listed applications, and an application whose login
    /// is remembered for longer than it can be in progress.
    ///
    /// A session whose id does not have the form of Auth0's ids is never revoked, nor is one that would leave a web view behind
    /// that is in progress.
    fn settled_membership(&self, other: &OtherSession<'_>) -> Membership {
        let Some(session) = other.listed.filter(|session| session.is_revocable) else { return 0 };
        if self.unsettled.iter().any(|client| self.has_client(other.id, other.listed, client)) {
            return 0;
        }
        let admitted_at = other.remembered.and_then(|remembered| remembered.admitted_at);
        let in_progress = admitted_at.is_some_and(|at| self.inputs.now.duration_since(at) < IN_PROGRESS_FOR);
        let settled = if in_progress { self.memberships[session.clients] } else { other.membership };
        settled & other.membership
    }

    /// The web views that would count without the sessions that are revoked: their devices are among these.
    fn left_behind(&self, revoked: &[OtherSession<'_>]) -> Vec<OtherSession<'_>> {
        if self.inputs.sessions.completeness() != Completeness::Whole {
            return Vec::new();
        }
        let gone: Vec<&str> = revoked.iter().map(|other| other.id).collect();
        let devices = self.devices(&gone);
        let listed = self.inputs.origins.web_views.iter().filter_map(|(id, client)| {
            let (id, session) = self.inputs.sessions.entry(id)?;
            let other = self.other(id, session).filter(|other| !gone.contains(&other.id))?;
            let all = self.membership(session, other.remembered);
            (all & !devices[client.as_str()] != other.membership).then_some(other)
        });
        listed.collect()
    }

    /// The sessions that can be revoked for a limit that is exceeded.
    pub(super) fn candidates(&self, measured: &[MeasuredLimit]) -> Vec<OtherSession<'_>> {
        let exceeded = measured.iter().filter(|measured| measured.exceeded);
        let wanted = exceeded.fold(0, |all, measured| all | bit(measured.count.limit_scope));
        self.others().filter(|other| self.settled_membership(other) & wanted != 0).collect()
    }

    /// Whether a session can be revoked for the limit.
    pub(super) fn fits(&self, other: &OtherSession<'_>, limit_scope: LimitScope) -> bool {
        self.settled_membership(other) & bit(limit_scope) != 0
    }

    /// The sessions to revoke, or `None` when the listed ones do not make up the surplus.
    pub(super) fn victims(&self, measured: &[MeasuredLimit]) -> Option<Vec<String>> {
        Some(self.with_left_behind(self.choose(self.candidates(measured), measured)?))
    }

    /// The sessions that the strategy chooses of the candidates, or `None` when these do not make up the surplus.
    pub(super) fn choose<'o>(
        &self,
        mut candidates: Vec<OtherSession<'o>>,
        measured: &[MeasuredLimit],
    ) -> Option<Vec<OtherSession<'o>>> {
        let strategy = self.limit_check.strategy;
        let mut chosen: Vec<OtherSession<'_>> = Vec::new();
        for measured in measured.iter().filter(|measured| measured.exceeded) {
            let scope = measured.count.limit_scope;
            let fits = |other: &OtherSession<'_>| self.fits(other, scope);
            let gone = chosen.iter().filter(|other| other.membership & bit(scope) != 0).count();
            let surplus = measured.surplus().saturating_sub(gone);
            if candidates.iter().filter(|other| fits(other)).take(surplus).count() < surplus {
                return None;
            }
            // Few of many sessions are chosen. To select them takes one pass, to sort all would take about ten.
            if let Some(last) = surplus.checked_sub(1) {
                candidates.select_nth_unstable_by(last, |a, b| {
                    (!fits(a), revocation_order(strategy, a)).cmp(&(!fits(b), revocation_order(strategy, b)))
                });
                chosen.extend(candidates.drain(..surplus));
            }
        }
        Some(chosen)
    }

    /// The ids of the chosen sessions and of the web views that go with them, in the order of the strategy.
    pub(super) fn with_left_behind<'o>(&'o self, mut chosen: Vec<OtherSession<'o>>) -> Vec<String> {
        if !self.inputs.origins.web_views.is_empty() {
            let left_behind = self.left_behind(&chosen);
            chosen.extend(left_behind);
        }
        let strategy = self.limit_check.strategy;
        chosen.sort_by(|a, b| revocation_order(strategy, a).cmp(&revocation_order(strategy, b)));
        chosen.iter().map(|other| other.id.to_owned()).collect()
    }

    /// Whether the current session is known to have no application but the one that logs in. A session that is not listed
    /// has only the applications of its admissions, unless it may be listed further on; the applications of one that is listed
    /// without any are unknown.
    pub(super) fn serves_only_this_client(&self) -> bool {
        if self.current.is_none() && self.inputs.sessions.completeness() != Completeness::Whole {
            return false;
        }
        let listed = self.current.is_none_or(|current| {
            let clients = self.inputs.sessions.clients_of(current);
            clients.is_some_and(|mut clients| clients.all(|client| client == self.limit_check.client_id))
        });
        listed && self.remembered(self.limit_check.sid).is_none_or(|remembered| !remembered.elsewhere)
    }
}

/// How many sessions of the tally the limit counts.
fn counted(tally: &[[usize; MEMBERSHIPS]], limit_scope: LimitScope) -> usize {
    let counts = tally.iter().flat_map(|counts| counts.iter().enumerate());
    counts.filter(|(membership, _)| membership & usize::from(bit(limit_scope)) != 0).map(|(_, count)| count).sum()
}

/// Sorts the sessions to revoke first to the front. `None` sorts before every time: for the first two strategies an
/// unreadable date is the oldest, and for `RevokeNextToExpire` a session that never ends comes last.
fn revocation_order<'a>(strategy: Strategy, other: &'a OtherSession<'_>) -> impl Ord + use<'a> {
    let created_at = other.listed.and_then(|listed| listed.created_at);
    let ends_at = other.listed.and_then(|listed| listed.ends_at);
    let (never_ends, at) = match strategy {
        Strategy::Deny | Strategy::Ask | Strategy::RevokeOldest => (false, created_at),
        Strategy::RevokeLeastRecentlyUsed => (false, other.last_used_at()),
        Strategy::RevokeNextToExpire => (ends_at.is_none(), ends_at),
    };
    (never_ends, at, created_at, other.id)
}
