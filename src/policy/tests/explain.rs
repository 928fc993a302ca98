//! The role of each session agrees with the decision.

use super::*;

fn roles(check: &Check) -> Vec<(String, SessionRole)> {
    let (login, sessions) = (check.login(), SessionList::new("u", check.listed.iter().cloned()));
    let limit_check = check.policy.pre_checks(&login, now()).unwrap();
    let inputs = LimitInputs {
        sessions: &sessions,
        admissions: &check.admissions,
        revoked: &check.revoked,
        origins: &check.origins,
        now: now(),
    };
    sessions.ids().map(str::to_owned).zip(limit_check.explain(inputs)).collect()
}

/// How many listed sessions have the role of counting towards a limit.
pub(super) fn counting(check: &Check, limit_scope: LimitScope) -> usize {
    let counts = |role: &SessionRole| matches!(role, SessionRole::Counts(limits) if limits.contains(&limit_scope));
    roles(check).iter().filter(|(_, role)| counts(role)).count()
}

#[test]
fn role_of_a_session_is_the_first_that_applies() {
    let check = Check::new(json!({ "limits": { "perClient": 1, "perUser": 5 }, "activeWithin": "1h" }))
        .listed([
            session("s9", &[]),
            session("ended", &["c1"]).ends(-1),
            session("dead", &["c1"]),
            session("idle", &["c1"]).used(-3601),
            session("both", &["c1"]).used(-3599),
            session("user", &["c2"]),
            session("none", &[]),
        ])
        .revoked(&["dead"]);
    let counts = |of: &[LimitScope]| SessionRole::Counts(of.to_vec());
    let expected = [
        ("s9", SessionRole::Current),
        ("ended", SessionRole::Ended),
        ("dead", SessionRole::Revoked),
        ("idle", SessionRole::Inactive),
        ("both", counts(&[LimitScope::Client, LimitScope::User])),
        ("user", counts(&[LimitScope::User])),
        ("none", counts(&[])),
    ];
    assert_eq!(roles(&check), expected.map(|(id, role)| (id.to_owned(), role)));
}

#[test]
fn earlier_sessions_alone_count_towards_a_kept_place() {
    let check = Check::new(json!({ "limits": { "perClient": 1 } })).oldest_first([
        session("s1", &["c1"]),
        session("s9", &["c1"]),
        session("s2", &["c1"]),
    ]);
    let [first, _, last] = <[_; 3]>::try_from(roles(&check)).unwrap();
    assert_eq!((first.1, last.1), (SessionRole::Counts(vec![LimitScope::Client]), SessionRole::Counts(vec![])));
}
