//! The steps without a list of sessions, and which override applies.

use super::*;

fn login(sid: Option<&str>, context: LoginContext) -> Login {
    Login::new("u".into(), "c1".into(), sid.map(str::to_owned), context).unwrap()
}

fn answer(policy: &Policy, login: &Login) -> Result<String, Verdict> {
    policy.pre_checks(login, now()).map(|limit_check| limit_check.limits().to_string())
}

fn verdict(extra: Value, login: &Login) -> Option<Verdict> {
    answer(&policy(extra), login).err()
}

#[test]
fn pre_checks_answer_in_their_order() {
    let exempt = json!([{ "name": "vip", "users": ["u"], "exempt": true }]);
    let renewal = || LoginContext { protocol: Some("oauth2-refresh-token".into()), ..LoginContext::default() };
    let spec = |missing: &str, overrides: &Value| json!({ "limits": { "perClient": 1 }, "missingSession": missing, "overrides": overrides });
    let none = json!([]);
    for (row, extra, login, expected) in [
        ("an exemption, before all other steps", spec("Deny", &exempt), login(None, renewal()), Some(Verdict::Exempt)),
        ("a protocol, before the session", spec("Deny", &none), login(None, renewal()), Some(Verdict::SkippedProtocol)),
        (
            "a protocol, before a revoked session",
            spec("Deny", &none),
            login(Some("revoked"), renewal()),
            Some(Verdict::SkippedProtocol),
        ),
        (
            "no session, allowed",
            spec("Allow", &none),
            login(None, LoginContext::default()),
            Some(Verdict::NoSession(AllowDeny::Allow)),
        ),
        (
            "an empty session, blocked",
            spec("Deny", &none),
            login(Some(""), LoginContext::default()),
            Some(Verdict::NoSession(AllowDeny::Deny)),
        ),
        ("anything else", spec("Deny", &none), login(Some("s9"), LoginContext::default()), None),
    ] {
        assert_eq!(verdict(extra, &login), expected, "{row}");
    }
}

#[test]
fn refresh_token_exchange_is_skipped_by_default() {
    let by =
        |protocol: &str| login(Some("s9"), LoginContext { protocol: Some(protocol.into()), ..LoginContext::default() });
    let with = |protocols: Option<Value>| {
        let mut extra = json!({ "limits": { "perClient": 1 } });
        if let Some(protocols) = protocols {
            extra["skipProtocols"] = protocols;
        }
        extra
    };
    for (protocols, protocol, skipped) in [
        (None, "oauth2-refresh-token", true),
        (None, "oidc-basic-profile", false),
        (None, "OAuth2-Refresh-Token", false),
        (Some(json!([])), "oauth2-refresh-token", false),
        (Some(json!(["samlp"])), "oauth2-refresh-token", false),
        (Some(json!(["samlp"])), "samlp", true),
    ] {
        let expected = skipped.then_some(Verdict::SkippedProtocol);
        assert_eq!(verdict(with(protocols.clone()), &by(protocol)), expected, "{protocols:?} {protocol}");
    }
    assert_eq!(verdict(with(None), &login(Some("s9"), LoginContext::default())), None, "a login without a protocol");
}

#[test]
fn protocol_is_not_asked_about_when_only_the_action_skips_it() {
    let refresh = "oauth2-refresh-token";
    for (policy_skips, action_skips, not_asked) in [
        (json!([]), &[refresh][..], &[refresh][..]),
        (json!(["samlp"]), &[refresh, "samlp", "wsfed"], &[refresh, "wsfed"]),
        (json!([refresh]), &["OAuth2-Refresh-Token"], &["OAuth2-Refresh-Token"]),
        // Equal lists, a part of the policy's, and a list that is empty or absent.
        (json!([refresh]), &[refresh], &[]),
        (json!([refresh, "samlp"]), &["samlp", refresh], &[]),
        (json!([refresh, "samlp"]), &["samlp"], &[]),
        (json!([refresh]), &[], &[]),
        (json!([]), &[], &[]),
    ] {
        let policy = policy(json!({ "limits": { "perClient": 1 }, "skipProtocols": policy_skips.clone() }));
        let skip_protocols = action_skips.iter().map(|protocol| (*protocol).to_owned()).collect();
        let context = LoginContext { skip_protocols, ..LoginContext::default() };
        assert_eq!(policy.not_asked(&context).collect::<Vec<_>>(), not_asked, "{policy_skips} {action_skips:?}");
        let without = verdict(json!({ "limits": { "perClient": 1 } }), &login(Some("s9"), LoginContext::default()));
        assert_eq!(policy.pre_checks(&login(Some("s9"), context), now()).err(), without, "it changes no decision");
    }
}

#[test]
fn override_matches_when_each_of_its_lists_matches() {
    let full = || LoginContext {
        organization_id: Some("org_1".into()),
        connection: Some("db".into()),
        roles: vec!["staff".into(), "admin".into()],
        ..LoginContext::default()
    };
    for (lists, context, matches) in [
        (json!({ "users": ["u"] }), LoginContext::default(), true),
        (json!({ "users": ["U"] }), full(), false),
        (json!({ "clientIds": ["c0", "c1"] }), LoginContext::default(), true),
        (json!({ "clientIds": ["c0"] }), full(), false),
        (json!({ "organizations": ["org_1"] }), full(), true),
        (json!({ "organizations": ["org_1"] }), LoginContext::default(), false),
        (json!({ "connections": ["db"] }), full(), true),
        (json!({ "connections": ["DB"] }), full(), false),
        (json!({ "connections": ["db"] }), LoginContext::default(), false),
        (json!({ "roles": ["admin", "owner"] }), full(), true),
        (json!({ "roles": ["owner"] }), full(), false),
        (json!({ "roles": ["admin"] }), LoginContext::default(), false),
        (
            json!({ "users": ["u"], "roles": ["admin"], "organizations": ["org_1"], "connections": ["db"], "clientIds": ["c1"] }),
            full(),
            true,
        ),
        (json!({ "users": ["u"], "roles": ["owner"] }), full(), false),
        (json!({ "users": ["v"], "roles": ["admin"] }), full(), false),
        (json!({ "users": ["u"], "organizations": ["org_2"] }), full(), false),
    ] {
        let mut policy_override = json!({ "name": "vip", "exempt": true });
        merge(&mut policy_override, lists.clone());
        let extra = json!({ "limits": { "perClient": 1 }, "overrides": [policy_override] });
        let expected = matches.then_some(Verdict::Exempt);
        assert_eq!(verdict(extra, &login(Some("s9"), context)), expected, "{lists}");
    }
}

#[test]
fn override_ends_at_its_expiry() {
    for (seconds, expected) in [(1, Some(Verdict::Exempt)), (0, None), (-1, None)] {
        let policy_override =
            json!({ "name": "vip", "users": ["u"], "exempt": true, "expiresAt": at(seconds).to_string() });
        let extra = json!({ "limits": { "perClient": 1 }, "overrides": [policy_override] });
        assert_eq!(verdict(extra, &login(Some("s9"), LoginContext::default())), expected, "{seconds}");
    }
}

#[test]
fn first_matching_override_replaces_all_limits() {
    let vip = json!({ "name": "vip", "users": ["u"], "limits": { "perUser": 9 } });
    let other = json!({ "name": "other", "users": ["v"], "exempt": true });
    let ended = json!({ "name": "ended", "users": ["u"], "exempt": true, "expiresAt": at(-1).to_string() });
    let exempt = json!({ "name": "exempt", "clientIds": ["c1"], "exempt": true });
    let plain = login(Some("s9"), LoginContext::default());
    let limits = |overrides: Value| {
        let limits = json!({ "perClient": 1, "perGroup": 2, "perUser": 3 });
        let selector = json!({ "clientIds": ["c1"] });
        answer(&policy(json!({ "limits": limits, "selector": selector, "overrides": overrides })), &plain)
    };
    assert_eq!(limits(json!([])), Ok("client=1 group=2 user=3".into()));
    assert_eq!(limits(json!([vip, exempt])), Ok("user=9".into()));
    assert_eq!(limits(json!([exempt, vip])), Err(Verdict::Exempt));
    assert_eq!(limits(json!([other, vip])), Ok("user=9".into()));
    assert_eq!(limits(json!([ended, vip])), Ok("user=9".into()));
    assert_eq!(limits(json!([other])), Ok("client=1 group=2 user=3".into()));
}

#[test]
fn limit_check_names_the_override_that_chose_the_limits() {
    let overrides = json!([
        { "name": "a", "users": ["v"], "limits": { "perUser": 1 } },
        { "name": "b", "users": ["u"], "limits": { "perUser": 2 } },
    ]);
    let policy = policy(json!({ "limits": { "perClient": 1 }, "overrides": overrides }));
    let chosen_by = |user: &str| {
        let login = Login::new(user.into(), "c1".into(), Some("s9".into()), LoginContext::default()).unwrap();
        policy.pre_checks(&login, now()).unwrap().chosen_by()
    };
    assert_eq!([chosen_by("v"), chosen_by("u"), chosen_by("w")], [Some(0), Some(1), None]);
}
