//! The audit without sockets: what becomes of a batch, and what is never said.

use super::*;

const TENANT: &str = "acme.eu.auth0.com";

/// Logins complete within a second of their check, clocks agree, and nothing waits for long.
const TIMING: CoverageTiming = CoverageTiming {
    longest_login: Duration::from_secs(1),
    clock_skew: Duration::ZERO,
    quiet_before: Duration::from_secs(2),
    patience: Duration::from_secs(1),
    tick: Duration::from_secs(1),
    exchange: Duration::from_secs(1),
};

struct Audit {
    coverage: Coverage,
    registry: MetricRegistry,
}

fn audit(has_peers: bool, timing: CoverageTiming) -> Audit {
    let registry = MetricRegistry::new();
    let options = CoverageOptions { receives: true, has_peers, timing };
    Audit { coverage: Coverage::new(options, None, &registry, Arc::default()), registry }
}

fn policy() -> ObjectName {
    ObjectName::new("team", "seats")
}

fn login(sid: &str, at: Timestamp) -> ReportedLogin {
    let (sid, client_id) = (Some(sid.to_owned()), Some("app".to_owned()));
    ReportedLogin { sid, client_id, organization_id: None, connection: None, at: Some(at) }
}

fn entry(id: usize, login: ReportedLogin) -> LogEntry {
    LogEntry { log_id: Some(id.to_string()), login: Some(login) }
}

impl Audit {
    fn receive(&self, entries: Vec<LogEntry>) -> Result<(), Busy> {
        self.coverage.receive(&TENANT.into(), LogEntries { entries, malformed: 0 }, |_| vec![policy()])
    }

    async fn judged(&self, entries: Vec<LogEntry>) {
        self.receive(entries).unwrap();
        self.coverage.judge_pending().await;
    }

    /// Yes, no and unknown, in the metric.
    fn seen(&self) -> [u64; 3] {
        let live = crate::metrics::LiveSeries::new([(policy().to_string(), TENANT)]);
        let text = self.registry.scrape(&live);
        Checked::ALL.map(|checked| {
            let labels = format!("{{checked=\"{}\",tenant=\"{TENANT}\"}} ", checked.as_str());
            let series = format!("session_checker_logins_seen_total{labels}");
            text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |value| value.parse().unwrap())
        })
    }
}

#[tokio::test]
async fn login_is_checked_by_session_and_application() {
    let audit = audit(false, TIMING);
    audit.coverage.note_check(Some("a"), "app", true);
    audit.coverage.note_check(Some("b"), "other", true);
    let now = Timestamp::now();
    audit.judged(vec![entry(1, login("a", now)), entry(2, login("b", now)), entry(3, login("c", now))]).await;
    assert_eq!(audit.seen(), [1, 2, 0]);
    let evidence = audit.coverage.evidence(&policy());
    assert_eq!(evidence, LoginEvidence::Seen { checked: 1, unchecked: 2, unknown: 0 });
}

#[tokio::test]
async fn entry_counts_once_whatever_the_batch() {
    let audit = audit(false, TIMING);
    let now = Timestamp::now();
    let batch = || vec![entry(2, login("b", now)), entry(1, login("a", now)), entry(2, login("b", now))];
    audit.judged(batch()).await;
    audit.judged(batch()).await;
    assert_eq!(audit.seen(), [0, 2, 0]);
    let other: Arc<str> = "other.eu.auth0.com".into();
    audit.coverage.receive(&other, LogEntries { entries: batch(), malformed: 0 }, |_| Vec::new()).unwrap();
    assert_eq!(audit.coverage.lock().pending.len(), 2, "another tenant has its own ids");
}

#[tokio::test]
async fn login_that_names_no_session_is_unknown() {
    let audit = audit(false, TIMING);
    let now = Timestamp::now();
    let without = [
        ReportedLogin { sid: None, ..login("a", now) },
        ReportedLogin { client_id: None, ..login("a", now) },
        ReportedLogin { at: None, ..login("a", now) },
    ];
    audit.judged(without.into_iter().enumerate().map(|(id, login)| entry(id, login)).collect()).await;
    assert_eq!(audit.seen(), [0, 0, 3]);
}

#[tokio::test]
async fn check_without_a_session_may_be_of_any_login_of_the_application() {
    let audit = audit(false, TIMING);
    audit.coverage.note_check(None, "app", true);
    let now = Timestamp::now();
    let elsewhere = ReportedLogin { client_id: Some("other".to_owned()), ..login("a", now) };
    audit.judged(vec![entry(1, login("a", now)), entry(2, elsewhere)]).await;
    assert_eq!(audit.seen(), [0, 1, 1]);
}

#[tokio::test]
async fn check_after_the_login_says_nothing_of_it() {
    // Both logins completed before any check. The session and the application are checked later.
    let audit = audit(false, TIMING);
    let now = Timestamp::now();
    tokio::time::sleep(Duration::from_millis(1)).await;
    audit.coverage.note_check(Some("a"), "app", true);
    audit.judged(vec![entry(1, login("a", now)), entry(2, login("b", now))]).await;
    assert_eq!(audit.seen(), [0, 1, 1]);
    audit.coverage.note_check(None, "app", true);
    audit.judged(vec![entry(3, login("c", now))]).await;
    assert_eq!(audit.seen(), [0, 1, 2], "one before the login may have named no session either");
}

#[tokio::test]
async fn entry_of_any_date_is_judged() {
    let audit = audit(false, CoverageTiming::default());
    for (id, at) in [Timestamp::MIN, Timestamp::MAX].into_iter().enumerate() {
        audit.coverage.note_check(Some("a"), "app", true);
        audit.judged(vec![entry(id, login("a", at)), entry(10 + id, login("b", at))]).await;
    }
    assert_eq!((audit.seen()[0], audit.seen()[1]), (0, 0));
}

#[tokio::test]
async fn login_before_the_start_is_unknown() {
    let audit = audit(false, TIMING);
    audit.judged(vec![entry(1, login("a", Timestamp::now() - Duration::from_secs(5)))]).await;
    assert_eq!(audit.seen(), [0, 0, 1]);
}

#[tokio::test]
async fn login_is_unknown_where_others_check_and_share_nothing() {
    let audit = audit(true, TIMING);
    audit.coverage.note_check(Some("a"), "app", true);
    let now = Timestamp::now();
    audit.judged(vec![entry(1, login("a", now)), entry(2, login("b", now))]).await;
    assert_eq!(audit.seen(), [1, 0, 1]);
    assert_eq!(audit.coverage.evidence(&policy()), LoginEvidence::NotShared);
}

#[tokio::test(start_paused = true)]
async fn login_waits_until_its_time_is_known() {
    let audit = audit(false, CoverageTiming { clock_skew: Duration::from_secs(60), ..TIMING });
    let later = Timestamp::now() + Duration::from_secs(3600);
    audit.judged(vec![entry(1, login("a", later)), entry(2, login("b", later))]).await;
    assert_eq!((audit.seen(), audit.coverage.lock().pending.len()), ([0, 0, 0], 2));
    audit.coverage.note_check(Some("a"), "app", true);
    let login_of_an_early_clock = Timestamp::now() + Duration::from_secs(30);
    audit.judged(vec![entry(3, login("a", login_of_an_early_clock))]).await;
    assert_eq!(audit.seen(), [1, 0, 0]);
    tokio::time::advance(TIMING.patience).await;
    audit.coverage.judge_pending().await;
    assert_eq!((audit.seen(), audit.coverage.lock().pending.len()), ([1, 0, 2], 0));
}

#[tokio::test]
async fn batch_is_not_taken_while_too_many_logins_wait() {
    let audit = audit(false, TIMING);
    let now = Timestamp::now();
    let batch = |from: usize| (from..from + 1000).map(|id| entry(id, login(&id.to_string(), now))).collect::<Vec<_>>();
    for from in (0..MAX_PENDING).step_by(1000) {
        audit.receive(batch(from)).unwrap();
    }
    assert_eq!(audit.receive(batch(MAX_PENDING)), Err(Busy));
    audit.coverage.judge_pending().await;
    audit.judged(batch(MAX_PENDING)).await;
    assert_eq!(audit.seen(), [0, MAX_PENDING as u64 + 1000, 0], "what was not taken is not known by its id");
}

#[tokio::test]
async fn ids_of_entries_are_bounded() {
    let audit = audit(false, TIMING);
    for from in (0..MAX_LOG_IDS + 5000).step_by(1000) {
        let ids = from..from + 1000;
        let entries = ids.map(|id| LogEntry { log_id: Some(id.to_string()), login: None }).collect();
        audit.receive(entries).unwrap();
    }
    assert_eq!(audit.coverage.lock().log_ids.len(), MAX_LOG_IDS);
}

#[tokio::test]
async fn nothing_is_remembered_without_a_receiver() {
    let registry = MetricRegistry::new();
    let coverage = Coverage::new(CoverageOptions::default(), None, &registry, Arc::default());
    coverage.note_check(Some("a"), "app", false);
    assert_eq!(coverage.marks.last(coverage.marks.key("a", "app")), None);
    assert_eq!(coverage.evidence(&policy()), LoginEvidence::NotReceived);
}
