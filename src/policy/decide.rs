//! The rule: which of a user's sessions count, whether the login is over a limit, and whom that costs.
//!
//! [`LimitCheck::decide`] is a pure function of the login, the policy's limits, the listed sessions, what the ledger remembers,
//! and the clock. It runs over the list once to count, and a second time only where sessions have to give way.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::compiled::{Limits, Policy};
use super::session::{ClientSet, Session, SessionList};
use crate::crd::{Reentry, Strategy};

/// Which limit a number belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitScope {
    /// Sessions with the application that logs in.
    Client,
    /// Sessions with any application of the selector.
    Group,
    /// Sessions with any application.
    User,
}

impl LimitScope {
    /// In the order in which limits are looked at.
    pub const ALL: [Self; 3] = [Self::Client, Self::Group, Self::User];

    /// The word of the answer's `limit_scope`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Group => "group",
            Self::User => "user",
        }
    }
}

/// A limit, and how many others counted towards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Which limit.
    pub scope: LimitScope,
    /// How many sessions it allows.
    pub limit: u32,
    /// How many others counted.
    pub active: usize,
}

/// A login that the ledger remembers because Auth0's list does not show it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The session.
    pub sid: String,
    /// The application that it was let into.
    pub client_id: String,
    /// When that was first allowed.
    pub admitted_at: Timestamp,
}

/// What is known when the question is decided.
#[derive(Clone, Copy, Debug)]
pub struct LimitInputs<'a> {
    /// The user's sessions as listed.
    pub sessions: &'a SessionList,
    /// What the ledger remembers of the user and that counts for this list.
    pub admissions: &'a [Admission],
    /// Sessions that this service itself revoked within the last minute: Auth0 deletes asynchronously.
    pub revoked: &'a HashSet<String>,
    /// The time.
    pub now: Timestamp,
}

/// What the rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Within every limit. The count is of the limit with the least room left.
    Within {
        /// The limit with the least room left.
        count: Count,
        /// Whether the session already held a place under every limit.
        holder: bool,
    },
    /// Over a limit, and to be refused.
    Exceeded {
        /// The first limit that is exceeded.
        count: Count,
        /// Whether the Action should end the session: it is new and serves nothing else.
        revoke_session: bool,
    },
    /// Over a limit, and to be let in once these sessions are revoked.
    Evict {
        /// The first limit that is exceeded.
        count: Count,
        /// The ids of the sessions that have to go.
        victims: Vec<String>,
    },
}

/// A login that only the user's sessions can decide: the steps before Auth0 is asked are behind it.
#[derive(Clone, Copy, Debug)]
pub struct LimitCheck<'a> {
    pub(super) policy: &'a Policy,
    pub(super) limits: &'a Limits,
    /// Which override chose the limits, for what is remembered of the answer.
    pub(super) chosen_by: Option<usize>,
    pub(super) user_id: &'a str,
    pub(super) client_id: &'a str,
    pub(super) sid: &'a str,
    pub(super) mfa: bool,
}

/// The limits that a session belongs to, one bit each.
type Membership = u8;

/// How many different memberships there are.
const MEMBERSHIPS: usize = 1 << LimitScope::ALL.len();

const fn bit(scope: LimitScope) -> Membership {
    1 << scope as u8
}

/// Everything that is remembered of one session.
#[derive(Default)]
struct Remembered {
    belongs: Membership,
    /// Whether it is remembered for any application but the one that logs in.
    elsewhere: bool,
    /// The last admission.
    admitted_at: Option<Timestamp>,
}

/// Another session that counts.
pub(super) struct Other<'a> {
    id: &'a str,
    belongs: Membership,
    /// `None` for a login that is only remembered: it is still under way and can neither hold a place nor be revoked.
    listed: Option<&'a Session>,
    remembered: Option<&'a Remembered>,
}

impl Other<'_> {
    /// An admission is a use.
    fn last_used_at(&self) -> Option<Timestamp> {
        let listed = self.listed.and_then(|listed| listed.last_used_at);
        listed.max(self.remembered.and_then(|known| known.admitted_at))
    }
}

/// One limit, looked at.
struct Measured {
    count: Count,
    /// Whether current holds a place under it.
    holder: bool,
    exceeded: bool,
}

impl<'a> LimitCheck<'a> {
    /// The policy that governs the login.
    pub fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// The user.
    pub fn user_id(&self) -> &'a str {
        self.user_id
    }

    /// The application that logs in.
    pub fn client_id(&self) -> &'a str {
        self.client_id
    }

    /// The session that logs in: *current*.
    pub fn sid(&self) -> &'a str {
        self.sid
    }

    /// The limits that hold for it.
    pub fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// The position of the override that chose the limits, when one did.
    pub fn chosen_by(&self) -> Option<usize> {
        self.chosen_by
    }

    /// Applies the rule.
    pub fn decide(&self, inputs: LimitInputs<'_>) -> Decision {
        let evaluation = Evaluation::new(*self, inputs);
        let measured = evaluation.measure();
        match measured.iter().find(|measured| measured.exceeded) {
            None => Decision::Within {
                count: least_room(&measured),
                holder: measured.iter().all(|measured| measured.holder),
            },
            Some(first) => {
                let count = first.count;
                let may_evict =
                    self.policy.strategy != Strategy::Deny && (self.mfa || !self.policy.revoke_requires_mfa);
                match may_evict.then(|| evaluation.victims(&measured)).flatten() {
                    Some(victims) => Decision::Evict { count, victims },
                    None => Decision::Exceeded {
                        count,
                        revoke_session: !first.holder && evaluation.serves_only_this_client(),
                    },
                }
            }
        }
    }
}

/// The limit with the least room left, the first of equals. A policy has at least one limit.
fn least_room(measured: &[Measured]) -> Count {
    measured
        .iter()
        .map(|measured| measured.count)
        .min_by_key(|count| i64::from(count.limit) - i64::try_from(count.active).unwrap_or(i64::MAX))
        .expect("a compiled policy has a limit")
}

/// A question with its evidence, prepared for the passes over the list.
pub(super) struct Evaluation<'a, 'e> {
    limit_check: LimitCheck<'a>,
    inputs: LimitInputs<'e>,
    /// What each set of applications of the list means for the limits.
    memberships: Vec<Membership>,
    remembered: HashMap<&'e str, Remembered>,
    current: Option<&'e Session>,
    inactive_before: Option<Timestamp>,
}

impl<'a, 'e> Evaluation<'a, 'e> {
    pub(super) fn new(limit_check: LimitCheck<'a>, inputs: LimitInputs<'e>) -> Self {
        let mut remembered: HashMap<&str, Remembered> = HashMap::new();
        for admission in inputs.admissions.iter().filter(|admission| !inputs.revoked.contains(&admission.sid)) {
            let known = remembered.entry(&admission.sid).or_default();
            known.belongs |= limit_check.membership(&admission.client_id);
            known.elsewhere |= admission.client_id != limit_check.client_id;
            known.admitted_at = known.admitted_at.max(Some(admission.admitted_at));
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
            // A span that reaches before the beginning of time leaves nothing inactive.
            inactive_before: limit_check.policy.active_within.and_then(|span| inputs.now.checked_sub(span).ok()),
        }
    }

    /// The limits that a listed session belongs to by its own clients and those remembered of it.
    fn belongs(&self, session: &Session, remembered: Option<&Remembered>) -> Membership {
        self.memberships[session.clients] | remembered.map_or(0, |known| known.belongs)
    }

    fn remembered(&self, id: &str) -> Option<&Remembered> {
        if self.remembered.is_empty() { None } else { looked_up(&self.remembered, id) }
    }

    pub(super) fn was_revoked(&self, id: &str) -> bool {
        !self.inputs.revoked.is_empty() && is_among(self.inputs.revoked, id)
    }

    /// Every other session that counts, listed ones first.
    fn others(&self) -> impl Iterator<Item = Other<'_>> {
        let listed = self.inputs.sessions.iter().filter_map(|(id, session)| self.other(id, session));
        let only_remembered = self
            .remembered
            .iter()
            .filter(|(id, _)| **id != self.limit_check.sid && self.inputs.sessions.get(id).is_none())
            .map(|(id, known)| Other { id, belongs: known.belongs, listed: None, remembered: Some(known) });
        listed.chain(only_remembered)
    }

    pub(super) fn other(&self, id: &'e str, session: &'e Session) -> Option<Other<'_>> {
        let ended = session.ends_at.is_some_and(|at| at <= self.inputs.now);
        if ended || self.is_current(session) || self.was_revoked(id) {
            return None;
        }
        let remembered = self.remembered(id);
        let other = Other { id, belongs: self.belongs(session, remembered), listed: Some(session), remembered };
        // A session that does not say when it was used counts; having been admitted cannot make that worse.
        let inactive = self
            .inactive_before
            .is_some_and(|before| session.last_used_at.is_some() && other.last_used_at().is_some_and(|at| at < before));
        (!inactive).then_some(other)
    }

    pub(super) fn is_current(&self, session: &Session) -> bool {
        self.current.is_some_and(|current| std::ptr::eq(current, session))
    }

    /// The limits under which current holds a place.
    fn held(&self) -> Membership {
        self.current.map_or(0, |current| self.belongs(current, self.remembered(self.limit_check.sid)))
    }

    fn comes_before_current(&self, other: &Other<'_>) -> bool {
        match (other.listed, self.current) {
            (Some(listed), Some(current)) => {
                listed.created_at.cmp(&current.created_at).then_with(|| other.id.cmp(self.limit_check.sid)).is_lt()
            }
            _ => false,
        }
    }

    /// The limits towards which another session counts, in the order in which they are looked at.
    pub(super) fn counts_towards(&self, other: &Other<'_>) -> Vec<LimitScope> {
        let kept = if self.limit_check.policy.reentry == Reentry::KeepPlace { self.held() } else { 0 };
        let counts = |scope: &LimitScope| {
            other.belongs & bit(*scope) != 0 && (kept & bit(*scope) == 0 || self.comes_before_current(other))
        };
        self.limit_check.limits.iter().map(|(scope, _)| scope).filter(counts).collect()
    }

    /// Counts for every limit of the policy, in the order in which they are looked at.
    fn measure(&self) -> Vec<Measured> {
        let policy = self.limit_check.policy;
        let held = self.held();
        // By whether they hold a place that comes before current's, and by what they belong to.
        let mut tally = [[0usize; MEMBERSHIPS]; 2];
        // `for_each` takes the two halves of a chain one after the other, where `for` asks at each step which one it is in.
        self.others().for_each(|other| {
            tally[usize::from(self.comes_before_current(&other))][usize::from(other.belongs)] += 1;
        });
        let count = |tally: &[[usize; MEMBERSHIPS]], scope| {
            let counts = tally.iter().flat_map(|counts| counts.iter().enumerate());
            counts.filter(|(belongs, _)| belongs & usize::from(bit(scope)) != 0).map(|(_, count)| count).sum()
        };

        self.limit_check
            .limits
            .iter()
            .map(|(scope, limit)| {
                let holder = held & bit(scope) != 0;
                let keeps_place = holder && policy.reentry == Reentry::KeepPlace;
                let active = count(if keeps_place { &tally[1..] } else { &tally }, scope);
                // A kept place is never taken by a strategy that makes room for newcomers.
                let safe = keeps_place && policy.strategy != Strategy::Deny;
                Measured { count: Count { scope, limit, active }, holder, exceeded: !safe && active >= limit as usize }
            })
            .collect()
    }

    /// What a session belongs to by the list alone. A login that is only remembered is still under way, also on a session
    /// that is listed already, and cannot be revoked for it.
    fn settled(&self, other: &Other<'_>) -> Membership {
        other.listed.map_or(0, |session| self.memberships[session.clients])
    }

    /// The sessions that have to go, or `None` when the listed ones do not make up the surplus.
    fn victims(&self, measured: &[Measured]) -> Option<Vec<String>> {
        let exceeded = measured.iter().filter(|measured| measured.exceeded);
        let wanted = exceeded.clone().fold(0, |all, measured| all | bit(measured.count.scope));
        let mut candidates: Vec<Other<'_>> = self.others().filter(|other| self.settled(other) & wanted != 0).collect();
        let strategy = self.limit_check.policy.strategy;

        let mut chosen: Vec<Other<'_>> = Vec::new();
        for measured in exceeded {
            let scope = bit(measured.count.scope);
            let fits = |other: &Other<'_>| self.settled(other) & scope != 0;
            let gone = chosen.iter().filter(|other| other.belongs & scope != 0).count();
            let surplus = (measured.count.active - gone + 1).saturating_sub(measured.count.limit as usize);
            if candidates.iter().filter(|other| fits(other)).take(surplus).count() < surplus {
                return None;
            }
            // Few of many have to go, so they are picked out, which takes one pass where sorting would take ten.
            if let Some(last) = surplus.checked_sub(1) {
                candidates.select_nth_unstable_by(last, |a, b| {
                    (!fits(a), first_to_go(strategy, a)).cmp(&(!fits(b), first_to_go(strategy, b)))
                });
                chosen.extend(candidates.drain(..surplus));
            }
        }
        chosen.sort_by(|a, b| first_to_go(strategy, a).cmp(&first_to_go(strategy, b)));
        Some(chosen.iter().map(|other| other.id.to_owned()).collect())
    }

    /// Whether all that is known of current's applications is the one that logs in. A session that is not listed has none
    /// but those remembered; one that is listed without saying is not known.
    fn serves_only_this_client(&self) -> bool {
        let listed = self.current.is_none_or(|current| {
            let clients = self.inputs.sessions.clients_of(current);
            clients.is_some_and(|mut clients| clients.all(|client| client == self.limit_check.client_id))
        });
        listed && self.remembered(self.limit_check.sid).is_none_or(|known| !known.elsewhere)
    }
}

fn is_among(revoked: &HashSet<String>, id: &str) -> bool {
    revoked.contains(id)
}

fn looked_up<'a>(remembered: &'a HashMap<&str, Remembered>, id: &str) -> Option<&'a Remembered> {
    remembered.get(id)
}

impl LimitCheck<'_> {
    /// The limits that a session with this application belongs to.
    fn membership(&self, client: &str) -> Membership {
        let mut belongs = bit(LimitScope::User);
        if client == self.client_id {
            belongs |= bit(LimitScope::Client);
        }
        if self.policy.scope.selector.names_client(client) {
            belongs |= bit(LimitScope::Group);
        }
        belongs
    }
}

/// Orders sessions by who has to go first. `None` sorts before every time, which is what an unreadable date means for the
/// first two strategies; for `RevokeNextToExpire` a session that never ends comes last.
fn first_to_go<'a>(strategy: Strategy, other: &'a Other<'_>) -> impl Ord + use<'a> {
    let created_at = other.listed.and_then(|listed| listed.created_at);
    let ends_at = other.listed.and_then(|listed| listed.ends_at);
    let (never_ends, at) = match strategy {
        Strategy::Deny | Strategy::RevokeOldest => (false, created_at),
        Strategy::RevokeLeastRecentlyUsed => (false, other.last_used_at()),
        Strategy::RevokeNextToExpire => (ends_at.is_none(), ends_at),
    };
    (never_ends, at, created_at, other.id)
}
