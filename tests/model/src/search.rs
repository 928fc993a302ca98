//! The search: breadth first, through every state that can be reached, so that a counterexample is a shortest one.
//!
//! Visited states are kept as fingerprints of 64 bits. Two of ten million states share one with a probability of three in a
//! million; then a part of the states would not be visited.

use crate::property::Violation;
use crate::rule::{Rule, Setup};
use crate::state::ModelState;
use crate::steps::ModelStep;

/// What a search found.
pub struct Search {
    /// How many states it visited.
    pub states: usize,
    /// How many steps the longest of the shortest histories has.
    pub depth: usize,
    /// A shortest history that ends in a violation, where there is one.
    pub counterexample: Option<Counterexample>,
}

/// A history and what is wrong at its end.
pub struct Counterexample {
    /// Each step and the state after it.
    pub steps: Vec<(ModelStep, ModelState)>,
    /// What is wrong in the last state.
    pub violation: Violation,
}

/// Visits every state of a setup under a rule once, until one violates the property.
pub fn search(setup: &Setup, rule: &Rule) -> Search {
    let first = ModelState::first();
    let mut visited = Visited::default();
    visited.insert(first.fingerprint(setup));
    let (mut level, mut depth, mut next) = (vec![first], 0, Vec::new());
    let (mut steps, mut fingerprints, mut found, mut reached) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    while !level.is_empty() {
        for state in level.drain(..) {
            let parent = state.fingerprint(setup);
            state.steps(setup, rule, &mut steps);
            fingerprints.extend(steps.iter().map(|(_, after)| after.fingerprint(setup)));
            // Most states were visited. They are looked up one right after the other: the memory of millions of states is far
            // away, and so the processor waits for all of it at once.
            found.extend(fingerprints.iter().map(|fingerprint| visited.has_in_first_place(*fingerprint)));
            let known = fingerprints.drain(..).zip(found.drain(..));
            for ((_, after), (fingerprint, is_visited)) in steps.drain(..).zip(known) {
                if is_visited || !visited.insert(fingerprint) {
                    continue;
                }
                reached.push(Reached { state: fingerprint, parent });
                if let Some(violation) = after.violation(setup, rule) {
                    let counterexample = Counterexample { steps: history(setup, rule, &reached), violation };
                    return Search { states: visited.len, depth: depth + 1, counterexample: Some(counterexample) };
                }
                next.push(after);
            }
        }
        std::mem::swap(&mut level, &mut next);
        depth += 1;
    }
    Search { states: visited.len, depth: depth - 1, counterexample: None }
}

/// A state, and the one from which it was reached first, by their fingerprints.
struct Reached {
    state: u64,
    parent: u64,
}

/// The steps from the first state to the one that was reached last: the fingerprints backwards, then the states forwards.
fn history(setup: &Setup, rule: &Rule, reached: &[Reached]) -> Vec<(ModelStep, ModelState)> {
    let mut path = Vec::new();
    let mut wanted = reached.last().map(|it| it.state);
    // A state was reached after its parent.
    for it in reached.iter().rev() {
        if wanted == Some(it.state) {
            path.push(it.state);
            wanted = Some(it.parent);
        }
    }
    let (mut state, mut steps, mut history) = (ModelState::first(), Vec::new(), Vec::new());
    for fingerprint in path.into_iter().rev() {
        state.steps(setup, rule, &mut steps);
        let step = steps.drain(..).find(|(_, after)| after.fingerprint(setup) == fingerprint);
        let (step, after) = step.expect("the state was reached by a step");
        history.push((step, after));
        state = after;
    }
    history
}

/// A set of fingerprints. Each is in the first free place from the one that its low bits name, in one table: a look-up that
/// misses the caches waits for memory once, which takes most of the time of a search.
#[derive(Default)]
struct Visited {
    /// A power of two of places, at most half of them used. 0 = free.
    places: Vec<u64>,
    len: usize,
}

impl Visited {
    /// Whether a fingerprint is in its first place. If not, it may be in a later one.
    fn has_in_first_place(&self, fingerprint: u64) -> bool {
        self.places[fingerprint as usize & (self.places.len() - 1)] == fingerprint
    }

    /// Adds a fingerprint. Returns whether it was not there.
    fn insert(&mut self, fingerprint: u64) -> bool {
        if 2 * self.len >= self.places.len() {
            let size = (2 * self.places.len()).max(1 << 10);
            let before = std::mem::replace(&mut self.places, vec![0; size]);
            for fingerprint in before.into_iter().filter(|it| *it != 0) {
                let place = self.place(fingerprint);
                self.places[place] = fingerprint;
            }
        }
        let place = self.place(fingerprint);
        let is_new = self.places[place] == 0;
        self.places[place] = fingerprint;
        self.len += usize::from(is_new);
        is_new
    }

    /// Where a fingerprint is, or else is added.
    fn place(&self, fingerprint: u64) -> usize {
        let last = self.places.len() - 1;
        let mut place = fingerprint as usize & last;
        while self.places[place] != 0 && self.places[place] != fingerprint {
            place = (place + 1) & last;
        }
        place
    }
}

/// Hashes a state to 64 bits, never to 0.
#[derive(Default)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Adds a word: the two halves of a product of 128 bits, as wyhash does.
    pub fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ 0x9e37_79b9_7f4a_7c15) * u128::from(word ^ 0xe703_7ed1_a0b4_28db);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    pub fn finish(&self) -> u64 {
        self.0.max(1)
    }
}
