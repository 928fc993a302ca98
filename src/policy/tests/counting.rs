//! Which sessions count.

use super::*;

/// Plenty of room for one application, so that the count is seen and never the limit.
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
fn entries_of_another_user_are_dropped_and_told() {
    let own = session("s1", &["c1"]).of("u");
    let silent = session("s2", &["c1"]);
    let foreign = session("s3", &["c1"]).of("v");
    let differently_written = session("s4", &["c1"]).of("U");
    let all = [own, silent, foreign, differently_written];
    assert_eq!(per_client().listed(all.clone()).active(), 2);
    let list = SessionList::new("u", all);
    assert_eq!((list.len(), list.dropped()), (2, 2));
}

#[test]
fn a_foreign_entry_does_not_stand_in_for_an_own_one_with_the_same_id() {
    let foreign = session("s1", &["c1"]).of("v");
    assert_eq!(per_client().listed([foreign.clone(), session("s1", &["c2"])]).active(), 0);
    assert_eq!(per_client().listed([foreign, session("s1", &["c1"])]).active(), 1);
}

#[test]
fn entries_with_one_id_are_one_session_with_the_clients_of_all() {
    let twice = [session("s1", &["c2"]), session("s1", &["c1", "c2"]), session("s1", &["c3"])];
    assert_eq!(per_client().listed(twice.clone()).active(), 1);
    assert_eq!(per_user().listed(twice).active(), 1);
}

#[test]
fn of_entries_with_one_id_the_first_gives_the_dates() {
    let live = session("s1", &["c1"]).ends(60);
    let ended = session("s1", &["c1"]).ends(-60);
    assert_eq!(per_client().listed([live.clone(), ended.clone()]).active(), 1);
    assert_eq!(per_client().listed([ended, live]).active(), 0);
}

#[test]
fn clients_missing_on_any_entry_of_an_id_are_missing_on_the_session() {
    let unknown = || session("s1", &[]).without_clients();
    for twice in [[session("s1", &["c1"]), unknown()], [unknown(), session("s1", &["c1"])]] {
        assert_eq!(per_client().listed(twice.clone()).active(), 0);
        assert_eq!(per_user().listed(twice).active(), 1);
    }
}

#[test]
fn a_session_counts_until_the_instant_of_either_end() {
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
fn a_session_that_this_service_revoked_a_moment_ago_does_not_count() {
    let check = per_client().listed([session("s1", &["c1"]), session("s2", &["c1"])]).revoked(&["s1"]);
    assert_eq!(check.active(), 1);
    assert_eq!(check.remembering([admitted("s1", "c1", -1)]).active(), 1, "nor what the ledger knows of it");
    let only_remembered = per_client().remembering([admitted("s1", "c1", -1)]).revoked(&["s1"]);
    assert_eq!(only_remembered.active(), 0);
}

#[test]
fn a_session_not_used_within_the_span_does_not_count() {
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
fn a_span_that_reaches_before_time_began_leaves_nothing_inactive() {
    assert_eq!(active_within("2562047h47m16s").listed([session("s1", &["c1"]).used(-1_700_000_000)]).active(), 1);
}

#[test]
fn the_sessions_last_use_is_not_before_its_admission() {
    let idle = || session("s1", &["c1"]).used(-90);
    assert_eq!(active_within("1m").listed([idle()]).remembering([admitted("s1", "c2", -30)]).active(), 1);
    assert_eq!(active_within("1m").listed([idle()]).remembering([admitted("s1", "c2", -61)]).active(), 0);
    let undated = [session("s1", &["c1"])];
    assert_eq!(active_within("1m").listed(undated).remembering([admitted("s1", "c2", -61)]).active(), 1);
}

#[test]
fn current_is_never_inactive_and_keeps_its_place_when_the_list_calls_it_ended() {
    for own in [session("s9", &["c1"]).created(-99).used(-90), session("s9", &["c1"]).created(-99).ends(-1)] {
        let check = Check::new(json!({ "limits": { "perClient": 1 }, "activeWithin": "1m" }));
        let check = check.listed([own, session("s1", &["c1"]).created(-9)]);
        assert_eq!(check.decide(), within(LimitScope::Client, 1, 0, true));
    }
}

#[test]
fn a_session_has_the_clients_that_are_listed_and_those_that_are_remembered() {
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
fn a_session_that_is_listed_but_does_not_count_is_never_added_back_from_the_ledger() {
    let admissions = || [admitted("s1", "c1", -1), admitted("s1", "c2", -1)];
    assert_eq!(per_client().listed([session("s1", &[]).ends(0)]).remembering(admissions()).active(), 0);
    assert_eq!(per_user().listed([session("s1", &[]).idle_ends(0)]).remembering(admissions()).active(), 0);
    assert_eq!(per_user().listed([session("s1", &[])]).revoked(&["s1"]).remembering(admissions()).active(), 0);
}

#[test]
fn several_entries_of_one_session_are_one_session() {
    let admissions = [admitted("s1", "c1", -9), admitted("s1", "c2", -1), admitted("s2", "c1", -1)];
    assert_eq!(per_client().remembering(admissions.clone()).active(), 2);
    assert_eq!(per_user().remembering(admissions).active(), 2);
}

#[test]
fn a_login_under_way_counts_however_short_the_span_of_activity() {
    assert_eq!(active_within("1s").remembering([admitted("s1", "c1", -5)]).active(), 1);
}

#[test]
fn a_sessions_own_entries_never_count_against_it() {
    let own = [admitted("s9", "c1", -1), admitted("s9", "c2", -1)];
    for check in [per_client(), per_user()] {
        assert_eq!(check.remembering(own.clone()).active(), 0);
    }
}

#[test]
fn a_remembered_login_counts_only_for_the_client_that_it_was_let_into() {
    assert_eq!(per_client().remembering([admitted("s1", "c2", -1)]).active(), 0);
    assert_eq!(per_user().remembering([admitted("s1", "c2", -1)]).active(), 1);
}
