use super::*;

fn at(seconds: u64) -> Timestamp {
    later(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds))
}

fn web_view() -> Origin {
    Origin::WebView { opened_by: "native".to_owned() }
}

fn sids(record: &Record, now: Timestamp) -> Vec<&str> {
    record.origins(now).map(|entry| entry.sid.as_str()).collect()
}

#[test]
fn origins_end_by_themselves_and_are_renewed_late() {
    let mut record = Record::default();
    record.note("agent", &Origin::Delegated, at(0));
    record.note("view", &web_view(), at(0));
    assert_eq!(sids(&record, at(7199)), ["agent", "view"]);
    assert_eq!(sids(&record, at(7200)), ["view"]);
    assert_eq!(record.lasts(at(0)), WEB_VIEW_FOR);
    let before = record.clone();
    record.note("agent", &Origin::Delegated, at(3599));
    assert_eq!(record, before, "a login that is checked again writes nothing");
    record.note("agent", &Origin::Delegated, at(3600));
    assert_eq!(sids(&record, at(10799)), ["view", "agent"]);
    record.expire(at(4 * 24 * 3600));
    assert!(record.is_empty());
}

#[test]
fn origins_are_bounded_and_forgotten_before_entries() {
    let mut record = Record::default();
    let forgotten = (0..MAX_ORIGINS + 5).map(|n| record.note(&n.to_string(), &web_view(), at(0)));
    assert_eq!(forgotten.sum::<usize>(), 5);
    assert_eq!((record.origins.len(), &*record.origins[0].sid), (MAX_ORIGINS, "5"));
    let terms = Terms {
        window: Duration::from_secs(10),
        longest_check: Duration::ZERO,
        listing_kept_for: Duration::ZERO,
        enforced: true,
        claims: true,
    };
    record.admit("s", "c", terms, at(0), at(0));
    assert_eq!(record.shorten(3, at(0)), MAX_ORIGINS + 1 - 3);
    assert_eq!((record.origins.len(), record.admissions.len()), (2, 1));
    assert_eq!(record.shorten(0, at(0)), 3);
}

#[test]
fn revoked_session_has_no_origin() {
    let mut record = Record::default();
    record.note("agent", &Origin::Delegated, at(0));
    record.revoke("agent", at(1));
    assert_eq!(sids(&record, at(1)), Vec::<&str>::new());
}

#[test]
fn records_of_older_and_newer_versions_are_read() {
    let old = r#"{"revision":7,"admissions":[],"revoked":[]}"#;
    let record: Record = serde_json::from_str(old).unwrap();
    assert_eq!(record, Record { revision: 7, ..Record::default() });
    assert_eq!(serde_json::to_string(&record).unwrap(), old, "an older replica reads it");
    let mut with_origins = record;
    with_origins.note("view", &web_view(), at(0));
    let text = serde_json::to_string(&with_origins).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), with_origins);
    let newer = text.replacen('{', r#"{"added_later":[1],"#, 1);
    assert_eq!(serde_json::from_str::<Record>(&newer).unwrap(), with_origins);
}
