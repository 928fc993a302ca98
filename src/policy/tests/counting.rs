//! Which sessions count.

use super::*;

/// A limit high enough that only the count matters.
fn per_client() -> Check {
    Check::new(json!({ "limits": { "perClient": 1000 } }))
}

fn per_user() -> Check {
    Check::new(json!({ "limits": { "perUser": 1000 } }))
}

fn active_within(span: &str) -> Check {
    Check::new(json!({ "limits": { "perClient": 1000 }, "activeWithin": span }))
}

#[test]
fn entries_of_another_user_are_dropped_and_counted() {
    let own = session("s1", &["c1"]).of("u");
    let silent = session("s2", &["c1"]);
    let foreign = session("s3", &["c1"]).of("v");
    let in_other_case = session("s4", &["c1"]).of("U");
    let all = [own, silent, foreign, in_other_case];
    assert_eq!(per_client().listed(all.clone()).active(), 2);
    let list = SessionList::new("u", all);
    assert_eq!((list.len(), list.dropped()), (2, 2));
}

#[test]
fn foreign_entry_does_not_replace_an_own_one_with_its_id() {
    let foreign = session("s1", &["c1"]).of("v");
    assert_eq!(per_client().listed([foreign.clone(), session("s1", &["c2"])]).active(), 0);
    assert_eq!(per_client().listed([foreign, session("s1", &["c1"])]).active(), 1);
}

#[test]
fn entries_with_one_id_are_merged_with_all_clients() {
    let twice = [session("s1", &["c2"]), session("s1", &["c1", "c2"]), session("s1", &["c3"])];
    assert_eq!(per_client().listed(twice.clone()).active(), 1);
    assert_eq!(per_user().listed(twice).active(), 1);
}

/// How many applications the sets of a list hold together: what joining costs.
fn joined_clients(list: &SessionList) -> usize {
    list.client_sets().flatten().map(Vec::len).sum()
}

#[test]
fn joining_one_id_many_times_is_linear() {
    let names: Vec<String> = (0..2_000).map(|number| format!("c{number}")).collect();
    let list = SessionList::new("u", names.iter().map(|name| session("s1", &[name])));
    assert_eq!((list.len(), list.most_clients()), (1, 2_000));
    assert!(joined_clients(&list) <= 1 + 2_000, "{}", joined_clients(&list));
    // A few ids in turn, over several pages.
    let mut list = SessionList::default();
    for page in names.chunks(500) {
        list.extend("u", page.iter().enumerate().map(|(at, name)| session(["s1", "s2", "s3"][at % 3], &[name])));
    }
    assert_eq!(list.len(), 3);
    assert!(joined_clients(&list) <= 4 * 2_000, "one set for each session and page: {}", joined_clients(&list));
}

#[test]
fn first_entry_of_an_id_gives_the_dates() {
    let live = session("s1", &["c1"]).ends(60);
    let ended = session("s1", &["c1"]).ends(-60);
    assert_eq!(per_client().listed([live.clone(), ended.clone()]).active(), 1);
    assert_eq!(per_client().listed([ended, live]).active(), 0);
}

#[test]
fn clients_missing_on_one_entry_are_missing_on_the_session() {
    let unknown = || session("s1", &[]).without_clients();
    for twice in [[session("s1", &["c1"]), unknown()], [unknown(), session("s1", &["c1"])]] {
        assert_eq!(per_client().listed(twice.clone()).active(), 0);
        assert_eq!(per_user().listed(twice).active(), 1);
    }
}

#[test]
fn session_counts_until_the_earlier_of_its_ends() {
    for (session, counts) in [
        (session("s1", &["c1"]), 1),
        (session("s1", &["c1"]).ends(1), 1),
        (session("s1", &["c1"]).ends(0), 0),
        (session("s1", &["c1"]).ends(-1), 0),
        (session("s1", &["c1"]).idle_ends(1), 1),
        (session("s1", &["c1"]).idle_ends(0), 0),
        (session("s1", &["c1"]).idle_ends(-1).ends(60), 0),
        (session("s1", &["c1"]).idle_ends(60).ends(-1), 0),
        (session("s1", &["c1"]).idle_ends(60).ends(60), 1),
    ] {
        assert_eq!(per_client().listed([session.clone()]).active(), counts, "{session:?}");
    }
}

#[test]
fn revoked_session_does_not_count() {
    let check = per_client().listed([session("s1", &["c1"]), session("s2", &["c1"])]).revoked(&["s1"]);
    assert_eq!(check.active(), 1);
    assert_eq!(check.remembering([admitted("s1", "c1", -1)]).active(), 1, "its admissions do not count either");
    let only_remembered = per_client().remembering([admitted("s1", "c1", -1)]).revoked(&["s1"]);
    assert_eq!(only_remembered.active(), 0);
}

#[test]
fn session_not_used_within_the_span_does_not_count() {
    for (session, counts) in [
        (session("s1", &["c1"]).used(-61), 0),
        (session("s1", &["c1"]).used(-60), 1),
        (session("s1", &["c1"]).used(-59), 1),
        (session("s1", &["c1"]).created(-999).authenticated(-999).used(-1), 1),
        (session("s1", &["c1"]).created(-1).authenticated(-1).used(-61), 0),
        (session("s1", &["c1"]).created(-999).authenticated(-1), 1),
        (session("s1", &["c1"]).created(-1).authenticated(-61), 0),
        (session("s1", &["c1"]).created(-61), 0),
        (session("s1", &["c1"]).created(-1), 1),
        (session("s1", &["c1"]), 1),
    ] {
        assert_eq!(active_within("1m").listed([session.clone()]).active(), counts, "{session:?}");
        assert_eq!(per_client().listed([session.clone()]).active(), 1, "without activeWithin: {session:?}");
    }
}

#[test]
fn span_before_the_first_timestamp_makes_none_inactive() {
    assert_eq!(active_within("2562047h47m16s").listed([session("s1", &["c1"]).used(-1_700_000_000)]).active(), 1);
}

#[test]
fn last_use_is_not_before_the_admission() {
    let idle = || session("s1", &["c1"]).used(-90);
    assert_eq!(active_within("1m").listed([idle()]).remembering([admitted("s1", "c2", -30)]).active(), 1);
    assert_eq!(active_within("1m").listed([idle()]).remembering([admitted("s1", "c2", -61)]).active(), 0);
    let undated = [session("s1", &["c1"])];
    assert_eq!(active_within("1m").listed(undated).remembering([admitted("s1", "c2", -61)]).active(), 1);
}

#[test]
fn current_session_keeps_its_place_when_inactive_or_ended() {
    for own in [session("s9", &["c1"]).created(-99).used(-90), session("s9", &["c1"]).created(-99).ends(-1)] {
        let check = Check::new(json!({ "limits": { "perClient": 1 }, "activeWithin": "1m" }));
        let check = check.listed([own, session("s1", &["c1"]).created(-9)]);
        assert_eq!(check.decide(), within(LimitScope::Client, 1, 0, true));
    }
}

#[test]
fn session_has_its_listed_and_its_remembered_clients() {
    let admissions = || [admitted("s1", "c1", -1)];
    for (listed, counts) in [
        (vec![session("s1", &["c2"])], 1),
        (vec![session("s1", &[])], 1),
        (vec![session("s1", &["c1"])], 1),
        (vec![session("s1", &[]).without_clients()], 1),
        (vec![], 1),
        (vec![session("s1", &["c1"]).ends(-1)], 0),
        (vec![session("s1", &["c1"]).of("v")], 1),
    ] {
        assert_eq!(per_client().listed(listed.clone()).remembering(admissions()).active(), counts, "{listed:?}");
    }
}

#[test]
fn listed_session_is_never_added_back_from_the_ledger() {
    let admissions = || [admitted("s1", "c1", -1), admitted("s1", "c2", -1)];
    assert_eq!(per_client().listed([session("s1", &[]).ends(0)]).remembering(admissions()).active(), 0);
    assert_eq!(per_user().listed([session("s1", &[]).idle_ends(0)]).remembering(admissions()).active(), 0);
    assert_eq!(per_user().listed([session("s1", &[])]).revoked(&["s1"]).remembering(admissions()).active(), 0);
}

#[test]
fn admissions_of_one_session_are_one_session() {
    let admissions = [admitted("s1", "c1", -9), admitted("s1", "c2", -1), admitted("s2", "c1", -1)];
    assert_eq!(per_client().remembering(admissions.clone()).active(), 2);
    assert_eq!(per_user().remembering(admissions).active(), 2);
}

#[test]
fn login_in_progress_counts_under_any_active_within() {
    assert_eq!(active_within("1s").remembering([admitted("s1", "c1", -5)]).active(), 1);
}

#[test]
fn own_admissions_never_count_against_a_session() {
    let own = [admitted("s9", "c1", -1), admitted("s9", "c2", -1)];
    for check in [per_client(), per_user()] {
        assert_eq!(check.remembering(own.clone()).active(), 0);
    }
}

#[test]
fn remembered_login_counts_only_for_its_client() {
    assert_eq!(per_client().remembering([admitted("s1", "c2", -1)]).active(), 0);
    assert_eq!(per_user().remembering([admitted("s1", "c2", -1)]).active(), 1);
}
