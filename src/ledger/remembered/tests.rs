use std::collections::HashSet;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::ledger::{Memory, Terms, UserKey};
use crate::policy::{
    Decision, LimitInputs, ListedSession, Login, LoginContext, Manifest, ObjectName, Origins, Policy, compile,
};

const HOUR: Duration = Duration::from_secs(3_600);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn policy(fields: &Value) -> Policy {
    let mut spec = json!({
        "tenant": { "domain": "acme.eu.auth0.com", "credentialsSecretRef": { "name": "auth0" } },
        "selector": { "clientIds": ["a", "b"] },
        "limits": { "perClient": 1 },
    });
    for (field, value) in fields.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    compile(&Manifest { name: ObjectName::new("n", "p"), generation: 1, created_at: None, spec }).unwrap()
}

/// A session that began so many seconds before, with its applications.
fn session(id: &str, began: i64, clients: &[&str]) -> ListedSession {
    let clients = Some(clients.iter().map(|client| (*client).to_owned()).collect());
    ListedSession { id: id.to_owned(), created_at: Some(at(-began)), clients, ..ListedSession::default() }
}

fn list(sessions: &[ListedSession]) -> SessionList {
    SessionList::new("u", sessions.iter().cloned())
}

impl Record {
    /// Takes a list that was requested when the record had this mark.
    fn take(&mut self, sessions: &[ListedSession], mark: u64, since: i64) {
        let mut list = list(sessions);
        list.set_time(at(since), SignedDuration::ZERO);
        assert!(list.is_of_one_moment());
        self.take_list(&entries(&list, SessionCode::of), mark, at(since), HOUR, at(since));
    }

    /// What is remembered allows, of the session with the application, a minute after the beginning.
    fn allows(&self, policy: &Policy, sid: &str, client: &str) -> Result<(), ListNeed> {
        self.allows_at(policy, sid, client, 60, true)
    }

    fn allows_at(&self, policy: &Policy, sid: &str, client: &str, now: i64, is_shared: bool) -> Result<(), ListNeed> {
        let login = login(sid, client);
        let limit_check = policy.pre_checks(&login, at(now)).unwrap();
        self.recall(sid, &limit_check, HOUR, at(now), is_shared).map(drop)
    }
}

fn login(sid: &str, client: &str) -> Login {
    Login::new("u".into(), client.into(), Some(sid.into()), LoginContext::default()).unwrap()
}

fn with(sessions: &[ListedSession]) -> Record {
    let mut record = Record::default();
    record.take(sessions, 0, 0);
    record
}

#[test]
fn holder_is_allowed_while_the_listing_is_young() {
    let (one, record) = (policy(&json!({})), with(&[session("s1", 100, &["a"]), session("s2", 50, &["a"])]));
    assert_eq!(record.allows(&one, "s1", "a"), Ok(()));
    assert_eq!(record.allows(&one, "s2", "a"), Err(ListNeed::Crowded), "a block needs a list");
    assert_eq!(
        record.allows(&policy(&json!({ "limits": { "perClient": 2 } })), "s2", "a"),
        Ok(()),
        "limits of the login"
    );
    assert_eq!(record.allows(&one, "s1", "b"), Err(ListNeed::Newcomer));
    assert_eq!(record.allows(&one, "s3", "a"), Err(ListNeed::Newcomer));
    assert_eq!(record.allows_at(&one, "s1", "a", 3_599, true), Ok(()));
    assert_eq!(record.allows_at(&one, "s1", "a", 3_600, true), Err(ListNeed::Old));
    assert_eq!(record.allows_at(&one, "s1", "a", -5, true), Ok(()), "a server's clock went back");
    assert_eq!(record.allows_at(&one, "s1", "a", -61, true), Err(ListNeed::Old), "by hours: its age is not known");
    assert_eq!(Record::default().allows(&one, "s1", "a"), Err(ListNeed::Unlisted));
}

#[test]
fn older_session_that_gains_the_application_takes_the_place() {
    let one = policy(&json!({}));
    let record = with(&[session("old", 100, &["b"]), session("s1", 50, &["a"])]);
    assert_eq!(record.allows(&one, "s1", "a"), Ok(()));
    for is_allowed in [true, false] {
        let mut record = record.clone();
        if is_allowed {
            record.note_allowed("old", "a", at(1));
        } else {
            record.note_blocked("old", "a", at(1));
        }
        assert_eq!(record.allows(&one, "s1", "a"), Err(ListNeed::Crowded));
        assert_eq!(record.counting(at(0)).count(), 0, "it counts against no list");
        let mut elsewhere = record.clone();
        elsewhere.note_allowed("old", "c", at(1));
        assert_eq!(elsewhere.admissions.len(), record.admissions.len() + 1);
    }
    let mut younger = record.clone();
    younger.note_allowed("new", "a", at(1));
    assert_eq!(
        younger.allows(&one, "s1", "a"),
        Err(ListNeed::Crowded),
        "a session that is not listed has no known place"
    );
    younger.take(&[session("s1", 50, &["a"]), session("new", -1, &[])], younger.mark(), 2);
    assert_eq!(younger.allows(&one, "s1", "a"), Ok(()), "now it is known to be younger");
}

#[test]
fn nothing_is_subtracted_and_unknown_applications_belong_to_every_limit() {
    let (one, users) = (policy(&json!({})), policy(&json!({ "limits": { "perUser": 1 } })));
    let unknown = ListedSession { clients: None, ..session("old", 100, &[]) };
    let record = with(&[unknown, session("s1", 50, &["a"])]);
    assert_eq!(record.allows(&one, "s1", "a"), Err(ListNeed::Crowded));
    assert_eq!(record.allows(&one, "old", "a"), Err(ListNeed::Newcomer), "it holds nothing for certain");
    let idle = ListedSession { idle_expires_at: Some(at(-10)), ..session("old", 100, &["a"]) };
    let mut record = with(&[idle, session("s1", 50, &["a"])]);
    record.revoke("old", at(1));
    assert_eq!(record.allows(&one, "s1", "a"), Err(ListNeed::Crowded));
    let ended = |at_seconds| ListedSession { expires_at: Some(at(at_seconds)), ..session("old", 100, &["a"]) };
    assert_eq!(with(&[ended(-59), session("s1", 50, &["a"])]).allows(&one, "s1", "a"), Err(ListNeed::Crowded));
    assert_eq!(with(&[ended(-61), session("s1", 50, &["a"])]).allows(&one, "s1", "a"), Ok(()));
    // A store whose clock is hours ahead says nothing about the end of a session.
    let mut list = list(&[ended(3_600), session("s1", 50, &["a"])]);
    for clock_ahead in [-100_000, 0, 100_000] {
        // Nor does that of a tenant whose `Date` is wrong: a session that may live stays.
        list.set_time(at(0), SignedDuration::from_secs(clock_ahead));
        let mut record = Record::default();
        record.take_list(&entries(&list, SessionCode::of), 0, at(7_200), HOUR, at(7_200));
        assert_eq!(record.allows_at(&one, "s1", "a", 7_260, true), Err(ListNeed::Crowded), "{clock_ahead}");
    }
    // Without applications a login never completed.
    let record = with(&[session("old", 100, &[]), session("s1", 50, &["a"])]);
    assert_eq!(record.allows(&users, "s1", "a"), Ok(()));
    assert_eq!(record.allows_at(&users, "s1", "a", 60, false), Err(ListNeed::Crowded), "another replica may know more");
}

#[test]
fn equal_beginnings_come_before_and_missing_ones_hold_nothing() {
    let one = policy(&json!({}));
    let record = with(&[session("s1", 50, &["a"]), session("s2", 50, &["a"])]);
    assert_eq!(record.allows(&one, "s1", "a"), Err(ListNeed::Crowded));
    assert_eq!(record.allows(&one, "s2", "a"), Err(ListNeed::Crowded));
    let undated = ListedSession { created_at: None, ..session("s0", 0, &["a"]) };
    let record = with(&[undated, session("s1", 50, &["a"])]);
    assert_eq!(record.allows(&one, "s0", "a"), Err(ListNeed::Newcomer));
    assert_eq!(record.allows(&one, "s1", "a"), Err(ListNeed::Crowded));
}

#[test]
fn holder_of_every_limit_is_allowed_under_a_revoking_strategy() {
    let evicting =
        policy(&json!({ "strategy": "RevokeOldest", "limits": { "perClient": 1, "perGroup": 1, "perUser": 1 } }));
    let record = with(&[session("old", 100, &["a", "b"]), session("s1", 50, &["a"])]);
    assert_eq!(record.allows(&evicting, "s1", "a"), Ok(()));
    assert_eq!(record.allows(&evicting, "s1", "b"), Err(ListNeed::Newcomer));
}

#[test]
fn only_a_later_list_replaces_the_listing() {
    let one = policy(&json!({}));
    let mut record = with(&[session("old", 100, &["b"]), session("s1", 50, &["a"])]);
    let before = record.mark();
    // Two lists overlap: each shows what the other does not.
    record.take(&[session("old", 100, &["a"]), session("s1", 50, &["a"])], before, 10);
    let newest = record.mark();
    assert_ne!(before, newest);
    record.take(&[session("s1", 50, &["a"])], before, 5);
    assert_eq!(record.allows(&one, "s1", "a"), Err(ListNeed::Crowded), "an older list commits last");
    assert_eq!(record.listing.as_ref().unwrap().span().0, at(5), "the earlier time stays");
    record.take(&[session("s1", 50, &["a"])], newest, 100);
    assert_eq!(record.allows(&one, "s1", "a"), Err(ListNeed::Crowded), "a server's clock is ahead");
    let joined = record.mark();
    record.take(&[session("s1", 50, &["a"])], joined, 1);
    assert_eq!(record.allows(&one, "s1", "a"), Ok(()), "this one was requested later, whatever the clocks say");
}

#[test]
fn same_list_twice_writes_once() {
    let sessions = [session("old", 100, &["b"]), session("s1", 50, &["a"])];
    let mut record = with(&sessions);
    let before = record.clone();
    record.take(&sessions, 0, 0);
    assert_eq!(record, before);
}

#[test]
fn incomplete_list_removes_the_listing_and_older_ones_do_not_come_back() {
    let one = policy(&json!({}));
    let pages = |sessions: &[ListedSession]| {
        let mut list = list(sessions);
        list.set_several_pages();
        list
    };
    let many: Vec<ListedSession> = (0..51).map(|n| session(&n.to_string(), n, &["a"])).collect();
    for incomplete in [pages(&[session("s1", 50, &["a"])]), SessionList::of_unknown_user(), list(&many)] {
        assert!(!incomplete.is_of_one_moment());
        let mut record = with(&[session("s1", 50, &["a"])]);
        let mark = record.mark();
        record.take_incomplete_list(at(10), |_, _| false);
        assert_eq!(record.lasts(at(10)), LISTS_LAST, "an empty record remembers that");
        assert_eq!(record.allows(&one, "s1", "a"), Err(ListNeed::Unlisted));
        for (mark, since) in [(0, 9), (mark, 9), (0, 69)] {
            record.take(&[session("s1", 50, &["a"])], mark, since);
            assert_eq!(record.allows(&one, "s1", "a"), Err(ListNeed::Unlisted), "it may have been requested before");
        }
        record.take(&[session("s1", 50, &["a"])], 0, 70);
        assert_eq!(record.allows_at(&one, "s1", "a", 80, true), Ok(()));
    }
    assert!(list(&many[..50]).is_of_one_moment());
}

#[test]
fn list_whose_listing_the_server_lost_is_not_taken() {
    let listed = [session("s1", 50, &["a"])];
    let mark = with(&listed).mark();
    // The record of a server that lost its keys while the list was requested.
    let mut lost = Record::default();
    lost.take(&listed, mark, 10);
    assert_eq!(lost.listing, None, "it may lack what the lost listing showed");
    lost.take(&listed, lost.mark(), 10);
    assert!(lost.listing.is_some());
}

#[test]
fn entry_without_a_listing_outlasts_its_login_and_the_list_of_that_time() {
    let mut record = Record::default();
    record.note_allowed("s1", "a", at(0));
    record.note_blocked("s2", "a", at(0));
    // The last answer that renews nothing.
    record.note_allowed("s1", "a", at(300));
    record.note_blocked("s2", "a", at(300));
    // Auth0 gives a login an hour. A list that was requested before it completes is decided ten seconds later.
    record.expire(at(300 + 3_600 + 10));
    assert_eq!((record.admissions.len(), record.blocked.len()), (1, 1));
    record.take(&[], 0, 300 + 3_600);
    assert_eq!((record.admissions.len(), record.blocked.len()), (1, 1), "this list can be too early");
}

#[test]
fn entry_stays_until_a_stored_listing_settles_it() {
    let one = policy(&json!({}));
    let listed = [session("old", 100, &["b"]), session("s1", 50, &["a"])];
    let mut record = with(&listed);
    record.note_allowed("old", "a", at(1));
    let pending = PENDING_FOR.as_secs() as i64;
    record.expire(at(3_659));
    assert_eq!(record.admissions.len(), 1);
    record.take(&listed, record.mark(), pending + 1);
    assert_eq!(record.admissions.len(), 1, "it may complete to the last moment");
    record.take(&listed, record.mark(), pending + 2);
    assert_eq!(record.admissions.len(), 0);
    assert_eq!(record.allows_at(&one, "s1", "a", pending + 3, true), Ok(()));

    record.note_blocked("old", "a", at(pending + 4));
    record.take(&[session("old", 100, &["a", "b"]), session("s1", 50, &["a"])], record.mark(), pending + 5);
    assert_eq!(record.blocked.len(), 0, "it is shown");
    record.take(&listed[1..], record.mark(), pending + 6);
    assert_eq!(record.allows_at(&one, "s1", "a", pending + 7, true), Ok(()), "it has logged out");
}

#[test]
fn entry_lasts_as_long_as_the_listing_and_is_renewed() {
    let (mut record, now) = (Record::default(), at(0));
    record.take_list(&[], 0, now, 168 * HOUR, now);
    record.note_allowed("s1", "a", now);
    record.note_blocked("s2", "a", now);
    assert_eq!(record.lasts(now), 168 * HOUR);
    record.expire(at(167 * 3_600));
    assert_eq!((record.admissions.len(), record.blocked.len()), (1, 1));
    record.expire(at(168 * 3_600));
    assert!(record.is_empty(), "they end together");

    record.note_allowed("s1", "a", now);
    let before = record.clone();
    record.note_allowed("s1", "a", at(299));
    assert_eq!(record, before, "no write for the same login");
    record.note_allowed("s1", "a", at(301));
    record.expire(later(now, PENDING_FOR));
    assert_eq!(record.admissions.len(), 1);
}

#[test]
fn block_keeps_what_was_allowed_before() {
    let one = policy(&json!({}));
    let mut record = with(&[session("old", 100, &["b"]), session("s1", 50, &["a"])]);
    let (window, longest_check) = (Duration::from_secs(600), Duration::from_secs(3));
    let terms = Terms { window, longest_check, listing_kept_for: HOUR, enforced: true, claims: true };
    record.admit("old", "a", terms, at(1), at(1));
    assert_eq!(record.counting(at(2)).count(), 1);
    record.block("old", "a", at(3));
    assert_eq!(record.counting(at(2)).count(), 0);
    assert_eq!(record.allows(&one, "s1", "a"), Err(ListNeed::Crowded));
    record.revoke("old", at(4));
    record.claim("old", "s3", "a");
    assert_eq!(record.allows(&one, "s1", "a"), Err(ListNeed::Crowded));
}

#[test]
fn one_block_too_many_removes_the_listing_for_an_hour() {
    let one = policy(&json!({}));
    let listed = [session("s1", 50, &["a"])];
    let mut record = with(&listed);
    for number in 0..MAX_BLOCKED {
        record.note_blocked(&number.to_string(), "b", at(1));
    }
    assert_eq!(record.allows(&one, "s1", "a"), Ok(()));
    record.note_blocked("more", "b", at(1));
    assert_eq!((record.blocked.len(), record.mark()), (MAX_BLOCKED, 0));
    let until = 1 + PENDING_FOR.as_secs() as i64;
    for (since, need) in [(2, Err(ListNeed::Unlisted)), (until - 1, Err(ListNeed::Unlisted)), (until, Ok(()))] {
        record.take(&listed, record.mark(), since);
        assert_eq!(record.allows_at(&one, "s1", "a", since, true), need, "what was forgotten may complete");
    }
}

#[test]
fn cap_that_forgets_an_entry_forgets_the_listing() {
    let mut record = with(&[session("s1", 50, &["a"])]);
    record.note_allowed("s2", "a", at(1));
    record.note_allowed("s3", "a", at(1));
    let mut shortened = record.clone();
    assert_eq!(shortened.shorten(2, at(2)), 1);
    assert_eq!(
        (shortened.listing.is_none(), shortened.admissions.len(), shortened.blind_until),
        (true, 2, Some(later(at(2), LISTS_LAST)))
    );
    assert_eq!(record.shorten(1, at(2)), 2);
    assert_eq!((record.listing.is_none(), record.admissions.len()), (true, 1));
    assert_eq!(record.blind_until, Some(later(at(2), PENDING_FOR)));
}

#[test]
fn incomplete_list_settles_what_it_shows_and_no_older_list_becomes_the_listing() {
    let mut record = Record::default();
    record.note_allowed("s1", "a", at(1));
    record.note_blocked("s2", "a", at(1));
    record.note_allowed("s3", "a", at(1));
    record.take_incomplete_list(at(1), |sid, _| sid != "s3");
    assert_eq!((record.admissions.len(), record.blocked.len()), (1, 0));
    record.take(&[], 0, 0);
    assert_eq!(record.listing, None, "it may lack what is settled");
    record.take(&[], 0, 61);
    assert!(record.listing.is_some());
}

#[test]
fn robot_has_a_short_record_and_no_listing() {
    let mut record = with(&[]);
    for number in 0..1_000 {
        record.note_allowed(&number.to_string(), "a", at(1));
        record.shorten(4_000, at(1));
    }
    assert_eq!((record.admissions.len(), record.listing.is_none()), (MAX_PENDING, true));
    assert_eq!(record.blind_until, Some(later(at(1), PENDING_FOR)));
}

#[test]
fn older_replica_drops_the_listing_and_keeps_what_counts() {
    let mut record = with(&[session("s1", 50, &["a"])]);
    record.note_allowed("s2", "a", at(1));
    record.note_blocked("s3", "a", at(1));
    record.revision = 7;
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    // The fields that it needs, with times that it can read. It ignores the others.
    let value: Value = serde_json::from_str(&text).unwrap();
    let admission = &value["admissions"][0];
    for field in ["sid", "client_id", "admitted_at", "counts_until", "kept_until"] {
        assert!(admission[field].is_string(), "{admission}");
    }
    assert!(value["revoked"].is_array() && value["revision"] == 7);
    assert!(admission["counts_until"].as_str().unwrap().parse::<Timestamp>().unwrap() < at(0), "it never counts there");
    // A listing of another version, or none at all, is no listing.
    for other in [json!("AgAA"), json!(7), json!({ "v": 2 }), json!("not base 64"), Value::Null] {
        let mut newer = value.clone();
        newer["listing"] = other;
        let read: Record = serde_json::from_value(newer).unwrap();
        assert_eq!((read.listing, read.admissions.len()), (None, 1));
    }
}

#[test]
fn record_of_three_sessions_takes_under_300_bytes() {
    let ids =
        ["00112233445566778899aabbccddeef0", "00112233445566778899aabbccddeef1", "00112233445566778899aabbccddeef2"];
    let (shop, forum) = ("3XbTcMvJ0aQpLqkOyRZ5dUe7wHnGi8s1", "x9KfVbN2mLqWzE4rTgY7uHjI0pAsD6cF");
    let sessions: Vec<ListedSession> =
        ids.iter().enumerate().map(|(n, id)| session(id, 86_400 * (1 + n as i64), &[shop, forum])).collect();
    let mut record = with(&sessions);
    record.revision = u64::MAX;
    let text = serde_json::to_string(&record).unwrap();
    assert!(text.len() < 300, "{} {text}", text.len());
}

/// The table in docs/policy.md, by which people choose `recheckAfter`.
#[tokio::test(start_paused = true)]
async fn login_shown_by_a_list_that_is_not_stored_is_an_admission() {
    let (one, ledger) = (policy(&json!({})), Arc::new(Ledger::new(Memory::new(10))));
    let younger = session("s1", 50, &["a"]);
    // The replica of the second check does not know yet that a policy remembers.
    for (sid, kept_for, clients, allowed) in
        [("s1", HOUR, &["b"][..], Ok(())), ("old", Duration::ZERO, &["a", "b"], Err(ListNeed::Crowded))]
    {
        let login = login(sid, "a");
        let check = one.pre_checks(&login, at(0)).unwrap();
        let (window, longest_check) = (Duration::ZERO, Duration::from_secs(3));
        let terms = Terms { window, longest_check, listing_kept_for: kept_for, enforced: true, claims: true };
        let key = SessionKey::new(UserKey::new("t", "u"), sid, "a");
        let mut attempt = ledger.begin(key.clone(), terms, Instant::now()).await;
        let sessions = list(&[session("old", 100, clients), younger.clone()]);
        let decide = |admissions: &[_], revoked: &HashSet<String>, origins: &Origins| {
            let now = Timestamp::now();
            check.decide(LimitInputs { sessions: &sessions, admissions, revoked, origins, now })
        };
        let (since, deadline) = (attempt.since(), Instant::now() + longest_check);
        assert!(matches!(attempt.admit(&sessions, since, deadline, decide).await, Ok(Decision::Within { .. })));
        attempt.finish(Default::default(), true, deadline).await;
        let again = ledger.begin(key, terms, Instant::now()).await;
        let record = &again.record;
        let now = record.listing.as_ref().unwrap().contents().since.as_second() - at(0).as_second();
        assert_eq!(record.allows_at(&one, "s1", "a", now, true), allowed);
    }
}

#[tokio::test(start_paused = true)]
async fn renewing_users_need_as_many_lists_as_documented() {
    /// Each stands for a hundred.
    const USERS: u32 = 100;
    const RENEWAL_INTERVAL: Duration = Duration::from_secs(600);
    let documentation = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policy.md")).unwrap();
    let policy = policy(&json!({}));
    let login = login("s", "a");
    let check = policy.pre_checks(&login, at(0)).unwrap();
    let sessions = list(&[session("s", 50, &["a"])]);
    for (recheck_after, minutes) in [("0s", 0), ("5m", 5), ("15m", 15), ("30m", 30), ("1h", 60)] {
        let (ledger, mut lists) = (Arc::new(Ledger::new(Memory::new(100_000))), 0);
        let recheck = Duration::from_secs(60 * minutes);
        let (window, longest_check) = (Duration::from_secs(10), Duration::from_secs(3));
        let terms =
            Terms { window, longest_check, listing_kept_for: listing_kept_for(recheck), enforced: true, claims: true };
        let began = Instant::now();
        // Whole hours, so that every setting completes its cycles.
        while began.elapsed() < Duration::from_secs(2 * 3_600) {
            for user in 0..USERS {
                let key = SessionKey::new(UserKey::new("t", &user.to_string()), "s", "a");
                let mut attempt = ledger.begin(key, terms, Instant::now()).await;
                if attempt.recall(&check, recheck).is_err() {
                    lists += 100;
                    let decide = |admissions: &[_], revoked: &HashSet<String>, origins: &Origins| {
                        let now = Timestamp::now();
                        check.decide(LimitInputs { sessions: &sessions, admissions, revoked, origins, now })
                    };
                    let (since, deadline) = (attempt.since(), Instant::now() + longest_check);
                    let decision = attempt.admit(&sessions, since, deadline, decide).await;
                    assert!(matches!(decision, Ok(Decision::Within { holder: true, .. })));
                    attempt.finish(Default::default(), true, deadline).await;
                }
            }
            // All at the same time: the count is the same when they are spread over the ten minutes.
            tokio::time::advance(RENEWAL_INTERVAL).await;
        }
        let row = format!("| `{recheck_after}` | {:.1} |\n", f64::from(lists) / began.elapsed().as_secs_f64());
        assert!(documentation.contains(&row), "docs/policy.md lacks {row}");
    }
}
