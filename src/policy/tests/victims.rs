//! Which logins are blocked, which session the Action ends, and which sessions are revoked.

use super::*;

use LimitScope::{Client, Group, User};

fn revoking(strategy: &str, limit: u32) -> Check {
    Check::new(json!({ "limits": { "perClient": limit }, "strategy": strategy }))
}

#[test]
fn blocked_session_is_ended_only_if_it_serves_nothing_else() {
    let check = || Check::new(json!({ "limits": { "perClient": 1 } }));
    let other = || session("s1", &["c1"]).created(-9);
    for (own, admissions, revoke_session) in [
        (Some(session("s9", &[])), vec![], true),
        (None, vec![], true),
        (Some(session("s9", &["c2"])), vec![], false),
        (Some(session("s9", &["c1", "c2"])), vec![], false),
        (Some(session("s9", &[]).without_clients()), vec![], false),
        (Some(session("s9", &[])), vec![admitted("s9", "c2", -1)], false),
        (None, vec![admitted("s9", "c2", -1)], false),
        (None, vec![admitted("s9", "c1", -1)], true),
        (Some(session("s9", &["c1"])), vec![], false),
    ] {
        let own = own.map(|own| own.created(-1));
        let check = check().listed([other()].into_iter().chain(own.clone())).remembering(admissions.clone());
        assert_eq!(check.decide(), exceeded(Client, 1, 1, revoke_session), "{own:?} {admissions:?}");
    }
}

#[test]
fn session_is_ended_by_its_place_under_the_first_limit() {
    let spec = json!({ "limits": { "perClient": 1, "perUser": 1 }, "reentry": "CountOthers" });
    let check = Check::new(spec).listed([session("s1", &["c2"]), session("s9", &["c1"])]);
    assert_eq!(
        check.decide(),
        exceeded(User, 1, 1, false),
        "the session holds a place under the limit that is answered"
    );
}

#[test]
fn oldest_sessions_go_first_and_unreadable_dates_are_oldest() {
    let listed = [
        session("d", &["c1"]).created(-10),
        session("b", &["c1"]).created(-30),
        session("a", &["c1"]).created(-20),
        session("c", &["c1"]).used(-1),
    ];
    let victims = |limit| revoking("RevokeOldest", limit).listed(listed.clone()).decide();
    assert_eq!(victims(4), evict(Client, 4, 4, &["c"]));
    assert_eq!(victims(3), evict(Client, 3, 4, &["c", "b"]));
    assert_eq!(victims(1), evict(Client, 1, 4, &["c", "b", "a", "d"]));
}

#[test]
fn least_recently_used_is_read_from_the_first_readable_date() {
    let listed = [
        session("a", &["c1"]).created(-99).authenticated(-98).used(-10),
        session("b", &["c1"]).created(-99).authenticated(-20),
        session("c", &["c1"]).created(-30),
        session("d", &["c1"]).ends(60),
    ];
    let check = revoking("RevokeLeastRecentlyUsed", 1).listed(listed);
    assert_eq!(check.decide(), evict(Client, 1, 4, &["d", "c", "b", "a"]));
}

#[test]
fn admission_counts_as_a_use() {
    let listed = || [session("a", &["c1"]).used(-90), session("b", &["c1"]).used(-60), session("c", &["c1"])];
    let check = revoking("RevokeLeastRecentlyUsed", 3).listed(listed());
    assert_eq!(check.decide(), evict(Client, 3, 3, &["c"]));
    let check = check.remembering([admitted("a", "c2", -1), admitted("c", "c1", -2)]);
    assert_eq!(check.decide(), evict(Client, 3, 3, &["b"]));
}

#[test]
fn next_to_expire_go_first_and_sessions_without_end_go_last() {
    let listed = [
        session("a", &["c1"]).created(-999),
        session("b", &["c1"]).idle_ends(40),
        session("c", &["c1"]).ends(30),
        session("d", &["c1"]).idle_ends(90).ends(20),
        session("e", &["c1"]).idle_ends(10).ends(90),
    ];
    let check = revoking("RevokeNextToExpire", 1).listed(listed);
    assert_eq!(check.decide(), evict(Client, 1, 5, &["e", "d", "c", "b", "a"]));
}

#[test]
fn ties_are_broken_by_creation_then_by_id() {
    let same = |id: &str| session(id, &["c1"]).used(-5).idle_ends(50);
    let listed = [same("c").created(-10), same("b").created(-10), same("d").created(-20), same("a")];
    for strategy in ["RevokeOldest", "RevokeLeastRecentlyUsed", "RevokeNextToExpire"] {
        let check = revoking(strategy, 1).listed(listed.clone());
        assert_eq!(check.decide(), evict(Client, 1, 4, &["a", "d", "b", "c"]), "{strategy}");
    }
}

#[test]
fn victims_belong_to_the_exceeded_limit() {
    let check = revoking("RevokeOldest", 1).oldest_first([
        session("a", &["c2"]),
        session("b", &[]).without_clients(),
        session("c", &["c1"]),
        session("d", &["c1"]).ends(-1),
    ]);
    assert_eq!(check.decide(), evict(Client, 1, 1, &["c"]));
}

#[test]
fn victim_of_one_limit_counts_for_the_next_one() {
    let spec = |limits: Value| json!({ "selector": { "clientIds": ["c1", "c2"] }, "limits": limits, "strategy": "RevokeOldest" });
    let listed = || {
        [
            session("a", &["c3"]),
            session("b", &["c2"]),
            session("c", &["c1"]),
            session("d", &["c1"]),
            session("e", &["c2"]),
        ]
    };
    for (limits, expected) in [
        (json!({ "perClient": 2, "perUser": 5 }), evict(Client, 2, 2, &["c"])),
        (json!({ "perClient": 2, "perUser": 4 }), evict(Client, 2, 2, &["a", "c"])),
        (json!({ "perClient": 1, "perGroup": 2, "perUser": 3 }), evict(Client, 1, 2, &["b", "c", "d"])),
        (json!({ "perGroup": 4, "perUser": 5 }), evict(Group, 4, 4, &["b"])),
        (json!({ "perGroup": 4, "perUser": 3 }), evict(Group, 4, 4, &["a", "b", "c"])),
    ] {
        let check = Check::new(spec(limits.clone())).oldest_first(listed());
        assert_eq!(check.decide(), expected, "{limits}");
    }
}

#[test]
fn login_in_progress_counts_and_cannot_be_revoked() {
    let check = revoking("RevokeOldest", 2).oldest_first([session("a", &["c1"]), session("s9", &[])]);
    let check = check.remembering([admitted("b", "c1", -1)]);
    assert_eq!(check.decide(), evict(Client, 2, 2, &["a"]));
}

#[test]
fn login_is_blocked_when_too_few_sessions_can_be_revoked() {
    let check = revoking("RevokeOldest", 1).oldest_first([session("a", &["c1"]), session("s9", &["c2"])]);
    let check = check.remembering([admitted("b", "c1", -1)]);
    assert_eq!(check.decide(), exceeded(Client, 1, 2, false));

    let spec = json!({ "limits": { "perClient": 1, "perUser": 1 }, "strategy": "RevokeOldest" });
    let check = Check::new(spec).oldest_first([session("a", &["c1"])]).remembering([admitted("b", "c2", -1)]);
    assert_eq!(check.decide(), exceeded(Client, 1, 1, true), "also when only a later limit cannot be met");
}

#[test]
fn login_in_progress_on_a_listed_session_is_not_revoked() {
    let check = revoking("RevokeOldest", 1).oldest_first([session("a", &[]), session("s9", &[])]);
    let check = check.remembering([admitted("a", "c1", -1)]);
    assert_eq!(check.decide(), exceeded(Client, 1, 1, true));
}

#[test]
fn sessions_are_not_revoked_without_the_required_mfa() {
    let spec = |required: bool| json!({ "limits": { "perClient": 1 }, "strategy": "RevokeOldest", "revokeRequiresMfa": required });
    let check = |required| Check::new(spec(required)).oldest_first([session("a", &["c1"]), session("s9", &[])]);
    assert_eq!(check(true).decide(), exceeded(Client, 1, 1, true));
    assert_eq!(check(true).with_mfa().decide(), evict(Client, 1, 1, &["a"]));
    assert_eq!(check(false).decide(), evict(Client, 1, 1, &["a"]));
}
