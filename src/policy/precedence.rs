//! Which policies stand before others that select some of the same logins.

use std::collections::{HashMap, HashSet};

use super::compiled::{PolicyScope, Selector};
use super::condition::{Extent, Overshadowing};
use super::name::ObjectName;

/// For each policy that has one, the first policy of the same tenant and callers that stands before it and selects some of
/// the same logins. `scopes` are in the order in which they stand before each other.
pub(super) fn overshadowings<'a>(scopes: &[&'a PolicyScope]) -> HashMap<&'a ObjectName, Overshadowing> {
    let mut groups: HashMap<(&str, Option<&ObjectName>), Earlier<'a>> = HashMap::new();
    let mut overshadowings = HashMap::new();
    for &scope in scopes {
        let group = groups.entry((scope.tenant.domain(), scope.callers.as_ref())).or_default();
        let overshadowing = |first: &PolicyScope, share| Overshadowing { policy: first.name.clone(), share };
        let found = match group.same(scope) {
            Some(older) => Some(overshadowing(older, Extent::Conflict)),
            None => group.first_overlapping(scope).map(|first| {
                overshadowing(first, if covers(&first.selector, &scope.selector) { Extent::All } else { Extent::Part })
            }),
        };
        if let Some(found) = found {
            overshadowings.insert(&scope.name, found);
        }
        group.add(scope);
    }
    overshadowings
}

type ByValue<'a> = HashMap<&'a str, Vec<usize>>;

/// The claims of one tenant and callers so far, found by a list that they name: comparing each with all others would take
/// too long for thousands.
#[derive(Default)]
struct Earlier<'a> {
    scopes: Vec<&'a PolicyScope>,
    /// The first of those with the same selector and priority.
    first: HashMap<(SelectorKey<'a>, i32), &'a PolicyScope>,
    /// For clients, organizations, connections: the positions of those that name a value, and of those that name none.
    lists: [(ByValue<'a>, Vec<usize>); 3],
}

impl<'a> Earlier<'a> {
    fn add(&mut self, scope: &'a PolicyScope) {
        let position = self.scopes.len();
        self.scopes.push(scope);
        self.first.entry((selector_key(&scope.selector), scope.priority)).or_insert(scope);
        for ((by_value, unnamed), list) in self.lists.iter_mut().zip(lists(&scope.selector)) {
            match list {
                Some(values) => values.iter().for_each(|value| by_value.entry(value).or_default().push(position)),
                None => unnamed.push(position),
            }
        }
    }

    fn same(&self, scope: &PolicyScope) -> Option<&'a PolicyScope> {
        self.first.get(&(selector_key(&scope.selector), scope.priority)).copied()
    }

    fn first_overlapping(&self, scope: &PolicyScope) -> Option<&'a PolicyScope> {
        let named = lists(&scope.selector).into_iter().zip(&self.lists);
        // By the list that leaves the fewest: thousands may name the same client, each for an organization of its own.
        let candidates = |(values, (by_value, unnamed)): &(&HashSet<String>, &(ByValue<'_>, Vec<usize>))| {
            values.iter().filter_map(|value| by_value.get(value.as_str())).map(Vec::len).sum::<usize>() + unnamed.len()
        };
        let named = named.filter_map(|(values, earlier)| Some((values?, earlier))).min_by_key(candidates);
        let overlaps = |position: &&usize| overlap(&self.scopes[**position].selector, &scope.selector);
        let first = match named {
            // It names nothing: every other one selects some of the same.
            None => (!self.scopes.is_empty()).then_some(0),
            Some((values, (by_value, unnamed))) => {
                let sharing = values.iter().filter_map(|value| by_value.get(value.as_str()));
                sharing.chain([unnamed]).filter_map(|positions| positions.iter().find(overlaps)).min().copied()
            }
        };
        first.map(|position| self.scopes[position])
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
