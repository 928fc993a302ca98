//! Lists that were not read to their end, lists of unknown users, and ids of an unusual form.

use proptest::prelude::*;

use super::properties::plain_check;
use super::*;

impl Check {
    fn list(&self, completeness: Completeness) -> SessionList {
        let mut list = SessionList::new("u", self.listed.iter().cloned());
        list.set_completeness(completeness);
        list
    }

    fn decide_by(&self, sessions: &SessionList) -> Decision {
        let login = self.login();
        let limit_check = self.policy.pre_checks(&login, now()).unwrap();
        limit_check.decide(LimitInputs {
            sessions,
            admissions: &self.admissions,
            revoked: &self.revoked,
            origins: &self.origins,
            now: now(),
        })
    }

    fn is_blocked_by(&self, sessions: &SessionList) -> bool {
        let login = self.login();
        self.policy.pre_checks(&login, now()).unwrap().is_blocked_by(sessions, now())
    }

    /// Whether the first pages, which have these sessions, are enough.
    fn is_enough(&self) -> bool {
        self.is_blocked_by(&self.list(Completeness::Whole))
    }

    fn capped(&self) -> Decision {
        self.decide_by(&self.list(Completeness::Capped))
    }
}

fn deny(extra: Value) -> Check {
    let mut spec = json!({ "limits": { "perClient": 2 } });
    merge(&mut spec, extra);
    Check::new(spec)
}

fn others(count: usize) -> Vec<ListedSession> {
    (0..count).map(|number| session(&format!("s{number}"), &["c1"])).collect()
}

#[test]
fn reading_stops_when_current_and_enough_others_are_seen() {
    let current = || session("s9", &["c1"]);
    assert!(!deny(json!({})).oldest_first(others(5)).is_enough(), "current may hold a place on a later page");
    assert!(deny(json!({})).oldest_first([others(2), vec![current()]].concat()).is_enough());
    assert!(deny(json!({})).oldest_first([others(2), vec![session("s9", &[])]].concat()).is_enough(), "a newcomer");
    assert!(!deny(json!({})).oldest_first([vec![current()], others(5)].concat()).is_enough(), "current came first");
    assert!(!deny(json!({})).oldest_first([others(1), vec![current()]].concat()).is_enough());
    assert!(deny(json!({ "reentry": "CountOthers" })).oldest_first(others(2)).is_enough());
}

#[test]
fn strategy_that_revokes_reads_all_unless_it_may_not() {
    let seen = || [others(3), vec![session("s9", &[])]].concat();
    assert!(!deny(json!({ "strategy": "RevokeOldest" })).oldest_first(seen()).is_enough());
    let needs_mfa = || deny(json!({ "strategy": "RevokeOldest", "revokeRequiresMfa": true }));
    assert!(needs_mfa().oldest_first(seen()).is_enough());
    assert!(!needs_mfa().with_mfa().oldest_first(seen()).is_enough());
}

#[test]
fn capped_list_blocks_by_what_was_read() {
    let Decision::Exceeded { count, revoke_session } = deny(json!({})).oldest_first(others(3)).capped() else {
        panic!("current is taken for a newcomer")
    };
    assert_eq!((count.active, count.at_least), (3, true));
    assert!(!revoke_session, "its applications are not known");
    assert_eq!(deny(json!({})).oldest_first(others(1)).capped(), Decision::Undecided);
    // A session that is only remembered counts as it does for a whole list.
    let remembered = deny(json!({})).oldest_first(others(1)).remembering([admitted("s7", "c1", -1)]);
    assert!(matches!(remembered.capped(), Decision::Exceeded { .. }));
}

#[test]
fn capped_list_evicts_what_was_read_or_nothing() {
    let revoke = || deny(json!({ "strategy": "RevokeOldest" }));
    let Decision::Evict { count, victims } = revoke().oldest_first(others(4)).capped() else { panic!("it can evict") };
    assert_eq!((count.at_least, victims), (true, vec!["s0".to_owned(), "s1".to_owned(), "s2".to_owned()]));
    let remembered = [admitted("s7", "c1", -1), admitted("s8", "c1", -1)];
    assert!(matches!(revoke().remembering(remembered).capped(), Decision::Exceeded { .. }));
    assert_eq!(revoke().oldest_first(others(1)).capped(), Decision::Undecided);
    let holder = revoke().oldest_first([others(3), vec![session("s9", &["c1"])]].concat()).capped();
    assert!(is_within(&holder), "a holder is never over the limit");
}

#[test]
fn session_of_an_unusual_id_counts_and_is_never_revoked() {
    let long = "a".repeat(129);
    for id in ["a/b", ".", "..", "a b", "£", "sess_1:2", &long] {
        let revoke = Check::new(json!({ "limits": { "perClient": 1 }, "strategy": "RevokeOldest" }));
        let odd = revoke.clone().listed([session(id, &["c1"])]);
        assert_eq!(odd.decide(), exceeded(LimitScope::Client, 1, 1, true), "{id}");
        assert_eq!(odd.list(Completeness::Whole).unusual_ids(), 1);
        let both = revoke.listed([session(id, &["c1"]), session("s1", &["c1"])]);
        assert_eq!(both.decide(), exceeded(LimitScope::Client, 1, 2, true), "{id}");
        assert_eq!(deny(json!({})).listed([session(id, &["c1"])]).active(), 1, "{id}");
    }
}

#[test]
fn unknown_user_is_within_by_a_reason_of_its_own() {
    let unknown = SessionList::of_unknown_user();
    let decision = deny(json!({})).decide_by(&unknown);
    assert!(matches!(decision, Decision::UnknownUser { count: Count { limit: 2, active: 0, at_least: false, .. } }));
    let remembered = deny(json!({})).remembering([admitted("s7", "c1", -1), admitted("s8", "c1", -1)]);
    assert!(matches!(remembered.decide_by(&unknown), Decision::Exceeded { .. }), "the ledger still counts");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// What is decided by the first sessions of a list is what the whole list decides.
    #[test]
    fn rest_of_the_list_never_changes_what_stopped_the_reading(
        check in plain_check(), place in any::<prop::sample::Index>(),
    ) {
        let read = place.index(check.listed.len() + 1);
        let first = Check { listed: check.listed[..read].to_vec(), ..check.clone() };
        let by_all = check.decide();
        if first.is_enough() {
            let by_first = first.decide_by(&first.list(Completeness::Enough));
            let (Decision::Exceeded { count, revoke_session }, Decision::Exceeded { count: all, revoke_session: truth }) =
                (&by_first, &by_all) else { panic!("{by_first:?} {by_all:?}") };
            prop_assert!(count.at_least && (count.limit_scope != all.limit_scope || count.active <= all.active));
            prop_assert!(!revoke_session || *truth, "a session is ended only when the whole list would end it");
        }
        match first.capped() {
            Decision::Within { .. } => prop_assert!(is_within(&by_all)),
            Decision::Exceeded { count, .. } | Decision::Ask { count } | Decision::Evict { count, .. } => {
                prop_assert!(count.at_least);
            }
            Decision::Undecided => {}
            Decision::UnknownUser { .. } => panic!("the user is known"),
        }
    }
}
