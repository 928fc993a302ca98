//! The whole rule: it has no counterexample in any of these setups.

use crate::rule::{Clause, Rule, Setup};
use crate::search::search;

/// Something that may happen beside lists, logins without a list, and completions that come late.
struct Feature {
    name: &'static str,
    with: fn(Setup) -> Setup,
}

macro_rules! features {
    ($($number:literal $alone:ident $in_pairs:ident: $name:literal, $with:expr;)+) => {
        const FEATURES: &[Feature] = &[$(Feature { name: $name, with: $with }),+];

        $(
            #[test]
            fn $alone() {
                explore($name, &(FEATURES[$number].with)(Setup::SMALL));
            }

            #[test]
            fn $in_pairs() {
                explore_pairs($number);
            }
        )+
    };
}

features! {
    0 sessions_listed_late pairs_with_sessions_listed_late:
        "sessions listed late", |setup| Setup { listed_late: true, ..setup };
    1 log_out pairs_with_log_out:
        "log-out", |setup| Setup { logouts: 1, ..setup };
    2 incomplete_list pairs_with_incomplete_list:
        "incomplete list", |setup| Setup { incomplete: 1, ..setup };
    3 unknown_applications pairs_with_unknown_applications:
        "unknown applications", |setup| Setup { unknown: 1, ..setup };
    4 eviction pairs_with_eviction:
        "eviction", |setup| Setup { evictions: 1, ..setup };
    5 forgotten_admission pairs_with_forgotten_admission:
        "forgotten admission", |setup| Setup { forgotten: 1, ..setup };
    6 many_blocked_logins pairs_with_many_blocked_logins:
        "many blocked logins", |setup| Setup { most_blocked: 1, ..setup };
    7 failover pairs_with_failover:
        "failover", |setup| Setup { failovers: 1, clock_behind: true, ..setup };
    8 lost_keys pairs_with_lost_keys:
        "lost keys", |setup| Setup { lost_keys: 1, ..setup };
    9 cut_off_replica pairs_with_cut_off_replica:
        "cut-off replica", |setup| Setup { cut_off: 1, sign_off: true, ..setup };
    10 two_halves_of_the_store pairs_with_two_halves_of_the_store:
        "two halves of the store", |setup| Setup { cut_off: 1, split: true, ..setup };
    11 unasked_login pairs_with_unasked_login:
        "unasked login", |setup| Setup { unasked: 1, ..setup };
}

const UNASKED_LOGIN: usize = 11;

/// A feature with half of the others, so that all of these tests have each pair once.
fn explore_pairs(first: usize) {
    let (half, mut states) = (FEATURES.len() / 2, 0);
    // The features that are opposite to each other have one test of two.
    let further = if first < half { half } else { half - 1 };
    for other in first + 1..=first + further {
        let pair = [first, other % FEATURES.len()];
        let has_second = pair.iter().any(|feature| needs_second_replica(*feature));
        // With a second replica, an unasked login is one of the three.
        let logins = if has_second && pair.contains(&UNASKED_LOGIN) { 2 } else { 3 };
        states += explore_together(&Setup { clients: 1, logins, ..Setup::SMALL }, &pair);
    }
    println!("pairs with {}: {states} states", FEATURES[first].name);
}

fn needs_second_replica(feature: usize) -> bool {
    (FEATURES[feature].with)(Setup::SMALL).cut_off > 0
}

fn explore_together(setup: &Setup, features: &[usize]) -> usize {
    let setup = features.iter().fold(*setup, |setup, feature| (FEATURES[*feature].with)(setup));
    // The two ways to lose the store exclude each other.
    if setup.split && setup.sign_off {
        return 0;
    }
    let names: Vec<_> = features.iter().map(|feature| FEATURES[*feature].name).collect();
    explore(&names.join(", "), &setup)
}

#[test]
#[ignore = "a minute: cargo test -p model -- --ignored"]
fn unasked_login_with_a_second_replica() {
    let second = (0..FEATURES.len()).filter(|feature| needs_second_replica(*feature));
    let tiny = Setup { clients: 1, ..Setup::SMALL };
    let states: usize = second.map(|feature| explore_together(&tiny, &[feature, UNASKED_LOGIN])).sum();
    println!("unasked login with a second replica: {states} states");
}

#[test]
#[ignore = "a minute: cargo test -p model -- --ignored"]
fn pairs_with_two_applications() {
    let features = (0..FEATURES.len()).filter(|feature| !needs_second_replica(*feature));
    let mut states = 0;
    for first in features.clone() {
        for second in features.clone().filter(|second| *second > first) {
            states += explore_together(&Setup::SMALL, &[first, second]);
        }
    }
    println!("pairs with two applications: {states} states");
}

#[test]
#[ignore = "a minute: cargo test -p model -- --ignored"]
fn three_features() {
    let features = (0..FEATURES.len()).filter(|feature| !needs_second_replica(*feature));
    let mut states = 0;
    for first in features.clone() {
        for second in features.clone().filter(|second| *second > first) {
            for third in features.clone().filter(|third| *third > second) {
                states += explore_together(&Setup { clients: 1, ..Setup::SMALL }, &[first, second, third]);
            }
        }
    }
    println!("three features: {states} states");
}

#[track_caller]
fn explore(name: &str, setup: &Setup) -> usize {
    explore_rule(name, setup, &Rule::default())
}

#[track_caller]
fn explore_rule(name: &str, setup: &Setup, rule: &Rule) -> usize {
    let found = search(setup, rule);
    if let Some(counterexample) = &found.counterexample {
        panic!("{name}:\n{}", counterexample.words().join("\n"));
    }
    println!("{name}: {} states, at most {} steps", found.states, found.depth);
    found.states
}

#[test]
fn three_sessions() {
    explore("three sessions", &Setup { sessions: 3, logouts: 1, ..Setup::SMALL });
}

#[test]
fn three_sessions_and_unknown_applications() {
    let setup = Setup { sessions: 3, listed_late: true, unknown: 1, ..Setup::SMALL };
    explore("three sessions, unknown applications, listed late", &setup);
}

#[test]
fn four_logins_with_three_lists() {
    explore("four logins, three lists", &Setup { logins: 4, lists: 3, logouts: 1, ..Setup::SMALL });
}

/// The other way to close the history of a replica that is cut off for longer than ten minutes.
#[test]
fn lease_that_is_missed_without_end() {
    let rule = Rule::without(&[Clause::CutOffStopsInTime, Clause::LeaseIsMissedTenMinutes]);
    explore_rule("lease missed without end", &Setup { clients: 1, cut_off: 1, sign_off: true, ..Setup::SMALL }, &rule);
}
