//! The rule: which of a user's sessions count, whether the login is over a limit, and which sessions are revoked for it.
//!
//! [`Policy::pre_checks`] takes the steps that need no list of sessions. [`LimitCheck::decide`] is a pure function of the
//! login, the policy's limits, the listed sessions, the ledger's admissions, and the time. It reads the list once to count,
//! and a second time only when sessions have to be revoked.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::answer::Verdict;
use super::limits::{Count, Decision, LimitScope, Limits};
use super::login::Login;
use super::model::{Policy, Reentry, Strategy};
use super::session::{ClientSet, Completeness, Session, SessionList};

/// A login that the ledger remembers because Auth0's list does not show it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The session.
    pub sid: String,
    /// The application of the login.
    pub client_id: String,
    /// When the login was first allowed.
    pub admitted_at: Timestamp,
}

/// Everything that a decision depends on beside the login and its policy.
#[derive(Clone, Copy, Debug)]
pub struct LimitInputs<'a> {
    /// The user's sessions as listed.
    pub sessions: &'a SessionList,
    /// The user's admissions that count for this list.
    pub admissions: &'a [Admission],
    /// Sessions that this service revoked within the last minute. Auth0 deletes asynchronously and may still list them.
    pub revoked: &'a HashSet<String>,
    /// The time of the decision.
    pub now: Timestamp,
}

/// A login that passed the pre-checks and that only the user's sessions can decide.
#[derive(Clone, Copy, Debug)]
pub struct LimitCheck<'a> {
    policy: &'a Policy,
    limits: &'a Limits,
    chosen_by: Option<usize>,
    user_id: &'a str,
    client_id: &'a str,
    sid: &'a str,
    mfa: bool,
}

impl Policy {
    /// Takes the steps that need no request to Auth0. They either answer the login or leave a question that only the user's
    /// sessions can decide. Steps that depend on more than the policy (did this service revoke the session, is there a
    /// credential) are the caller's.
    ///
    /// # Errors
    /// The verdict, when one of the steps answers.
    pub fn pre_checks<'a>(&'a self, login: &'a Login, now: Timestamp) -> Result<LimitCheck<'a>, Verdict> {
        self.pre_checks_by(self.matching_override(login, now), login)
    }

    /// The position of the override that chooses the limits of a login.
    pub fn matching_override(&self, login: &Login, now: Timestamp) -> Option<usize> {
        self.overrides.iter().position(|policy_override| policy_override.matches(login, now))
    }

    /// The [`pre_checks`](Self::pre_checks) of a login whose override is known.
    ///
    /// # Errors
    /// The verdict, when one of the steps answers.
    pub fn pre_checks_by<'a>(&'a self, chosen_by: Option<usize>, login: &'a Login) -> Result<LimitCheck<'a>, Verdict> {
        self.limits_by(chosen_by).ok_or(Verdict::Exempt)?;
        let context = login.context();
        if context.protocol.as_ref().is_some_and(|protocol| self.skip_protocols.contains(protocol)) {
            return Err(Verdict::SkippedProtocol);
        }
        let sid = login.sid().ok_or(Verdict::NoSession(self.missing_session))?;
        let limit_check = self.limit_check(chosen_by, login.user_id(), login.client_id(), sid, context.mfa);
        limit_check.ok_or(Verdict::Exempt)
    }

    /// The check of a login whose limits an override chose, or the policy. `None` when the override exempts the login.
    pub(super) fn limit_check<'a>(
        &'a self,
        chosen_by: Option<usize>,
        user_id: &'a str,
        client_id: &'a str,
        sid: &'a str,
        mfa: bool,
    ) -> Option<LimitCheck<'a>> {
        let limits = self.limits_by(chosen_by)?;
        Some(LimitCheck { policy: self, limits, chosen_by, user_id, client_id, sid, mfa })
    }

    fn limits_by(&self, chosen_by: Option<usize>) -> Option<&Limits> {
        match chosen_by {
            None => Some(&self.limits),
            Some(position) => self.overrides.get(position)?.limits.as_ref(),
        }
    }
}

impl<'a> LimitCheck<'a> {
    /// The policy that governs the login.
    pub fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// The user who logs in.
    pub fn user_id(&self) -> &'a str {
        self.user_id
    }

    /// The application that logs in.
    pub fn client_id(&self) -> &'a str {
        self.client_id
    }

    /// The session that logs in: the *current* session.
    pub fn sid(&self) -> &'a str {
        self.sid
    }

    /// Whether the user passed a second factor.
    pub fn mfa(&self) -> bool {
        self.mfa
    }

    /// The limits that apply to the login.
    pub fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// The position of the override that chose the limits; `None` when they are the policy's.
    pub fn chosen_by(&self) -> Option<usize> {
        self.chosen_by
    }

    /// Decides the login.
    pub fn decide(&self, inputs: LimitInputs<'_>) -> Decision {
        let evaluation = Evaluation::new(*self, inputs);
        let measured = evaluation.measure();
        let is_whole = inputs.sessions.completeness() == Completeness::Whole;
        match measured.iter().find(|measured| measured.exceeded) {
            None if !is_whole && !measured.iter().all(|measured| measured.safe) => Decision::Undecided,
            None if inputs.sessions.is_of_unknown_user() => Decision::UnknownUser { count: least_room(&measured) },
            None => Decision::Within {
                count: least_room(&measured),
                holder: measured.iter().all(|measured| measured.holder),
            },
            Some(first) => {
                let count = first.count;
                match self.may_evict().then(|| evaluation.victims(&measured)).flatten() {
                    Some(victims) => Decision::Evict { count, victims },
                    None => Decision::Exceeded {
                        count,
                        revoke_session: !first.holder && evaluation.serves_only_this_client(),
                    },
                }
            }
        }
    }

    /// Whether sessions may be revoked for the login.
    pub(super) fn may_evict(&self) -> bool {
        self.policy.strategy != Strategy::Deny && (self.mfa || !self.policy.revoke_requires_mfa)
    }

    /// Whether the first pages of a list decide the login already: it is blocked, whatever further pages show. That needs the
    /// current session, unless its place does not matter, because it may be listed as a holder on a later page.
    pub(super) fn is_blocked_by(&self, sessions: &SessionList, now: Timestamp) -> bool {
        let inputs = LimitInputs { sessions, admissions: &[], revoked: &HashSet::new(), now };
        let shows_current = || sessions.get(self.sid).is_some();
        !self.may_evict()
            && (self.policy.reentry == Reentry::CountOthers || shows_current())
            && Evaluation::new(*self, inputs).measure().iter().any(|measured| measured.exceeded)
    }

    /// The limits that count a session with this application.
    fn membership(&self, client: &str) -> Membership {
        let mut membership = bit(LimitScope::User);
        if client == self.client_id {
            membership |= bit(LimitScope::Client);
        }
        if self.policy.scope.selector.names_client(client) {
            membership |= bit(LimitScope::Group);
        }
        membership
    }
}

/// The limit with the least room left, the first of equals. A policy has at least one limit.
fn least_room(measured: &[MeasuredLimit]) -> Count {
    measured
        .iter()
        .map(|measured| measured.count)
        .min_by_key(|count| i64::from(count.limit) - i64::try_from(count.active).unwrap_or(i64::MAX))
        .expect("a compiled policy has a limit")
}

/// The limits that count a session, one bit for each.
type Membership = u8;

/// How many different memberships there are.
const MEMBERSHIPS: usize = 1 << LimitScope::ALL.len();

const fn bit(limit_scope: LimitScope) -> Membership {
    1 << limit_scope as u8
}

/// A session as the ledger's admissions show it.
#[derive(Default)]
struct Remembered {
    membership: Membership,
    /// Whether an admission is for another application than the one that logs in.
    elsewhere: bool,
    /// The time of the last admission.
    admitted_at: Option<Timestamp>,
}

/// Another session that counts.
pub(super) struct OtherSession<'a> {
    id: &'a str,
    membership: Membership,
    /// `None` for a session that is only remembered: its login is in progress, and it can neither hold a place nor be
    /// revoked.
    listed: Option<&'a Session>,
    remembered: Option<&'a Remembered>,
}

impl OtherSession<'_> {
    /// The last use of the session; an admission is a use.
    fn last_used_at(&self) -> Option<Timestamp> {
        let listed = self.listed.and_then(|listed| listed.last_used_at);
        listed.max(self.remembered.and_then(|remembered| remembered.admitted_at))
    }
}

/// A limit after the sessions were counted.
struct MeasuredLimit {
    count: Count,
    /// Whether the current session holds a place under the limit.
    holder: bool,
    exceeded: bool,
    /// Whether the limit is never exceeded, whatever else is listed.
    safe: bool,
}

/// A limit check with its inputs, prepared for reading the list.
pub(super) struct Evaluation<'a, 'e> {
    limit_check: LimitCheck<'a>,
    inputs: LimitInputs<'e>,
    /// The membership of each set of applications of the list.
    memberships: Vec<Membership>,
    remembered: HashMap<&'e str, Remembered>,
    current: Option<&'e Session>,
    inactive_before: Option<Timestamp>,
}

impl<'a, 'e> Evaluation<'a, 'e> {
    pub(super) fn new(limit_check: LimitCheck<'a>, inputs: LimitInputs<'e>) -> Self {
        let mut remembered: HashMap<&str, Remembered> = HashMap::new();
        for admission in inputs.admissions.iter().filter(|admission| !inputs.revoked.contains(&admission.sid)) {
            let session = remembered.entry(&admission.sid).or_default();
            session.membership |= limit_check.membership(&admission.client_id);
            session.elsewhere |= admission.client_id != limit_check.client_id;
            session.admitted_at = session.admitted_at.max(Some(admission.admitted_at));
        }
        let of_client: Vec<Membership> =
            inputs.sessions.clients().map(|client| limit_check.membership(client)).collect();
        let of_set = |set: &ClientSet| match set {
            Some(clients) => clients.iter().fold(0, |all, client| all | of_client[*client]),
            None => bit(LimitScope::User),
        };
        Self {
            limit_check,
            inputs,
            memberships: inputs.sessions.client_sets().map(of_set).collect(),
            remembered,
            current: inputs.sessions.get(limit_check.sid),
            // A span that reaches before the first possible timestamp makes no session inactive.
            inactive_before: limit_check.policy.active_within.and_then(|span| inputs.now.checked_sub(span).ok()),
        }
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
            .map(|(id, remembered)| OtherSession {
                id,
                membership: remembered.membership,
                listed: None,
                remembered: Some(remembered),
            });
        listed.chain(only_remembered)
    }

    /// The listed session as another session, when it counts.
    pub(super) fn other(&self, id: &'e str, session: &'e Session) -> Option<OtherSession<'_>> {
        let ended = session.ends_at.is_some_and(|at| at <= self.inputs.now);
        if ended || self.is_current(session) || self.was_revoked(id) {
            return None;
        }
        let remembered = self.remembered(id);
        let membership = self.membership(session, remembered);
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
    fn measure(&self) -> Vec<MeasuredLimit> {
        let policy = self.limit_check.policy;
        let held = self.held();
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
                let active = counted(if keeps_place { &tally[1..] } else { &tally }, limit_scope);
                // A strategy that makes room for newcomers never takes a place that is kept.
                let safe = keeps_place && policy.strategy != Strategy::Deny;
                let exceeded = !safe && active >= limit as usize;
                let at_least = self.inputs.sessions.completeness() != Completeness::Whole;
                MeasuredLimit { count: Count { limit_scope, limit, active, at_least }, holder, exceeded, safe }
            })
            .collect()
    }

    /// The limits that count a session by its listed applications alone. A login that is only remembered is in progress,
    /// also when its session is listed already, and the session cannot be revoked for it.
    ///
    /// Nor can a session whose id does not have the form of Auth0's ids.
    fn settled_membership(&self, other: &OtherSession<'_>) -> Membership {
        other.listed.filter(|session| session.is_revocable).map_or(0, |session| self.memberships[session.clients])
    }

    /// The sessions to revoke, or `None` when the listed ones do not make up the surplus.
    fn victims(&self, measured: &[MeasuredLimit]) -> Option<Vec<String>> {
        let exceeded = measured.iter().filter(|measured| measured.exceeded);
        let wanted = exceeded.clone().fold(0, |all, measured| all | bit(measured.count.limit_scope));
        let mut candidates: Vec<OtherSession<'_>> =
            self.others().filter(|other| self.settled_membership(other) & wanted != 0).collect();
        let strategy = self.limit_check.policy.strategy;

        let mut chosen: Vec<OtherSession<'_>> = Vec::new();
        for MeasuredLimit { count, .. } in exceeded {
            let bit = bit(count.limit_scope);
            let fits = |other: &OtherSession<'_>| self.settled_membership(other) & bit != 0;
            let gone = chosen.iter().filter(|other| other.membership & bit != 0).count();
            let surplus = (count.active - gone + 1).saturating_sub(count.limit as usize);
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
        chosen.sort_by(|a, b| revocation_order(strategy, a).cmp(&revocation_order(strategy, b)));
        Some(chosen.iter().map(|other| other.id.to_owned()).collect())
    }

    /// Whether the current session is known to have no application but the one that logs in. A session that is not listed
    /// has only the applications of its admissions, unless it may be listed further on; the applications of one that is listed
    /// without any are unknown.
    fn serves_only_this_client(&self) -> bool {
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
        Strategy::Deny | Strategy::RevokeOldest => (false, created_at),
        Strategy::RevokeLeastRecentlyUsed => (false, other.last_used_at()),
        Strategy::RevokeNextToExpire => (ends_at.is_none(), ends_at),
    };
    (never_ends, at, created_at, other.id)
}
