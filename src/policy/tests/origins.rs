//! Sessions in which somebody else acts as the user, and web views that an application of the user's device opened.

use super::*;

fn web_view(client: &str) -> Origin {
    Origin::WebView { opened_by: client.to_owned() }
}

fn actor(session: ListedSession) -> ListedSession {
    ListedSession { has_actor: true, ..session }
}

#[test]
fn login_of_an_actor_is_exempt_unless_the_policy_counts_it() {
    let login = |context| Login::new("u".to_owned(), "c1".to_owned(), Some("s9".to_owned()), context).unwrap();
    let as_user = login(LoginContext { actor: true, ..LoginContext::default() });
    let check = Check::new(json!({ "limits": { "perUser": 1 } }));
    assert_eq!(check.policy.pre_checks(&as_user, now()).unwrap_err(), Verdict::Exempt);
    let counting = Check::new(json!({ "limits": { "perUser": 1 }, "actors": "Count" }));
    assert!(counting.policy.pre_checks(&as_user, now()).is_ok());
    assert!(check.policy.pre_checks(&login(LoginContext::default()), now()).is_ok());
}

#[test]
fn session_of_an_actor_neither_counts_nor_is_revoked() {
    for (strategy, expected) in
        [("Deny", within(LimitScope::User, 1, 0, false)), ("RevokeOldest", within(LimitScope::User, 1, 0, false))]
    {
        let check = Check::new(json!({ "limits": { "perUser": 1 }, "strategy": strategy }));
        let listed = check.clone().oldest_first([actor(session("agent", &["c1"]))]);
        assert_eq!(listed.decide(), expected, "{strategy}: the list says it");
        let remembered = check.clone().oldest_first([session("agent", &["c1"])]).began("agent", &Origin::Delegated);
        assert_eq!(remembered.decide(), expected, "{strategy}: the ledger says it");
        let in_progress = check.clone().remembering([admitted("agent", "c1", -1)]).began("agent", &Origin::Delegated);
        assert_eq!(in_progress.decide(), expected, "{strategy}: it is in progress");
        let counted = Check::new(json!({ "limits": { "perUser": 1 }, "strategy": strategy, "actors": "Count" }))
            .oldest_first([actor(session("agent", &["c1"]))]);
        assert_eq!(counted.active(), 1, "{strategy}");
    }
    let check = Check::new(json!({ "limits": { "perUser": 1 }, "strategy": "RevokeOldest" }));
    let check = check.oldest_first([actor(session("agent", &["c1"])), session("s1", &["c1"])]);
    assert_eq!(check.decide(), evict(LimitScope::User, 1, 1, &["s1"]));
}

#[test]
fn web_view_takes_no_place_beside_its_device_and_evicts_nothing() {
    for strategy in ["Deny", "RevokeOldest"] {
        for reentry in ["KeepPlace", "CountOthers"] {
            let spec = json!({ "limits": { "perUser": 1 }, "strategy": strategy, "reentry": reentry });
            let check = Check::new(spec).oldest_first([session("phone", &["native"]), session("s9", &[])]);
            assert_eq!(check.clone().opened_by("native").decide(), within(LimitScope::User, 1, 0, false), "{strategy}");
            assert_eq!(check.active(), 1, "the same login in a browser counts the phone");
        }
    }
}

#[test]
fn renewed_web_view_keeps_the_place_of_its_device() {
    for strategy in ["Deny", "RevokeOldest"] {
        for reentry in ["KeepPlace", "CountOthers"] {
            let spec = json!({ "limits": { "perUser": 1 }, "strategy": strategy, "reentry": reentry });
            let check = Check::new(spec).oldest_first([session("phone", &["native"]), session("s9", &["c1"])]);
            let check = check.began("s9", &web_view("native"));
            assert!(is_within(&check.decide()), "{strategy} {reentry}: {:?}", check.decide());
        }
    }
}

#[test]
fn web_view_counts_alone_where_its_device_does_not() {
    let spec = json!({ "limits": { "perClient": 1 }, "strategy": "RevokeOldest" });
    let check = Check::new(spec).oldest_first([session("phone", &["native"]), session("s1", &["c1"])]);
    // The limit of c1 counts another browser, and the phone is no session of c1.
    assert_eq!(check.clone().opened_by("native").decide(), evict(LimitScope::Client, 1, 1, &["s1"]));
    let nobody = Check::new(json!({ "limits": { "perUser": 1 } })).oldest_first([session("s1", &["c1"])]);
    assert_eq!(nobody.opened_by("native").decide(), exceeded(LimitScope::User, 1, 1, true), "no device has a session");
}

#[test]
fn remembered_web_view_and_its_device_count_as_one() {
    let spec = json!({ "limits": { "perUser": 2 } });
    let listed = [session("phone", &["native"]), session("view", &["c1"])];
    let check = Check::new(spec).oldest_first(listed);
    assert_eq!(check.active(), 2);
    let check = check.began("view", &web_view("native"));
    assert_eq!(check.active(), 1);
    // The device itself logs in again: its web view does not count against it.
    assert_eq!(check.clone().by("phone", "native").active(), 0);
    assert_eq!(check.by("s9", "native").active(), 1, "another device");
    let alone = Check::new(json!({ "limits": { "perUser": 2 } })).oldest_first([session("view", &["c1"])]);
    assert_eq!(alone.began("view", &web_view("native")).active(), 1, "its device has logged out");
}

#[test]
fn device_is_evicted_with_its_web_views() {
    let spec = json!({ "limits": { "perUser": 1 }, "strategy": "RevokeOldest" });
    let listed = [session("phone", &["native"]), session("view", &["c1"])];
    let check = Check::new(spec).oldest_first(listed).began("view", &web_view("native"));
    assert_eq!(check.decide(), evict(LimitScope::User, 1, 1, &["phone", "view"]));
    // A web view in progress cannot be revoked, and without its device it would count.
    let spec = json!({ "limits": { "perUser": 1 }, "strategy": "RevokeOldest" });
    let check =
        Check::new(spec).oldest_first([session("phone", &["native"])]).remembering([admitted("view", "c1", -1)]);
    assert_eq!(check.began("view", &web_view("native")).decide(), exceeded(LimitScope::User, 1, 1, true));
}

#[test]
fn web_view_never_counts_by_a_list_that_lacks_its_end() {
    let check = Check::new(json!({ "limits": { "perUser": 1 } }));
    let login = check.login();
    let limit_check = check.policy.pre_checks(&login, now()).unwrap();
    let mut sessions = SessionList::new("u", [session("view", &["c1"])]);
    sessions.set_completeness(Completeness::Enough);
    let origins = check.clone().began("view", &web_view("native")).origins;
    let revoked = HashSet::new();
    let inputs = LimitInputs { sessions: &sessions, admissions: &[], revoked: &revoked, origins: &origins, now: now() };
    assert_eq!(limit_check.decide(inputs), Decision::Undecided);

    // Current is a web view, and its device may be further on.
    let mut sessions = SessionList::new("u", [session("s1", &["c1"])]);
    sessions.set_completeness(Completeness::Enough);
    let origins = check.clone().began("s9", &web_view("native")).origins;
    let inputs = LimitInputs { sessions: &sessions, admissions: &[], revoked: &revoked, origins: &origins, now: now() };
    assert_eq!(limit_check.decide(inputs), Decision::Undecided);
}

#[test]
fn session_with_a_login_in_progress_is_not_chosen_for_a_minute() {
    let spec = json!({ "limits": { "perClient": 1 }, "strategy": "RevokeOldest" });
    let check = Check::new(spec).oldest_first([session("s1", &["c2"])]);
    let with = |seconds| check.clone().remembering([admitted("s1", "c1", seconds)]).decide();
    assert_eq!(with(-59), exceeded(LimitScope::Client, 1, 1, true));
    assert_eq!(with(-60), evict(LimitScope::Client, 1, 1, &["s1"]));
    // The last admission counts.
    let twice = check.clone().remembering([admitted("s1", "c1", -90), admitted("s1", "c3", -5)]);
    assert_eq!(twice.decide(), exceeded(LimitScope::Client, 1, 1, true));
}
