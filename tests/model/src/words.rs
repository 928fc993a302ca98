//! Histories in words. Sessions are A, B and C, the oldest first; applications are x and y.

use crate::property::Violation;
use crate::search::Counterexample;
use crate::state::{ModelState, Pair, Pairs, Phase, Sessions, pairs_of};
use crate::steps::{ModelOutcome, ModelStep, RevocationEnd};

/// Tells a history, and keeps the numbers of the lists under way.
#[derive(Default)]
struct Narrator {
    numbers: Vec<usize>,
    requested: usize,
}

impl Counterexample {
    /// The history, a sentence for each step, and what is wrong at its end.
    pub fn words(&self) -> Vec<String> {
        let mut narrator = Narrator::default();
        let mut before = ModelState::first();
        let mut words = Vec::new();
        for (step, after) in &self.steps {
            words.push(narrator.words(&before, *step, after));
            before = *after;
        }
        words.push(violation(&self.violation));
        words
    }
}

impl Narrator {
    fn words(&mut self, before: &ModelState, step: ModelStep, after: &ModelState) -> String {
        match step {
            ModelStep::Request { by_second } => {
                self.requested += 1;
                self.numbers.push(self.requested);
                format!("{} requests list {}.", replica(by_second), self.requested)
            }
            ModelStep::Read { list, .. } => {
                let read = &after.lists[list];
                let whole = if read.phase == Phase::Incomplete { ", incomplete" } else { "" };
                let shown = shown(read.sessions, read.clients, read.unknown);
                format!("List {} is read{whole}: {shown}.", self.numbers[list])
            }
            ModelStep::Commit { list, pair, outcome, ignored } => {
                let number = self.numbers.remove(list);
                let login = login(pair);
                let ignored = ignored.map_or(String::new(), |it| format!(" {} is inactive, and left out.", name(it)));
                match outcome {
                    ModelOutcome::Allow => format!("List {number} is committed: {login} is allowed.{ignored}"),
                    ModelOutcome::Block => format!("List {number} is committed: {login} is blocked.{ignored}"),
                    ModelOutcome::Evict(victim) => {
                        let victim = name(victim);
                        format!("List {number} is committed: {login} is allowed, and evicts {victim}.{ignored}")
                    }
                }
            }
            ModelStep::DecideWithoutList { by_second, pair, is_allowed: true } => {
                format!("{} allows {} without a list (exempt, for example).", replica(by_second), login(pair))
            }
            ModelStep::DecideWithoutList { by_second, pair, is_allowed: false } => {
                format!("{} blocks {} without a list (failure policy).", replica(by_second), login(pair))
            }
            ModelStep::AllowFromMemory { pair, is_local } => {
                format!("{} allows {} from memory.", replica(is_local), login(pair))
            }
            ModelStep::Complete { pair } => format!("The login of {} completes.", login(pair)),
            ModelStep::LogOut { session } => format!("{} is logged out.", name(session)),
            ModelStep::HourEnds { pair } => format!("An hour has passed since the login of {}.", login(pair)),
            ModelStep::Forget { pair } => format!("The record is full, and forgets {}.", login(pair)),
            ModelStep::RevocationEnds { end } => {
                let victim = before.eviction.victim.map_or("", name);
                match end {
                    RevocationEnd::Done => format!("{victim} is revoked."),
                    RevocationEnd::Lost => format!("Auth0 accepts the revocation of {victim}, and loses it."),
                    RevocationEnd::Failed => {
                        format!("The revocation of {victim} fails, and the failure policy blocks the login.")
                    }
                }
            }
            ModelStep::FailOver => "The store fails over, and loses its last write.".to_owned(),
            ModelStep::Notice => "The replicas notice the failover.".to_owned(),
            ModelStep::LoseKeys => "The store loses its keys.".to_owned(),
            ModelStep::CutOff => "Replica 2 is cut off from the store.".to_owned(),
            ModelStep::LeaseEnds => "The lease of replica 2 ends.".to_owned(),
            ModelStep::TenMinutes => {
                self.forget_lists(before, after);
                "The lease has been missing for ten minutes.".to_owned()
            }
            ModelStep::Return => "Replica 2 reaches the store again.".to_owned(),
            ModelStep::ServeAgain => "Replica 2 serves from the store.".to_owned(),
            ModelStep::Die => {
                self.forget_lists(before, after);
                "Replica 2 is killed.".to_owned()
            }
            ModelStep::Restart { reaches_store: true } => "Replica 2 starts again as a new process.".to_owned(),
            ModelStep::Restart { reaches_store: false } => {
                "Replica 2 starts again as a new process, without the store.".to_owned()
            }
            ModelStep::SignOff => "Replica 2 signs off.".to_owned(),
            ModelStep::LogInUnasked { pair } => format!("Nobody asks for the login of {}.", login(pair)),
            ModelStep::SayUnasked => "The Action says that it allowed a login unasked.".to_owned(),
        }
    }

    /// The lists of a replica that ends are never committed.
    fn forget_lists(&mut self, before: &ModelState, after: &ModelState) {
        let count = |state: &ModelState| state.lists.iter().filter(|list| list.phase != Phase::None).count();
        if count(after) < count(before) {
            let mut by_second = before.lists.iter().map(|list| list.by_second);
            self.numbers.retain(|_| by_second.next() != Some(true));
        }
    }
}

fn violation(violation: &Violation) -> String {
    let Violation { current, is_holder, is_local, is_of_user, remembered, listed } = *violation;
    let role = if is_holder { "holder" } else { "newcomer" };
    let limit = if is_of_user { "perUser" } else { "perClient" };
    let replica = if is_local { " by replica 2" } else { "" };
    let login = login(current);
    format!(
        "Under {limit} {listed}, {login} is now allowed from memory{replica} as a {role} beside {remembered}; a fresh list shows {listed}."
    )
}

fn shown(sessions: Sessions, clients: Pairs, unknown: Sessions) -> String {
    let session = |session: u8| {
        let applications = match (unknown & (1 << session) != 0, (clients & pairs_of(session)) >> (2 * session)) {
            (true, _) => "unknown applications",
            (false, 0) => "none",
            (false, 1) => "x",
            (false, 2) => "y",
            (false, _) => "x and y",
        };
        format!("{} with {applications}", name(session))
    };
    let shown: Vec<String> = (0..3).filter(|it| sessions & (1 << it) != 0).map(session).collect();
    if shown.is_empty() { "no session".to_owned() } else { shown.join(", ") }
}

fn login(pair: Pair) -> String {
    format!("{} to {}", name(pair.session), if pair.client == 0 { "x" } else { "y" })
}

const fn name(session: u8) -> &'static str {
    match session {
        0 => "A",
        1 => "B",
        _ => "C",
    }
}

const fn replica(is_second: bool) -> &'static str {
    if is_second { "Replica 2" } else { "Replica 1" }
}
