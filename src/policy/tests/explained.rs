//! What people are told about each session is what the rule made of it.

use super::*;

fn standings(check: &Check) -> Vec<(String, SessionRole)> {
    let (login, sessions) = (check.login(), SessionList::new("u", check.listed.iter().cloned()));
    let limit_check = check.policy.pre_checks(&login, now()).unwrap();
    let inputs =
        LimitInputs { sessions: &sessions, admissions: &check.admissions, revoked: &check.revoked, now: now() };
    sessions.ids().map(str::to_owned).zip(limit_check.explain(inputs)).collect()
}

/// How many listed sessions are said to count towards a limit.
pub(super) fn said_to_count(check: &Check, scope: LimitScope) -> usize {
    let counts = |(_, role): &(String, SessionRole)| matches!(role, SessionRole::Counts(of) if of.contains(&scope));
    standings(check).iter().filter(|session| counts(session)).count()
}

#[test]
fn each_session_is_told_with_the_first_reason_that_the_rule_had_for_it() {
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
    assert_eq!(standings(&check), expected.map(|(id, role)| (id.to_owned(), role)));
}

#[test]
fn towards_a_kept_place_only_those_count_that_came_before() {
    let check = Check::new(json!({ "limits": { "perClient": 1 } })).oldest_first([
        session("s1", &["c1"]),
        session("s9", &["c1"]),
        session("s2", &["c1"]),
    ]);
    let [first, _, last] = <[_; 3]>::try_from(standings(&check)).unwrap();
    assert_eq!((first.1, last.1), (SessionRole::Counts(vec![LimitScope::Client]), SessionRole::Counts(vec![])));
}
