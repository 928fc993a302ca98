//! `strategy: Ask`: who is asked, what is offered, and which choices are enough.

use super::*;

const HOST: &str = "acme.eu.auth0.com";

/// A login in a browser at the tenant's login page, with two factors.
fn context() -> LoginContext {
    LoginContext { can_redirect: true, mfa: true, hostname: Some(HOST.to_owned()), ..LoginContext::default() }
}

fn asking(extra: Value) -> Policy {
    let mut spec = json!({ "strategy": "Ask", "limits": { "perClient": 1 } });
    merge(&mut spec, extra);
    policy(spec)
}

fn inputs<'a>(sessions: &'a SessionList, nothing: &'a (HashSet<String>, Origins)) -> LimitInputs<'a> {
    LimitInputs { sessions, admissions: &[], revoked: &nothing.0, origins: &nothing.1, now: now() }
}

/// Two sessions of the application, and the one that logs in.
fn listed() -> SessionList {
    let mut s1 = session("s1", &["c1"]).created(-600);
    s1.last_interacted_at = Some(at(-30));
    let s2 = session("s2", &["c1"]).created(-300);
    SessionList::new("u", [s1, s2, session("s9", &[]).created(-1)])
}

fn decide(policy: &Policy, context: LoginContext) -> Decision {
    let login = Login::new("u".to_owned(), "c1".to_owned(), Some("s9".to_owned()), context).unwrap();
    let nothing = Default::default();
    policy.pre_checks(&login, now()).unwrap().decide(inputs(&listed(), &nothing))
}

fn is_asked(policy: &Policy, context: LoginContext) -> bool {
    matches!(decide(policy, context), Decision::Ask { .. })
}

#[test]
fn browser_at_the_login_page_with_two_factors_is_asked() {
    let policy = asking(json!({ "tenant": { "customDomains": ["login.acme.com"] } }));
    assert_eq!(
        decide(&policy, context()),
        Decision::Ask { count: Count { limit_scope: LimitScope::Client, limit: 1, active: 2, at_least: false } }
    );
    assert!(is_asked(&policy, LoginContext { hostname: Some("LOGIN.acme.com".to_owned()), ..context() }));
    for blocked in [
        LoginContext { can_redirect: false, ..context() },
        LoginContext { mfa: false, ..context() },
        LoginContext { hostname: None, ..context() },
        LoginContext { hostname: Some("evil.example".to_owned()), ..context() },
        LoginContext { continued: true, ..context() },
    ] {
        assert_eq!(decide(&policy, blocked), exceeded(LimitScope::Client, 1, 2, true));
    }
    let without = asking(json!({ "ask": { "requireMfa": false } }));
    assert!(is_asked(&without, LoginContext { mfa: false, ..context() }));
}

#[test]
fn login_that_cannot_be_asked_is_decided_by_otherwise() {
    let policy = asking(json!({ "ask": { "otherwise": "RevokeOldest" } }));
    let native = || LoginContext { can_redirect: false, ..context() };
    assert_eq!(decide(&policy, native()), evict(LimitScope::Client, 1, 2, &["s1", "s2"]));
    assert_eq!(decide(&policy, LoginContext { mfa: false, ..native() }), exceeded(LimitScope::Client, 1, 2, true));
    let without = asking(json!({ "ask": { "otherwise": "RevokeOldest", "requireMfa": false } }));
    assert!(matches!(decide(&without, LoginContext { mfa: false, ..native() }), Decision::Evict { .. }));
    let back = LoginContext { continued: true, ..context() };
    assert_eq!(decide(&policy, back), exceeded(LimitScope::Client, 1, 2, true), "who cancels evicts nobody");
}

#[test]
fn silent_login_is_asked_and_never_evicts() {
    let policy = asking(json!({ "ask": { "otherwise": "RevokeOldest" } }));
    let silent = || LoginContext { prompt: vec!["none".to_owned()], can_redirect: false, ..context() };
    assert!(is_asked(&policy, silent()));
    let elsewhere = LoginContext { hostname: None, ..silent() };
    assert_eq!(decide(&policy, elsewhere), exceeded(LimitScope::Client, 1, 2, true));
}

#[test]
fn without_a_page_every_login_is_decided_by_otherwise() {
    let policy = asking(json!({ "ask": { "otherwise": "RevokeOldest" } }));
    let login = Login::new("u".to_owned(), "c1".to_owned(), Some("s9".to_owned()), context()).unwrap();
    let limit_check = policy.pre_checks(&login, now()).unwrap();
    assert!(limit_check.asks() && !limit_check.without_asking().asks());
    let nothing = Default::default();
    assert!(matches!(limit_check.without_asking().decide(inputs(&listed(), &nothing)), Decision::Evict { .. }));
    assert!(matches!(limit_check.without_revoking().decide(inputs(&listed(), &nothing)), Decision::Exceeded { .. }));
}

#[test]
fn holder_keeps_its_place() {
    let policy = asking(json!({}));
    let login = Login::new("u".to_owned(), "c1".to_owned(), Some("s2".to_owned()), context()).unwrap();
    let nothing = Default::default();
    assert!(is_within(&policy.pre_checks(&login, now()).unwrap().decide(inputs(&listed(), &nothing))));
}

#[test]
fn latest_use_is_offered_first_and_as_many_as_are_too_many() {
    let policy = asking(json!({ "limits": { "perClient": 2 } }));
    let check = policy.asked_check(None, "u", "c1", "s9").unwrap();
    let nothing = Default::default();
    let list = listed();
    let offer = check.decide_with_offer(inputs(&list, &nothing)).1.unwrap();
    let ids: Vec<&str> = offer.sessions.iter().map(|session| session.id.as_str()).collect();
    assert_eq!((ids, offer.needed, offer.needed_marked, offer.hidden), (vec!["s1", "s2"], 1, 0, 0));
    let choose = |chosen: &[&str]| {
        let chosen: Vec<String> = chosen.iter().map(|id| (*id).to_owned()).collect();
        check.decide_choice(inputs(&list, &nothing), &chosen)
    };
    assert_eq!(choose(&["s2"]), evict(LimitScope::Client, 2, 2, &["s2"]));
    for unfit in [&[][..], &["s1", "s2"], &["s9"], &["unknown"]] {
        assert!(matches!(choose(unfit), Decision::Ask { .. }), "{unfit:?}");
    }
    let within = asking(json!({ "limits": { "perClient": 3 } }));
    let check = within.asked_check(None, "u", "c1", "s9").unwrap();
    assert!(check.decide_with_offer(inputs(&list, &nothing)).1.is_none());
    assert!(is_within(&check.decide_choice(inputs(&list, &nothing), &["s1".to_owned()])), "nothing is needed any more");
}

#[test]
fn twenty_sessions_are_offered_and_the_rest_is_counted() {
    let many = |count: i64| {
        let sessions = (0..count).map(|n| session(&format!("s{n:03}"), &["c1"]).created(-n - 10));
        SessionList::new("u", sessions)
    };
    let nothing = Default::default();
    let offer = |limit: i64, count: i64| {
        let policy = asking(json!({ "limits": { "perClient": limit } }));
        policy.asked_check(None, "u", "c1", "new").unwrap().decide_with_offer(inputs(&many(count), &nothing)).1
    };
    let some = offer(10, 29).unwrap();
    assert_eq!((some.needed, some.sessions.len(), some.hidden, &*some.sessions[0].id), (20, 20, 9, "s000"));
    assert!(offer(10, 30).is_none(), "more have to end than are shown");
}

#[test]
fn nested_limits_are_all_satisfied() {
    let nothing = Default::default();
    let sessions = |of_c2: i64| {
        let others = (0..of_c2).map(|n| session(&format!("o{n}"), &["c2"]).created(-n - 10));
        SessionList::new("u", others.chain([session("s1", &["c1"]).created(-500)]))
    };
    let policy = asking(json!({ "limits": { "perClient": 1, "perUser": 3 } }));
    let check = policy.asked_check(None, "u", "c1", "s9").unwrap();
    // One too many under both limits: only a session of the application is enough for both.
    let list = sessions(2);
    let offer = check.decide_with_offer(inputs(&list, &nothing)).1.unwrap();
    assert_eq!((offer.needed, offer.needed_marked, offer.sessions.len()), (1, 0, 1));
    // Two too many of the user, one of them of the application.
    let list = sessions(3);
    let offer = check.decide_with_offer(inputs(&list, &nothing)).1.unwrap();
    assert_eq!((offer.needed, offer.needed_marked, offer.sessions.len()), (2, 1, 4));
    let marked: Vec<&str> = offer.sessions.iter().filter(|it| it.is_marked).map(|it| it.id.as_str()).collect();
    assert_eq!(marked, ["s1"]);
    let choose = |chosen: [&str; 2]| check.decide_choice(inputs(&list, &nothing), &chosen.map(str::to_owned));
    assert!(matches!(choose(["o0", "o1"]), Decision::Ask { .. }));
    assert!(matches!(choose(["o0", "s1"]), Decision::Evict { victims, .. } if victims.len() == 2));
}

#[test]
fn session_that_cannot_be_revoked_is_not_offered() {
    let policy = asking(json!({}));
    let check = policy.asked_check(None, "u", "c1", "s9").unwrap();
    let nothing = Default::default();
    let list = SessionList::new("u", [session("unusual id", &["c1"])]);
    assert!(check.decide_with_offer(inputs(&list, &nothing)).1.is_none());
    assert!(matches!(check.decide(inputs(&list, &nothing)), Decision::Exceeded { .. }));
}

#[test]
fn answer_asks_and_does_not_end_the_session() {
    let policy = asking(json!({}));
    let count = Count { limit_scope: LimitScope::Client, limit: 1, active: 2, at_least: false };
    let answer = policy.enforcement.answer(Verdict::Asked(count), None, false);
    assert_eq!(
        (answer.block, answer.reason, answer.revoke_session, answer.asks),
        (true, Reason::LimitExceeded, false, true)
    );
    let audited = policy.enforcement.answer(Verdict::Asked(count), None, true);
    assert_eq!((audited.block, audited.audited_reason, audited.asks), (false, Some(Reason::LimitExceeded), true));
    assert_eq!((audited.message, audited.choose_url), (None, None));
}

#[test]
fn terms_that_contradict_each_other_do_not_compile() {
    let wrong = compile(&manifest(json!({
        "strategy": "Ask", "limits": { "perClient": 1 }, "revokeRequiresMfa": true, "ask": { "requireMfa": false },
    })));
    assert_eq!(wrong.unwrap_err()[0].field, "spec.ask.requireMfa");
    for otherwise in ["Ask", "Allow", ""] {
        let spec = json!({ "strategy": "Ask", "limits": { "perClient": 1 }, "ask": { "otherwise": otherwise } });
        assert_eq!(compile(&manifest(spec)).unwrap_err()[0].field, "spec.ask.otherwise", "{otherwise}");
    }
    let unused = policy(json!({ "limits": { "perClient": 1 }, "ask": { "otherwise": "RevokeOldest" } }));
    assert_eq!(warnings(&unused, None), ["spec.ask: it has no effect without strategy Ask"]);
    let newer = json!({ "strategy": "Ask", "limits": { "perClient": 1 }, "ask": { "otherwise": "Later" } });
    let (policy, unknown) = compile_stored(&manifest(newer)).unwrap();
    assert_eq!((policy.ask.otherwise, unknown[0].field.as_str()), (Strategy::Deny, "spec.ask.otherwise"));
}
