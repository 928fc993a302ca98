//! Which decisions are recorded, and how they are found.

use super::*;
use crate::policy::{Count, Failure, LimitScope};

fn log() -> DecisionLog {
    DecisionLog::new(hmac::Key::new(hmac::HMAC_SHA256, b"tests"), None, &MetricRegistry::new())
}

fn note(log: &DecisionLog, user: &str, request_id: &str, answer: &Answer) {
    let check = RecordedCheck {
        request_id,
        user: log.hash_number(user),
        client_id: "app",
        tenant: "acme.eu.auth0.com",
        generation: Some(3),
        limit_check: None,
        took: Duration::from_millis(12),
        listing_age: Some(Duration::from_secs(90)),
    };
    log.note(answer, &check, std::iter::empty(), |_| (None, None));
}

fn blocked() -> Answer {
    let count = Count { limit_scope: LimitScope::User, limit: 1, active: 2, at_least: false };
    Answer { block: true, count: Some(count), ..Answer::allow(Reason::LimitExceeded) }
}

async fn requests(log: &DecisionLog, query: DecisionQuery) -> Vec<String> {
    log.find(&DecisionQuery { limit: 100, ..query }).await.0.into_iter().map(|record| record.request_id).collect()
}

#[tokio::test]
async fn every_decision_that_is_no_plain_permission_is_recorded() {
    let log = log();
    let answers = [
        blocked(),
        Answer { audited_reason: Some(Reason::LimitExceeded), ..Answer::allow(Reason::Audit) },
        Answer::allow(Reason::Evicted),
        Answer::allow(Reason::Failed(Failure::UpstreamTimeout)),
        Answer::allow(Reason::TenantUnknown),
        Answer::allow(Reason::TenantAmbiguous),
    ];
    for (number, answer) in answers.iter().enumerate() {
        note(&log, "u", &number.to_string(), answer);
    }
    assert_eq!(requests(&log, DecisionQuery::default()).await.len(), answers.len());
    let plain = self::log();
    for _ in 0..2_000 {
        note(&plain, "u", "r", &Answer::allow(Reason::WithinLimit));
    }
    let sampled = plain.memory.texts().len();
    assert!((1..200).contains(&sampled), "{sampled} of 2,000 permissions");
}

#[tokio::test]
async fn records_are_found_by_user_request_and_time_latest_first() {
    let log = log();
    for (user, request) in [("u", "1"), ("v", "2"), ("u", "3")] {
        note(&log, user, request, &blocked());
    }
    let user = Some(log.hash("u"));
    assert_eq!(requests(&log, DecisionQuery { user, ..DecisionQuery::default() }).await, ["3", "1"]);
    let request_id = Some("2".to_owned());
    assert_eq!(requests(&log, DecisionQuery { request_id, ..DecisionQuery::default() }).await, ["2"]);
    let since = Some(Timestamp::now() + Duration::from_secs(60));
    assert_eq!(requests(&log, DecisionQuery { since, ..DecisionQuery::default() }).await, Vec::<String>::new());
    let until = Some(Timestamp::now() - Duration::from_secs(60));
    assert_eq!(requests(&log, DecisionQuery { until, ..DecisionQuery::default() }).await, Vec::<String>::new());
    let (since, until) = (until, since);
    assert_eq!(requests(&log, DecisionQuery { since, until, ..DecisionQuery::default() }).await, ["3", "2", "1"]);
    let (latest, is_shared) = log.find(&DecisionQuery { limit: 1, ..DecisionQuery::default() }).await;
    assert_eq!((latest[0].request_id.as_str(), is_shared), ("3", false));
    assert_eq!(latest[0].listing_age_s, Some(90), "it says by which list the login was allowed");
}

#[test]
fn record_holds_neither_user_nor_session_ids() {
    let log = log();
    let check = RecordedCheck {
        request_id: "r",
        user: log.hash_number("auth0|anna"),
        client_id: "app",
        tenant: "acme.eu.auth0.com",
        generation: None,
        limit_check: None,
        took: Duration::ZERO,
        listing_age: None,
    };
    let session = || SessionView { id: "sess_1", created_at: None, last_used_at: None, ends_at: None, clients: None };
    let role = SessionRole::Counts(vec![LimitScope::Client]);
    let sessions = (0..MAX_SESSIONS + 3).map(|_| (session(), &role));
    log.note(&blocked(), &check, sessions, |_| (Some("Chrome"), None));
    let text = &log.memory.texts()[0];
    assert!(!text.contains("anna") && !text.contains("sess_1"), "{text}");
    let record = read(text).unwrap();
    assert_eq!((record.sessions.len(), record.more_sessions), (MAX_SESSIONS, 3));
    assert_eq!(
        (record.sessions[0].session.clone(), record.sessions[0].limits.clone()),
        (log.hash("sess_1"), vec!["client".to_owned()])
    );
    assert_eq!((record.sessions[0].browser.as_deref(), &record.sessions[0].system), (Some("Chrome"), &None));
}

#[test]
fn record_of_a_replica_of_the_last_version_is_read() {
    let log = log();
    note(&log, "u", "1", &blocked());
    let mut value: serde_json::Value = serde_json::from_str(&log.memory.texts()[0]).unwrap();
    value["sessions"] = serde_json::json!([{ "session": "1", "role": "other", "limits": [] }]);
    let record = read(&value.to_string()).expect("without browser and system");
    assert_eq!(record.sessions[0].browser, None);
}

#[test]
fn exported_record_has_the_hashes_and_no_ids() {
    let log = log();
    note(&log, "auth0|anna", "request-1", &blocked());
    let text = log.memory.texts()[0].to_string();
    let exported = exported(&read(&text).unwrap(), text.clone(), false);
    let attribute = |name: &str| exported.attributes.iter().find(|(key, _)| *key == name).map(|(_, value)| &**value);
    assert_eq!(attribute("session_checker.user"), Some(&*log.hash("auth0|anna")));
    assert_eq!(attribute("session_checker.request_id"), Some("request-1"));
    assert_eq!((attribute("session_checker.reason"), exported.body.as_str()), (Some("limit_exceeded"), &*text));
    assert!(!format!("{:?}{}", exported.attributes, exported.body).contains("anna"));
}
