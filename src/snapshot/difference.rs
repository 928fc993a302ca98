//! What differs between the reports of two snapshots. Of thousands of policies a change concerns one.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::policy::PolicyReport;

/// The report about a policy in two snapshots. `None` where the policy does not exist.
#[derive(Clone, Copy, Debug)]
pub struct ReportDifference<'a> {
    /// The report in the earlier one.
    pub old: Option<&'a PolicyReport>,
    /// The report in the later one.
    pub new: Option<&'a PolicyReport>,
}

/// The reports of two snapshots that are not the same ones, in the order of their names. Between two snapshots that follow each
/// other these are the reports that say something else.
pub fn differences<'a>(last: &'a [Arc<PolicyReport>], next: &'a [Arc<PolicyReport>]) -> Vec<ReportDifference<'a>> {
    let (mut before, mut after) = (last.iter().peekable(), next.iter().peekable());
    let mut differences = Vec::new();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return differences,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) if Arc::ptr_eq(old, new) => {
                before.next();
                after.next();
                continue;
            }
            (Some(old), Some(new)) => old.name.cmp(&new.name),
        };
        let old = if order.is_le() { before.next() } else { None };
        let new = if order.is_ge() { after.next() } else { None };
        differences.push(ReportDifference { old: old.map(AsRef::as_ref), new: new.map(AsRef::as_ref) });
    }
}

/// The new reports, each replaced by the last one where both say the same. Both are ordered by name.
pub(super) fn keep_unchanged(last: &[Arc<PolicyReport>], next: Vec<PolicyReport>) -> Arc<[Arc<PolicyReport>]> {
    let mut before = last.iter().peekable();
    let keep = |report: PolicyReport| {
        while before.next_if(|old| old.name < report.name).is_some() {}
        before.next_if(|old| ***old == report).map_or_else(|| Arc::new(report), Arc::clone)
    };
    next.into_iter().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::policy::{Manifest, ObjectName};
    use crate::snapshot::{Publisher, Snapshot};

    fn name(number: u8) -> ObjectName {
        ObjectName::new("team", format!("p{number}"))
    }

    /// Applies changes, each of a policy to a limit, or its end. Policies of one application conflict with each other.
    fn apply(publisher: &Publisher, changes: &[(u8, Option<i8>)]) -> Arc<Snapshot> {
        publisher.update(|observed| {
            for (number, limit) in changes {
                let Some(limit) = limit else {
                    observed.index.remove_policy(&name(*number));
                    continue;
                };
                let spec = json!({
                    "tenant": { "domain": "acme.eu.auth0.com", "credentialsSecretRef": { "name": "tenant" } },
                    "selector": { "clientIds": [format!("app-{}", number % 3)] },
                    "limits": { "perUser": limit },
                });
                let manifest = Manifest { name: name(*number), generation: 0, created_at: None, spec };
                observed.index.apply_policy(&manifest);
            }
        });
        publisher.current().load_full()
    }

    proptest! {
        /// 0 and less is no limit, so these policies do not compile.
        #[test]
        fn differences_are_the_reports_that_say_something_else(
            first in prop::collection::vec((0..8u8, prop::option::of(-1..3i8)), 0..12),
            second in prop::collection::vec((0..8u8, prop::option::of(-1..3i8)), 0..6),
        ) {
            let publisher = Publisher::offline();
            let (last, next) = (apply(&publisher, &first), apply(&publisher, &second));
            let names: BTreeSet<ObjectName> = (0..8).map(name).collect();
            let expected: Vec<ObjectName> =
                names.into_iter().filter(|name| last.report(name) != next.report(name)).collect();
            let mut found = Vec::new();
            for ReportDifference { old, new } in differences(&last.reports, &next.reports) {
                let name = &old.or(new).unwrap().name;
                prop_assert_eq!(old, last.report(name).map(AsRef::as_ref));
                prop_assert_eq!(new, next.report(name).map(AsRef::as_ref));
                found.push(name.clone());
            }
            prop_assert_eq!(found, expected);
        }
    }
}
