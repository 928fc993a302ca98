//! The examples of the documentation.

use super::*;

#[test]
fn examples_of_the_specification_are_decided_as_written() {
    let one = |extra: Value| {
        let mut spec = json!({ "limits": { "perClient": 1 } });
        merge(&mut spec, extra);
        Check::new(spec)
    };
    let plain = || one(json!({}));
    let count_others = || one(json!({ "reentry": "CountOthers" }));
    let revoke_oldest = || one(json!({ "strategy": "RevokeOldest" }));
    let s = session;
    let two_pages = (0..60).map(|n| session(&format!("p{n}"), &["c2"])).chain([session("s1", &["c1"])]);
    use LimitScope::{Client, User};

    for (example, check, answer) in [
        ("no session", plain(), within(Client, 1, 0, false)),
        ("the login's own session", plain().oldest_first([s("s9", &["c1"])]), within(Client, 1, 0, true)),
        (
            "a session for another application",
            plain().oldest_first([s("s1", &["c2"]), s("s9", &[])]),
            within(Client, 1, 0, false),
        ),
        (
            "a session for this application",
            plain().oldest_first([s("s1", &["c1"]), s("s9", &[])]),
            exceeded(Client, 1, 1, true),
        ),
        (
            "a login whose session also serves another application",
            plain().oldest_first([s("s1", &["c1"]), s("s9", &["c2"])]),
            exceeded(Client, 1, 1, false),
        ),
        (
            "a holder that came second",
            plain().oldest_first([s("s1", &["c1"]), s("s9", &["c1"])]),
            exceeded(Client, 1, 1, false),
        ),
        (
            "the same, with CountOthers",
            count_others().oldest_first([s("s1", &["c1"]), s("s9", &["c1"])]),
            exceeded(Client, 1, 1, false),
        ),
        (
            "a holder that came first",
            plain().oldest_first([s("s9", &["c1"]), s("s1", &["c1"])]),
            within(Client, 1, 0, true),
        ),
        (
            "the same, with CountOthers",
            count_others().oldest_first([s("s9", &["c1"]), s("s1", &["c1"])]),
            exceeded(Client, 1, 1, false),
        ),
        (
            "a session that expired a second ago",
            plain().oldest_first([s("s1", &["c1"]).ends(-1)]),
            within(Client, 1, 0, false),
        ),
        ("a session of another user", plain().oldest_first([s("s1", &["c1"]).of("v")]), within(Client, 1, 0, false)),
        ("a session on the second page", plain().oldest_first(two_pages), exceeded(Client, 1, 1, true)),
        (
            "two sessions over the limit",
            revoke_oldest().oldest_first([s("s1", &["c1"]), s("s2", &["c1"]), s("s9", &[])]),
            evict(Client, 1, 2, &["s1", "s2"]),
        ),
        (
            "a holder under a revoking strategy",
            revoke_oldest().oldest_first([s("s1", &["c1"]), s("s9", &["c1"])]),
            within(Client, 1, 1, true),
        ),
        (
            "a session that is only remembered",
            revoke_oldest().oldest_first([s("s9", &[])]).remembering([admitted("s1", "c1", -1)]),
            exceeded(Client, 1, 1, true),
        ),
        (
            "a login that never completed",
            Check::new(json!({ "limits": { "perUser": 1 } })).oldest_first([s("s1", &[]), s("s9", &[])]),
            within(User, 1, 0, false),
        ),
    ] {
        assert_eq!(check.decide(), answer, "{example}");
    }
}
