//! The steps: what can happen in a state, and the state after it.

use crate::change::Change;
use crate::rule::{Clause, Rule, Setup};
use crate::state::{LeaseState, ModelState, Pair, Phase, Second, pairs_of};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelStep {
    Request { by_second: bool },
    Read { list: usize, omitted: Option<u8>, unknown: Option<u8> },
    Commit { list: usize, pair: Pair, outcome: ModelOutcome, ignored: Option<u8> },
    DecideWithoutList { by_second: bool, pair: Pair, is_allowed: bool },
    AllowFromMemory { pair: Pair, is_local: bool },
    Complete { pair: Pair },
    LogOut { session: u8 },
    HourEnds { pair: Pair },
    Forget { pair: Pair },
    RevocationEnds { end: RevocationEnd },
    FailOver,
    Notice,
    LoseKeys,
    CutOff,
    LeaseEnds,
    TenMinutes,
    Return,
    ServeAgain,
    Die,
    Restart { reaches_store: bool },
    SignOff,
    LogInUnasked { pair: Pair },
    SayUnasked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelOutcome {
    Allow,
    Block,
    Evict(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationEnd {
    Done,
    /// It was accepted, and the session goes on.
    Lost,
    /// The failure policy blocks the login.
    Failed,
}

/// The steps that can be taken, with the states after them.
pub type Steps = Vec<(ModelStep, ModelState)>;

/// A state from which steps are taken.
struct StepsFrom<'a> {
    state: &'a ModelState,
    setup: &'a Setup,
    rule: &'a Rule,
    steps: &'a mut Steps,
}

impl ModelState {
    /// Adds all steps that can be taken to `steps`.
    pub fn steps(&self, setup: &Setup, rule: &Rule, steps: &mut Steps) {
        let mut from = StepsFrom { state: self, setup, rule, steps };
        from.lists();
        from.decisions();
        from.logins();
        from.store();
        from.second_replica();
    }
}

impl<'a> StepsFrom<'a> {
    fn take(&mut self, step: ModelStep, change: impl FnOnce(&mut Change<'a>)) {
        let mut after = Change { state: *self.state, setup: self.setup, rule: self.rule };
        change(&mut after);
        after.settle();
        self.steps.push((step, after.state));
    }

    fn pairs(&self) -> impl Iterator<Item = Pair> + use<> {
        let (sessions, clients) = (self.setup.sessions, self.setup.clients);
        (0..sessions).flat_map(move |session| (0..clients).map(move |client| Pair { session, client }))
    }

    fn live_pairs(&self) -> impl Iterator<Item = Pair> + use<> {
        let ended = self.state.ended;
        self.pairs().filter(move |pair| ended & (1 << pair.session) == 0)
    }

    /// The replicas that check logins. Without a cut they are interchangeable, and one stands for both.
    fn replicas(&self) -> &'static [bool] {
        let serves = matches!(self.state.second, Second::Connected | Second::CutOff)
            || self.state.second == Second::Returning && !self.rule.has(Clause::ReturnServesLast);
        if self.setup.cut_off > 0 && serves { &[false, true] } else { &[false] }
    }

    fn has_login(&self) -> bool {
        self.state.spent.logins < self.setup.logins
    }

    fn lists(&mut self) {
        let state = self.state;
        let free = state.lists.iter().position(|list| list.phase == Phase::None);
        if let Some(free) = free.filter(|free| *free < usize::from(self.setup.lists) && self.has_login()) {
            for by_second in self.replicas().iter().copied() {
                self.take(ModelStep::Request { by_second }, |after| after.request(free, by_second));
            }
        }
        for (list, requested) in state.lists.iter().enumerate() {
            if requested.phase != Phase::Requested {
                continue;
            }
            let listed = state.listed(self.setup);
            let sessions = (0..self.setup.sessions).filter(|session| listed & (1 << session) != 0);
            let mut reads = vec![(None, None)];
            if state.spent.incomplete < self.setup.incomplete {
                reads.extend(sessions.clone().map(|session| (Some(session), None)));
            }
            if state.spent.unknown < self.setup.unknown {
                reads.extend(sessions.map(|session| (None, Some(session))));
            }
            for (omitted, unknown) in reads {
                let step = ModelStep::Read { list, omitted, unknown };
                self.take(step, |after| after.read(list, omitted, unknown));
            }
        }
    }

    fn decisions(&mut self) {
        let state = self.state;
        for (list, read) in state.lists.iter().enumerate() {
            if !matches!(read.phase, Phase::Complete | Phase::Incomplete) {
                continue;
            }
            for pair in self.live_pairs() {
                let record = state.record(read.by_second);
                let others = (read.clients | record.admissions) & !pairs_of(pair.session);
                let mut outcomes = vec![ModelOutcome::Allow];
                if !self.decides(read.by_second) {
                    outcomes = vec![ModelOutcome::Block];
                } else if others != 0 {
                    outcomes.push(ModelOutcome::Block);
                }
                if state.spent.evictions < self.setup.evictions && !read.by_second {
                    let shows = |session: &u8| read.clients & pairs_of(*session) != 0 && *session != pair.session;
                    outcomes.extend((0..self.setup.sessions).filter(shows).map(ModelOutcome::Evict));
                }
                let mut ignored = vec![None];
                if !self.rule.has(Clause::IncludesInactive) {
                    let shows = |session: &u8| read.sessions & (1 << session) != 0 && *session != pair.session;
                    ignored.extend((0..self.setup.sessions).filter(shows).map(Some));
                }
                for outcome in outcomes {
                    for ignored in ignored.iter().copied() {
                        let step = ModelStep::Commit { list, pair, outcome, ignored };
                        self.take(step, |after| after.commit(list, pair, outcome, ignored));
                    }
                }
            }
        }
        if !self.has_login() {
            return;
        }
        if self.setup.without_list {
            // A half of the store that has not split yet does not know which replica decides.
            let is_one = |by_second: &bool| self.setup.split && *by_second && state.second == Second::Connected;
            let replicas: Vec<_> = self.replicas().iter().copied().filter(|it| !is_one(it)).collect();
            for by_second in replicas {
                let answers: &[bool] = if self.decides(by_second) { &[true, false] } else { &[false] };
                for pair in self.live_pairs() {
                    for is_allowed in answers.iter().copied() {
                        let step = ModelStep::DecideWithoutList { by_second, pair, is_allowed };
                        self.take(step, |after| after.decide_without_list(by_second, pair, is_allowed));
                    }
                }
            }
        }
        if self.setup.newcomers {
            self.newcomers(false);
            if state.second == Second::CutOff {
                self.newcomers(true);
            }
        }
    }

    /// Whether a replica may allow a login. Without the clause it blocks while it is cut off, from the end of its lease on.
    fn decides(&self, by_second: bool) -> bool {
        let is_connected = !self.state.is_local(by_second) || self.state.lease == LeaseState::Valid;
        is_connected || self.rule.has(Clause::CutOffDecides)
    }

    fn newcomers(&mut self, is_local: bool) {
        let record = self.state.record(is_local);
        let Some(listing) = record.listing else { return };
        let is_barred = listing.is_barred && self.rule.has(Clause::ForgettingBarsAnHour);
        if is_barred || !self.state.serves_newcomers(&listing, is_local, self.setup, self.rule) {
            return;
        }
        for pair in self.live_pairs().filter(|pair| listing.shown() & pair.bit() == 0) {
            self.take(ModelStep::AllowFromMemory { pair, is_local }, |after| after.allow_from_memory(pair, is_local));
        }
    }

    fn logins(&mut self) {
        let state = self.state;
        for pair in self.pairs() {
            if state.pending & pair.bit() != 0 {
                self.take(ModelStep::Complete { pair }, |after| {
                    after.state.pending &= !pair.bit();
                    after.state.clients |= pair.bit();
                });
            }
            let is_recent = state.lists.iter().any(|list| list.begun_since & pair.bit() != 0);
            if state.young() & pair.bit() != 0 && !is_recent {
                self.take(ModelStep::HourEnds { pair }, |after| after.hour_ends(pair));
            }
        }
        if state.spent.logouts < self.setup.logouts {
            let used = |session: &u8| state.clients & pairs_of(*session) != 0;
            for session in (0..self.setup.sessions).filter(used) {
                self.take(ModelStep::LogOut { session }, |after| {
                    after.state.spent.logouts += 1;
                    after.state.ended |= 1 << session;
                });
            }
        }
        if state.eviction.victim.is_some() {
            for end in [RevocationEnd::Done, RevocationEnd::Lost, RevocationEnd::Failed] {
                self.take(ModelStep::RevocationEnds { end }, |after| after.revocation_ends(end));
            }
        }
        if state.spent.unasked < self.setup.unasked {
            for pair in self.live_pairs().filter(|pair| state.clients & pair.bit() == 0) {
                self.take(ModelStep::LogInUnasked { pair }, |after| after.log_in_unasked(pair));
            }
        } else if self.setup.unasked > 0 && state.unseen & state.ever_lost != 0 {
            self.take(ModelStep::SayUnasked, |after| {
                if after.rule.has(Clause::EpochOnUnasked) {
                    after.begin_epoch();
                }
                after.state.unseen = 0;
            });
        }
    }

    fn store(&mut self) {
        let (state, setup) = (self.state, self.setup);
        if state.spent.forgotten < setup.forgotten {
            for pair in self.pairs().filter(|pair| state.shared.kept() & pair.bit() != 0) {
                self.take(ModelStep::Forget { pair }, |after| after.forget(pair));
            }
        }
        if state.spent.failovers < setup.failovers {
            self.take(ModelStep::FailOver, Change::fail_over);
        }
        if state.is_unnoticed {
            self.take(ModelStep::Notice, |after| {
                after.state.is_unnoticed = false;
                after.begin_epoch();
            });
        }
        if state.spent.lost_keys < setup.lost_keys {
            self.take(ModelStep::LoseKeys, Change::lose_keys);
        }
    }

    fn second_replica(&mut self) {
        let (state, setup) = (self.state, self.setup);
        if setup.cut_off == 0 {
            return;
        }
        match state.second {
            Second::Connected => {
                if state.spent.cut_off < setup.cut_off {
                    self.take(ModelStep::CutOff, Change::cut_off);
                    self.take(ModelStep::Die, Change::die);
                }
                let drains = state.lists.iter().any(|list| list.by_second && list.phase != Phase::None);
                let may_sign_off = !drains || !self.rule.has(Clause::DrainsBeforeSignOff);
                if setup.sign_off && may_sign_off && state.lease == LeaseState::Valid {
                    self.take(ModelStep::SignOff, Change::sign_off);
                }
            }
            Second::CutOff => {
                self.take(ModelStep::Return, Change::come_back);
                self.take(ModelStep::Die, Change::die);
            }
            Second::Returning => self.take(ModelStep::ServeAgain, Change::serve_again),
            Second::Down if state.lease != LeaseState::Valid => {
                self.take(ModelStep::Restart { reaches_store: true }, |after| after.restart(true));
                if !self.rule.has(Clause::StartsWithStore) {
                    self.take(ModelStep::Restart { reaches_store: false }, |after| after.restart(false));
                }
            }
            Second::Down => {}
        }
        if state.second != Second::Connected && state.lease == LeaseState::Valid {
            self.take(ModelStep::LeaseEnds, |after| after.state.lease = LeaseState::Missing);
        }
        let is_limited = self.rule.has(Clause::LeaseIsMissedTenMinutes);
        if state.lease == LeaseState::Missing && state.second != Second::Returning && is_limited {
            self.take(ModelStep::TenMinutes, Change::ten_minutes);
        }
    }
}
