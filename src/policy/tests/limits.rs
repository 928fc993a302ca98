//! Which sessions a limit counts, which session holds a place under it, and when it is exceeded.

use super::*;

use LimitScope::{Client, Group, User};

#[expect(clippy::needless_pass_by_value, reason = "callers pass literals")]
fn group(limits: Value) -> Check {
    Check::new(json!({ "selector": { "clientIds": ["c1", "c2"] }, "limits": limits }))
}

#[test]
fn limits_count_the_sessions_that_belong_to_them() {
    let others = [
        session("a", &["c1"]),
        session("b", &["c2"]),
        session("c", &["c3"]),
        session("d", &["c1", "c2", "c3"]),
        session("e", &[]),
        session("f", &[]).without_clients(),
    ];
    for (limit, expected) in [
        (json!({ "perClient": 9 }), within(Client, 9, 2, false)),
        (json!({ "perGroup": 9 }), within(Group, 9, 3, false)),
        (json!({ "perUser": 9 }), within(User, 9, 5, false)),
    ] {
        assert_eq!(group(limit).listed(others.clone()).decide(), expected);
    }
}

#[test]
fn newcomer_is_over_the_limit_that_others_fill() {
    let check = |limit: u32| {
        Check::new(json!({ "limits": { "perClient": limit } })).listed([
            session("s1", &["c1"]),
            session("s2", &["c1"]),
            session("s9", &[]),
        ])
    };
    assert_eq!(check(1).decide(), exceeded(Client, 1, 2, true));
    assert_eq!(check(2).decide(), exceeded(Client, 2, 2, true));
    assert_eq!(check(3).decide(), within(Client, 3, 2, false));
}

#[test]
fn first_holders_keep_their_places_under_a_lower_limit() {
    let listed = || ["a", "b", "c", "d"].map(|id| session(id, &["c1"]));
    let answers = ["a", "b", "c", "d"].map(|sid| {
        let check = Check::new(json!({ "limits": { "perClient": 2 } })).by(sid, "c1").oldest_first(listed());
        is_within(&check.decide())
    });
    assert_eq!(answers, [true, true, false, false]);
}

#[test]
fn count_others_blocks_everybody_over_the_limit() {
    for sid in ["a", "b"] {
        let spec = json!({ "limits": { "perClient": 1 }, "reentry": "CountOthers" });
        let check = Check::new(spec).by(sid, "c1").oldest_first([session("a", &["c1"]), session("b", &["c1"])]);
        assert_eq!(check.decide(), exceeded(Client, 1, 1, false));
    }
}

#[test]
fn holders_are_ordered_by_creation_then_by_id() {
    let check = |own: ListedSession, other: ListedSession| {
        let check = Check::new(json!({ "limits": { "perClient": 1 } })).by(&own.id, "c1");
        is_within(&check.listed([other, own]).decide())
    };
    let s = |id: &str| session(id, &["c1"]);
    for (own, other, comes_first) in [
        (s("b").created(-2), s("a").created(-1), true),
        (s("a").created(-1), s("b").created(-2), false),
        (s("a").created(-1), s("b").created(-1), true),
        (s("b").created(-1), s("a").created(-1), false),
        (s("a").created(-1), s("B").created(-1), false),
        (s("b"), s("a").created(-9), true),
        (s("a").created(-9), s("b"), false),
        (s("a"), s("b"), true),
        (s("b"), s("a"), false),
    ] {
        assert_eq!(check(own.clone(), other.clone()), comes_first, "{own:?} before {other:?}");
    }
}

#[test]
fn other_holders_alone_count_against_a_holder() {
    let check = |limits: Value| group(limits).by("s9", "c1");
    let own = || session("s9", &["c1"]).created(-1);
    let earlier = || session("s1", &["c2"]).created(-9);
    assert_eq!(check(json!({ "perClient": 1 })).listed([earlier(), own()]).decide(), within(Client, 1, 0, true));
    assert_eq!(check(json!({ "perGroup": 1 })).listed([earlier(), own()]).decide(), exceeded(Group, 1, 1, false));
    assert_eq!(check(json!({ "perUser": 1 })).listed([earlier(), own()]).decide(), exceeded(User, 1, 1, false));
    let in_progress = check(json!({ "perClient": 1 })).listed([own()]).remembering([admitted("s1", "c1", -99)]);
    assert_eq!(in_progress.decide(), within(Client, 1, 0, true), "a login that is only remembered holds no place");
}

#[test]
fn session_that_is_only_in_the_ledger_is_a_newcomer() {
    let check = Check::new(json!({ "limits": { "perClient": 1 } })).remembering([admitted("s9", "c1", -1)]);
    assert_eq!(check.clone().decide(), within(Client, 1, 0, false));
    assert_eq!(check.listed([session("s1", &["c1"])]).decide(), exceeded(Client, 1, 1, true));
}

#[test]
fn listed_session_holds_a_place_for_a_remembered_client() {
    let check = Check::new(json!({ "limits": { "perClient": 1 } })).remembering([admitted("s9", "c1", -1)]);
    let check = check.listed([session("s9", &[]).created(-9), session("s1", &["c1"]).created(-1)]);
    assert_eq!(check.decide(), within(Client, 1, 0, true));
}

#[test]
fn holder_under_one_limit_can_be_new_to_another() {
    let check = group(json!({ "perClient": 1, "perUser": 9 })).listed([session("s9", &["c3"])]);
    assert_eq!(check.decide(), within(Client, 1, 0, false));
    let check = group(json!({ "perClient": 1, "perGroup": 1 }));
    let check = check.listed([session("s9", &["c2"]).created(-9), session("s1", &["c1"]).created(-1)]);
    assert_eq!(check.decide(), exceeded(Client, 1, 1, false));
}

#[test]
fn session_without_clients_holds_a_place_per_user_alone() {
    let own = || session("s9", &[]).without_clients().created(-9);
    let other = || session("s1", &["c1"]).created(-1);
    let per_user = Check::new(json!({ "limits": { "perUser": 1 } })).listed([own(), other()]);
    assert_eq!(per_user.decide(), within(User, 1, 0, true));
    let per_client = Check::new(json!({ "limits": { "perClient": 1 } })).listed([own(), other()]);
    assert_eq!(per_client.decide(), exceeded(Client, 1, 1, false), "its clients are unknown, so it is not ended");
}

#[test]
fn holder_stays_under_every_revoking_strategy() {
    for strategy in ["RevokeOldest", "RevokeLeastRecentlyUsed", "RevokeNextToExpire"] {
        for revoke_requires_mfa in [false, true] {
            let spec = json!({
                "limits": { "perClient": 1 }, "strategy": strategy, "revokeRequiresMfa": revoke_requires_mfa,
            });
            let check = Check::new(spec).oldest_first([session("s1", &["c1"]), session("s9", &["c1"])]);
            assert_eq!(check.decide(), within(Client, 1, 1, true), "{strategy}");
            assert_eq!(check.with_mfa().decide(), within(Client, 1, 1, true), "{strategy}");
        }
    }
}

#[test]
fn count_others_lets_a_holder_evict_others() {
    let spec = json!({ "limits": { "perClient": 1 }, "strategy": "RevokeOldest", "reentry": "CountOthers" });
    let check = Check::new(spec).oldest_first([session("s9", &["c1"]), session("s1", &["c1"])]);
    assert_eq!(check.decide(), evict(Client, 1, 1, &["s1"]));
}

#[test]
fn first_exceeded_limit_is_answered() {
    let listed = [session("s1", &["c1"]), session("s2", &["c2"]), session("s3", &["c3"])];
    for (limits, expected) in [
        (json!({ "perClient": 1, "perGroup": 1, "perUser": 1 }), exceeded(Client, 1, 1, true)),
        (json!({ "perClient": 2, "perGroup": 2, "perUser": 1 }), exceeded(Group, 2, 2, true)),
        (json!({ "perClient": 2, "perGroup": 3, "perUser": 3 }), exceeded(User, 3, 3, true)),
    ] {
        assert_eq!(group(limits).listed(listed.clone()).decide(), expected);
    }
}

#[test]
fn limit_with_the_least_room_is_answered() {
    let listed = [session("s1", &["c1"]), session("s2", &["c2"]), session("s3", &["c3"])];
    for (limits, expected) in [
        (json!({ "perClient": 2, "perGroup": 3, "perUser": 4 }), within(Client, 2, 1, false)),
        (json!({ "perClient": 3, "perGroup": 3, "perUser": 4 }), within(Group, 3, 2, false)),
        (json!({ "perClient": 9, "perGroup": 9, "perUser": 9 }), within(User, 9, 3, false)),
        (json!({ "perGroup": 5, "perUser": 6 }), within(Group, 5, 2, false)),
    ] {
        assert_eq!(group(limits).listed(listed.clone()).decide(), expected);
    }
}
