//! Properties that hold for every check, which no table of examples can show.

use std::collections::HashMap;

use proptest::collection::{hash_map, hash_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::Strategy;

use super::explain::counting;
use super::oracle::oracle;
use super::*;
use crate::policy::Strategy as Revocation;

const SIDS: [&str; 8] = ["s1", "s2", "s3", "s4", "s5", "S6", "s10", "s9"];
const CLIENTS: [&str; 4] = ["c1", "c2", "c3", "c4"];

fn sid() -> impl Strategy<Value = String> {
    select(&SIDS[..]).prop_map(str::to_owned)
}

/// A date out of few, so that ties and both sides of every bound are frequent.
fn date(seconds: std::ops::Range<i64>) -> impl Strategy<Value = Option<Timestamp>> {
    option::weighted(0.8, seconds.prop_map(|n| at(n * 5)))
}

fn clients() -> impl Strategy<Value = Option<Vec<String>>> {
    let names = subsequence(&CLIENTS[..], 0..=3).prop_map(|names| names.into_iter().map(str::to_owned).collect());
    option::weighted(0.9, names)
}

fn listed_session() -> impl Strategy<Value = ListedSession> {
    let owner = select(vec![None, None, None, Some("u".to_owned()), Some("v".to_owned())]);
    let past = || date(-6..1);
    // Mostly in the future: no other field of an expired session matters.
    let end = || option::weighted(0.5, select(vec![-1, 0, 1, 5, 5, 9, 9]).prop_map(|n| at(n * 5)));
    (sid(), owner, (past(), past(), past()), (end(), end()), clients()).prop_map(
        |(id, user_id, (created_at, authenticated_at, last_interacted_at), (idle_expires_at, expires_at), clients)| {
            ListedSession {
                id,
                user_id,
                created_at,
                authenticated_at,
                last_interacted_at,
                idle_expires_at,
                expires_at,
                clients,
                has_unreadable_clients: false,
                has_actor: false,
            }
        },
    )
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let limit = || option::of(1..4u32);
    (limit(), limit(), limit())
        .prop_filter_map("a limit is needed", |(client, group, user)| Limits::new(client, group, user))
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let strategies = vec![
        Revocation::Deny,
        Revocation::RevokeOldest,
        Revocation::RevokeLeastRecentlyUsed,
        Revocation::RevokeNextToExpire,
    ];
    (
        any_limits(),
        select(vec![Reentry::KeepPlace, Reentry::CountOthers]),
        select(strategies),
        any::<bool>(),
        option::weighted(0.3, (0..5i64).prop_map(|n| SignedDuration::from_secs(n * 5 + 1))),
    )
        .prop_map(|(limits, reentry, strategy, revoke_requires_mfa, active_within)| Policy {
            limits,
            reentry,
            strategy,
            revoke_requires_mfa,
            active_within,
            ..policy(json!({ "selector": { "clientIds": ["c1", "c2"] }, "limits": { "perClient": 1 } }))
        })
}

/// How sessions began, what the list says of it, and whether the login is a web view.
fn any_origins() -> impl Strategy<Value = (Origins, HashSet<String>, Option<String>)> {
    let client = || select(&CLIENTS[..]).prop_map(str::to_owned);
    let delegated = || prop_oneof![2 => Just(HashSet::new()), 1 => hash_set(sid(), 1..3)];
    let web_views = prop_oneof![1 => Just(HashMap::new()), 1 => hash_map(sid(), client(), 1..4)];
    let origins = (delegated(), web_views).prop_map(|(delegated, web_views)| Origins { delegated, web_views });
    (origins, delegated(), option::weighted(0.2, client()))
}

fn any_check() -> impl Strategy<Value = Check> {
    (checks_of_own_sessions(), any_origins(), any::<bool>()).prop_map(
        |(check, (origins, with_actor, opened_by), exempt)| {
            let mut check = Check { origins, opened_by, ..check };
            check.policy.actors = if exempt { Actors::Exempt } else { Actors::Count };
            for session in &mut check.listed {
                session.has_actor = with_actor.contains(&session.id);
            }
            check
        },
    )
}

/// Checks without web views and without sessions of somebody who acts as the user.
fn checks_of_own_sessions() -> impl Strategy<Value = Check> {
    // The last ones are longer ago than a login can be in progress.
    let times = (0..9i64).prop_map(|n| [0, -1, -2, -3, -5, -6, -12, -13, -30][n as usize]);
    let admission = (sid(), select(&CLIENTS[..]), times).prop_map(|(sid, client, n)| admitted(&sid, client, n * 5));
    (
        any_policy(),
        sid(),
        select(&["c1", "c2"][..]),
        any::<bool>(),
        vec(listed_session(), 0..9),
        vec(admission, 0..4),
        prop_oneof![2 => Just(HashSet::new()), 1 => hash_set(sid(), 1..3)],
    )
        .prop_map(|(policy, sid, client, mfa, listed, admissions, revoked)| Check {
            policy,
            client: client.to_owned(),
            sid,
            mfa,
            listed,
            admissions,
            revoked,
            origins: Origins::default(),
            opened_by: None,
        })
}

/// A check whose only input is a list without duplicate ids.
pub(super) fn plain_check() -> impl Strategy<Value = Check> {
    checks_of_own_sessions().prop_map(|mut check| {
        let mut seen = HashSet::new();
        check.listed.retain(|session| seen.insert(session.id.clone()));
        check.admissions.clear();
        check.revoked.clear();
        check
    })
}

fn raised(limits: &Limits, by: [u32; 3]) -> Limits {
    let of = |limit_scope: LimitScope| {
        limits.iter().find(|(other, _)| *other == limit_scope).map(|(_, limit)| limit + by[limit_scope as usize])
    };
    Limits::new(of(LimitScope::Client), of(LimitScope::Group), of(LimitScope::User)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn decision_equals_the_oracle(check in any_check()) {
        prop_assert_eq!(check.decide(), oracle(&check));
    }

    #[test]
    fn session_that_does_not_count_never_changes_the_decision(
        check in any_check(),
        session in listed_session(),
        place in any::<prop::sample::Index>(),
        why in 0..3,
    ) {
        let span = SignedDuration::from_secs(20);
        let check = Check { policy: Policy { active_within: Some(span), ..check.policy }, ..check };
        let id = "another".to_owned();
        let added = match why {
            0 => ListedSession { id, expires_at: Some(now()), ..session },
            1 => ListedSession { id, user_id: Some("v".to_owned()), ..session },
            _ => ListedSession { id, last_interacted_at: Some(at(-21)), ..session },
        };
        let mut more = check.clone();
        more.listed.insert(place.index(check.listed.len() + 1), added);
        prop_assert_eq!(more.decide(), check.decide());
    }

    #[test]
    fn web_view_of_a_counted_device_is_never_over_its_limits_and_evicts_no_device(check in any_check()) {
        let Some(client) = check.opened_by.clone() else { return Ok(()) };
        let Decision::Evict { victims, .. } = check.decide() else { return Ok(()) };
        // A device is a session that is known to have the client that opened the web view. Entries of another user do not count.
        let device = |sid: &String| {
            let entries = || check.listed.iter().filter(|it| it.id == *sid && it.user_id.as_deref() != Some("v"));
            let listed = entries().any(|it| it.clients.iter().flatten().any(|it| *it == client));
            let remembered = check.admissions.iter().any(|it| it.sid == *sid && it.client_id == client);
            let all = entries().all(|it| it.clients.is_some());
            (listed && all || remembered) && !check.origins.web_views.contains_key(sid)
        };
        prop_assert!(!victims.iter().any(device), "{victims:?}");
    }

    #[test]
    fn session_with_an_actor_is_as_if_it_were_not_there(check in any_check(), sid in sid(), listed_so in any::<bool>()) {
        prop_assume!(sid != check.sid);
        let mut with = check.clone();
        with.policy.actors = Actors::Exempt;
        for session in with.listed.iter_mut().filter(|session| session.id == sid) {
            session.has_actor = listed_so;
        }
        let is_listed = with.listed.iter().any(|session| session.id == sid && session.user_id.as_deref() != Some("v"));
        if !(listed_so && is_listed) {
            with.origins.delegated.insert(sid.clone());
        }
        let mut without = with.clone();
        without.listed.retain(|session| session.id != sid);
        without.admissions.retain(|admission| admission.sid != sid);
        prop_assert_eq!(with.decide(), without.decide());
    }

    #[test]
    fn order_of_the_list_never_matters(
        (check, shuffled) in plain_check().prop_flat_map(|check| {
            let listed = Just(check.listed.clone()).prop_shuffle();
            (Just(check), listed)
        })
    ) {
        prop_assert_eq!(check.clone().listed(shuffled).decide(), check.decide());
    }

    #[test]
    fn order_of_the_admissions_never_matters(
        (check, shuffled) in any_check().prop_flat_map(|check| {
            let admissions = Just(check.admissions.clone()).prop_shuffle();
            (Just(check), admissions)
        })
    ) {
        prop_assert_eq!(check.clone().remembering(shuffled).decide(), check.decide());
    }

    #[test]
    fn higher_limit_never_blocks_an_allowed_login(check in any_check(), by in prop::array::uniform3(0..3u32)) {
        let limits = raised(&check.policy.limits, by);
        let generous = Check { policy: Policy { limits, ..check.policy.clone() }, ..check.clone() };
        let blocked = |check: &Check| matches!(check.decide(), Decision::Exceeded { .. });
        prop_assert!(blocked(&check) || !blocked(&generous));
    }

    #[test]
    fn holders_are_allowed_up_to_the_limit(
        check in plain_check(),
        limit_scope in select(&LimitScope::ALL[..]),
        limit in 1..4u32,
    ) {
        let listed = check.listed.iter().cloned().map(|session| ListedSession {
            user_id: None, idle_expires_at: None, expires_at: None, ..session
        });
        let check = check.clone().listed(listed);
        let logs_in = |sid: &str, limit: u32| {
            let only = |this| (limit_scope == this).then_some(limit);
            let limits = Limits::new(only(LimitScope::Client), only(LimitScope::Group), only(LimitScope::User)).unwrap();
            let policy = Policy { limits, reentry: Reentry::KeepPlace, active_within: None, ..check.policy.clone() };
            matches!(Check { policy, ..check.clone() }.by(sid, "c1").decide(), Decision::Within { holder: true, .. })
        };
        let holders = SIDS.iter().filter(|sid| logs_in(sid, 1000)).count();
        let allowed = SIDS.iter().filter(|sid| logs_in(sid, limit)).count();
        let places = if check.policy.strategy == Revocation::Deny { holders.min(limit as usize) } else { holders };
        prop_assert_eq!(allowed, places);
    }

    #[test]
    fn first_holder_is_allowed_again_under_any_limits(check in plain_check()) {
        let named = |session: &&ListedSession| {
            let clients = session.clients.as_deref().unwrap_or_default();
            clients.iter().any(|client| client == "c1" || client == "c2")
        };
        let listed: Vec<_> = check.listed.iter().filter(named).cloned().collect();
        let first = listed.iter().min_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        let Some(first) = first.cloned() else { return Ok(()) };
        let client = first.clients.iter().flatten().find(|client| ["c1", "c2"].contains(&client.as_str())).unwrap();
        let policy = Policy { reentry: Reentry::KeepPlace, ..check.policy.clone() };
        let own = ListedSession { user_id: None, ..first.clone() };
        let rest = listed.into_iter().filter(|session| session.id != first.id);
        let check = Check { policy, ..check.clone() }.listed(rest.chain([own])).by(&first.id, client);
        let held = matches!(check.decide(), Decision::Within { holder: true, .. });
        prop_assert!(held);
    }

    #[test]
    fn victims_are_the_surplus_and_their_end_restores_the_limits(
        check in any_check()
    ) {
        let Decision::Evict { count, victims } = check.decide() else { return Ok(()) };
        prop_assert!(!victims.contains(&check.sid));
        let surplus = count.active - (count.limit as usize - 1);
        prop_assert!(victims.len() >= surplus);
        let mut remaining = check.clone();
        remaining.listed.retain(|session| !victims.contains(&session.id));
        remaining.admissions.retain(|admission| !victims.contains(&admission.sid));
        prop_assert!(is_within(&remaining.decide()));
        let by_revoked_set = Check { revoked: check.revoked.iter().chain(&victims).cloned().collect(), ..check.clone() };
        prop_assert!(is_within(&by_revoked_set.decide()));
        if check.policy.limits.iter().count() == 1 && check.origins.web_views.is_empty() {
            prop_assert_eq!(victims.len(), surplus);
        }
    }

    #[test]
    fn explained_sessions_add_up_to_the_count(check in plain_check()) {
        let count = count(&check.decide());
        prop_assert_eq!(counting(&check, count.limit_scope), count.active);
    }

    #[test]
    fn audit_differs_from_enforce_only_in_effect(check in any_check(), deny in any::<bool>()) {
        let failure_policy = if deny { AllowDeny::Deny } else { AllowDeny::Allow };
        let with = |mode| {
            let mut check = check.clone();
            check.policy.enforcement = Enforcement { mode, failure_policy, ..check.policy.enforcement };
            let decision = check.decide();
            let answer = check.policy.enforcement.answer(Verdict::from(&decision), None, false);
            (decision, answer)
        };
        let (enforced, answer) = with(Mode::Enforce);
        let (audited, audit_answer) = with(Mode::Audit);
        prop_assert_eq!(enforced, audited);
        prop_assert_eq!(audit_answer.audited_reason.unwrap_or(audit_answer.reason), answer.reason);
        prop_assert_eq!((&audit_answer.policy, audit_answer.count), (&answer.policy, answer.count));
        prop_assert_eq!((audit_answer.block, audit_answer.message, audit_answer.revoke_session, audit_answer.revoked_sessions), (false, None, false, None));
    }
}
