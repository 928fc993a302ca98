//! The search: breadth first, through every state that can be reached, so that a counterexample is a shortest one.
//!
//! Visited states are kept as fingerprints of 64 bits. Two of ten million states share one with a probability of three in a
//! million; then a part of the states would not be visited.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

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

type Fingerprints = HashSet<u64, BuildHasherDefault<Fingerprint>>;
type Parents = HashMap<u64, u64, BuildHasherDefault<Fingerprint>>;

/// Visits every state of a setup under a rule, until one violates the property.
pub fn search(setup: &Setup, rule: &Rule) -> Search {
    let mut visited = Fingerprints::default();
    let found = visit(setup, rule, |_, state| visited.insert(state));
    // A second visit keeps the way to each state, which takes twice the memory.
    let counterexample = found.violation.and_then(|_| counterexample(setup, rule));
    Search { states: visited.len(), depth: found.depth, counterexample }
}

/// A shortest history of a setup under a rule that ends in a violation, where there is one.
pub fn counterexample(setup: &Setup, rule: &Rule) -> Option<Counterexample> {
    let mut parents = Parents::default();
    let found = visit(setup, rule, |parent, state| match parents.entry(state) {
        Entry::Occupied(_) => false,
        Entry::Vacant(entry) => {
            entry.insert(parent);
            true
        }
    });
    let (last, violation) = found.violation?;
    Some(Counterexample { steps: history(setup, rule, &parents, &last), violation })
}

struct Visit {
    depth: usize,
    violation: Option<(ModelState, Violation)>,
}

/// Visits every state once, as far as `is_new(PARENT, STATE)` says.
fn visit(setup: &Setup, rule: &Rule, mut is_new: impl FnMut(u64, u64) -> bool) -> Visit {
    let first = ModelState::first();
    is_new(first.fingerprint(setup), first.fingerprint(setup));
    let (mut level, mut depth, mut next) = (vec![first], 0, Vec::new());
    let mut steps = Vec::new();
    while !level.is_empty() {
        for state in level.drain(..) {
            let parent = state.fingerprint(setup);
            state.steps(setup, rule, &mut steps);
            for (_, after) in steps.drain(..) {
                if !is_new(parent, after.fingerprint(setup)) {
                    continue;
                }
                if let Some(violation) = after.violation(setup, rule) {
                    return Visit { depth: depth + 1, violation: Some((after, violation)) };
                }
                next.push(after);
            }
        }
        std::mem::swap(&mut level, &mut next);
        depth += 1;
    }
    Visit { depth: depth - 1, violation: None }
}

/// The steps from the first state to `last`: the fingerprints backwards, then the states forwards.
fn history(setup: &Setup, rule: &Rule, parents: &Parents, last: &ModelState) -> Vec<(ModelStep, ModelState)> {
    let first = ModelState::first();
    let mut path = vec![last.fingerprint(setup)];
    while let Some(at) = path.last().copied().filter(|at| *at != first.fingerprint(setup)) {
        path.push(parents[&at]);
    }
    let (mut state, mut steps, mut history) = (first, Vec::new(), Vec::new());
    for fingerprint in path.into_iter().rev().skip(1) {
        state.steps(setup, rule, &mut steps);
        let step = steps.drain(..).find(|(_, after)| after.fingerprint(setup) == fingerprint);
        let (step, after) = step.expect("the state was reached by a step");
        history.push((step, after));
        state = after;
    }
    history
}

/// Hashes a state to 64 bits. A fingerprint itself is its own hash.
#[derive(Default)]
pub struct Fingerprint(u64);

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

impl Fingerprint {
    /// Adds a word: the two halves of a product of 128 bits, as wyhash does.
    pub fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ 0x9e37_79b9_7f4a_7c15) * u128::from(word ^ 0xe703_7ed1_a0b4_28db);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}
