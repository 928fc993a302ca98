//! Which policies stand before others that select some of the same logins.

use std::collections::{HashMap, HashSet};

use super::compiled::{Claim, Selector};
use super::name::ObjectName;
use super::report::{Precedent, Share};

/// For each policy that has one, the first policy of the same tenant and callers that stands before it and selects some of
/// the same logins. `claims` are in the order in which they stand before each other.
pub(super) fn precedents<'a>(claims: &[&'a Claim]) -> HashMap<&'a ObjectName, Precedent> {
    let mut groups: HashMap<(&str, Option<&ObjectName>), Earlier<'a>> = HashMap::new();
    let mut precedents = HashMap::new();
    for &claim in claims {
        let group = groups.entry((claim.tenant.domain(), claim.callers.as_ref())).or_default();
        let precedent = |first: &Claim, share| Precedent { policy: first.name.clone(), share };
        let found = match group.same(claim) {
            Some(older) => Some(precedent(older, Share::Conflict)),
            None => group.first_overlapping(claim).map(|first| {
                precedent(first, if covers(&first.selector, &claim.selector) { Share::All } else { Share::Part })
            }),
        };
        if let Some(found) = found {
            precedents.insert(&claim.name, found);
        }
        group.add(claim);
    }
    precedents
}

type ByValue<'a> = HashMap<&'a str, Vec<usize>>;

/// The claims of one tenant and callers so far, found by a list that they name: comparing each with all others would take
/// too long for thousands.
#[derive(Default)]
struct Earlier<'a> {
    claims: Vec<&'a Claim>,
    /// The first of those with the same selector and priority.
    first: HashMap<(SelectorKey<'a>, i32), &'a Claim>,
    /// For clients, organizations, connections: the positions of those that name a value, and of those that name none.
    lists: [(ByValue<'a>, Vec<usize>); 3],
}

impl<'a> Earlier<'a> {
    fn add(&mut self, claim: &'a Claim) {
        let position = self.claims.len();
        self.claims.push(claim);
        self.first.entry((selector_key(&claim.selector), claim.priority)).or_insert(claim);
        for ((by_value, unnamed), list) in self.lists.iter_mut().zip(lists(&claim.selector)) {
            match list {
                Some(values) => values.iter().for_each(|value| by_value.entry(value).or_default().push(position)),
                None => unnamed.push(position),
            }
        }
    }

    fn same(&self, claim: &Claim) -> Option<&'a Claim> {
        self.first.get(&(selector_key(&claim.selector), claim.priority)).copied()
    }

    fn first_overlapping(&self, claim: &Claim) -> Option<&'a Claim> {
        let named = lists(&claim.selector).into_iter().zip(&self.lists);
        // By the list that leaves the fewest: thousands may name the same client, each for an organization of its own.
        let candidates = |(values, (by_value, unnamed)): &(&HashSet<String>, &(ByValue<'_>, Vec<usize>))| {
            values.iter().filter_map(|value| by_value.get(value.as_str())).map(Vec::len).sum::<usize>() + unnamed.len()
        };
        let named = named.filter_map(|(values, earlier)| Some((values?, earlier))).min_by_key(candidates);
        let overlaps = |position: &&usize| overlap(&self.claims[**position].selector, &claim.selector);
        let first = match named {
            // It names nothing: every other one selects some of the same.
            None => (!self.claims.is_empty()).then_some(0),
            Some((values, (by_value, unnamed))) => {
                let sharing = values.iter().filter_map(|value| by_value.get(value.as_str()));
                sharing.chain([unnamed]).filter_map(|positions| positions.iter().find(overlaps)).min().copied()
            }
        };
        first.map(|position| self.claims[position])
    }
}

/// A selector as sorted lists, so that equal ones are found.
type SelectorKey<'a> = [Option<Vec<&'a str>>; 3];

fn selector_key(selector: &Selector) -> SelectorKey<'_> {
    lists(selector).map(|list| {
        list.map(|list| {
            let mut list: Vec<&str> = list.iter().map(String::as_str).collect();
            list.sort_unstable();
            list
        })
    })
}

fn lists(selector: &Selector) -> [Option<&HashSet<String>>; 3] {
    [selector.clients.as_ref(), selector.organizations.as_ref(), selector.connections.as_ref()]
}

fn overlap(a: &Selector, b: &Selector) -> bool {
    lists(a).into_iter().zip(lists(b)).all(|lists| match lists {
        (Some(a), Some(b)) => !a.is_disjoint(b),
        _ => true,
    })
}

fn covers(all: &Selector, part: &Selector) -> bool {
    lists(all).into_iter().zip(lists(part)).all(|lists| match lists {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(all), Some(part)) => part.is_subset(all),
    })
}
