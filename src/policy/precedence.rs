//! Which of several policies that select the same login governs it.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use super::model::{PolicyScope, Selector};
use super::name::ObjectName;

/// Another policy of the same tenant and callers that takes precedence over a policy for logins that both select.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overshadowing {
    /// The first of the policies that take precedence.
    pub policy: ObjectName,
    /// How many of the logins it takes.
    pub extent: Extent,
}

/// For how many of a policy's logins another one takes precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Both select exactly the same logins with the same priority: a conflict.
    Conflict,
    /// All of them, by priority.
    All,
    /// A part of them.
    Part,
}

impl PolicyScope {
    /// Sorts a policy before those that it takes precedence over: by priority, then by what the selector names, then by age
    /// (a known one first), then by name.
    pub(super) fn rank(&self) -> impl Ord + use<'_> {
        let age = (self.created_at.is_none(), self.created_at);
        (Reverse(self.priority), Reverse(specificity(&self.selector)), age, &self.name)
    }
}

/// A selector that names clients is more specific than one that does not; after that the number of other lists counts.
fn specificity(selector: &Selector) -> (bool, usize) {
    let others = [&selector.organizations, &selector.connections].into_iter().filter(|list| list.is_some()).count();
    (selector.clients.is_some(), others)
}

/// Finds, for each policy that has one, the first policy of the same tenant and callers that takes precedence and selects a
/// part of the same logins. `scopes` are sorted by [`PolicyScope::rank`].
pub(super) fn overshadowings<'a>(scopes: &[&'a PolicyScope]) -> HashMap<&'a ObjectName, Overshadowing> {
    let mut groups: HashMap<(&str, Option<&ObjectName>), EarlierScopes<'a>> = HashMap::new();
    let mut overshadowings = HashMap::new();
    for &scope in scopes {
        let group = groups.entry((scope.tenant.domain(), scope.callers.as_ref())).or_default();
        let found = match group.same(scope) {
            Some(older) => Some((older, Extent::Conflict)),
            None => group.first_overlapping(scope).map(|first| {
                (first, if covers(&first.selector, &scope.selector) { Extent::All } else { Extent::Part })
            }),
        };
        if let Some((first, extent)) = found {
            overshadowings.insert(&scope.name, Overshadowing { policy: first.name.clone(), extent });
        }
        group.add(scope);
    }
    overshadowings
}

/// The scopes of one tenant and callers so far, indexed by the values of their lists: to compare each with all others would
/// take too long for thousands.
#[derive(Default)]
struct EarlierScopes<'a> {
    scopes: Vec<&'a PolicyScope>,
    /// The first scope of each selector and priority.
    first: HashMap<(SortedLists<'a>, i32), &'a PolicyScope>,
    /// For clients, organizations, connections.
    lists: [ListIndex<'a>; 3],
}

/// The positions of the scopes by the values of one of their lists.
#[derive(Default)]
struct ListIndex<'a> {
    by_value: HashMap<&'a str, Vec<usize>>,
    /// The scopes without the list.
    unnamed: Vec<usize>,
}

/// The lists of a selector in sorted order, so that equal selectors are equal keys.
type SortedLists<'a> = [Option<Vec<&'a str>>; 3];

impl<'a> EarlierScopes<'a> {
    fn add(&mut self, scope: &'a PolicyScope) {
        let position = self.scopes.len();
        self.scopes.push(scope);
        self.first.entry((sorted_lists(&scope.selector), scope.priority)).or_insert(scope);
        for (index, list) in self.lists.iter_mut().zip(lists(&scope.selector)) {
            match list {
                Some(values) => values.iter().for_each(|value| index.by_value.entry(value).or_default().push(position)),
                None => index.unnamed.push(position),
            }
        }
    }

    fn same(&self, scope: &PolicyScope) -> Option<&'a PolicyScope> {
        self.first.get(&(sorted_lists(&scope.selector), scope.priority)).copied()
    }

    fn first_overlapping(&self, scope: &PolicyScope) -> Option<&'a PolicyScope> {
        let named = lists(&scope.selector).into_iter().zip(&self.lists);
        let named = named.filter_map(|(values, index)| Some((values?, index)));
        // The list that leaves the fewest candidates: thousands may name the same client, each for another organization.
        let narrowest = named.min_by_key(|(values, index)| index.sharing(values).map(Vec::len).sum::<usize>());
        let overlaps = |position: &&usize| overlap(&self.scopes[**position].selector, &scope.selector);
        let first = match narrowest {
            // It names no value, so it overlaps with every other scope.
            None => (!self.scopes.is_empty()).then_some(0),
            Some((values, index)) => {
                index.sharing(values).filter_map(|positions| positions.iter().find(overlaps)).min().copied()
            }
        };
        first.map(|position| self.scopes[position])
    }
}

impl ListIndex<'_> {
    /// The scopes that name one of the values, and those without the list, which select every value.
    fn sharing<'i>(&'i self, values: &'i HashSet<String>) -> impl Iterator<Item = &'i Vec<usize>> {
        values.iter().filter_map(|value| self.by_value.get(value.as_str())).chain([&self.unnamed])
    }
}

fn sorted_lists(selector: &Selector) -> SortedLists<'_> {
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
