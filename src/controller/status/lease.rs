//! Leader election by a Lease: one of the replicas writes the status of policies and Events. Checks do not depend on it.
//!
//! The election works as in `client-go`: the leader renews the Lease, and a candidate that sees it unchanged for its whole
//! duration takes it over. A candidate measures this time with its own monotonic clock, so the clocks of nodes need not
//! agree. Every write names the resource version that it replaces, so only one of several candidates succeeds. Candidates
//! watch the Lease instead of polling it, and see at once when a leader releases it.
//!
//! It is written here because `kube-runtime` has no election, and those of `kubert` and `kube-lease-manager` compare the
//! `renewTime` that another node wrote with the local wall clock, so that a clock that is off makes two leaders or none.

use std::time::Duration;

use futures::{StreamExt, pin_mut};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::controller::client::{FIELD_MANAGER, describe};
use crate::controller::objects::version;
use crate::controller::watch::one;

/// The log line of a failed write.
const NOT_WRITTEN: &str = "Lease cannot be written; retrying. Without it, this replica writes no status.";

/// How long the release of the Lease may take. It only speeds up the next election, so a shutdown does not wait longer.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// A replica that takes part in the election.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The name of the Lease.
    pub name: String,
    /// The identity of the process. No two processes ever have the same.
    pub identity: String,
    /// How long the Lease is valid after a renewal, in whole seconds.
    pub duration: Duration,
}

impl Candidate {
    /// Describes this process as a candidate for a Lease.
    pub fn new(name: &str, duration: Duration) -> Self {
        // In a Pod the host's name is the Pod's. The suffix differs between a container and the one before its restart.
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "session-checker".to_owned());
        let process = uuid::Uuid::new_v4().simple().to_string();
        Self { name: name.to_owned(), identity: format!("{host}_{}", &process[..8]), duration }
    }

    fn renew_interval(&self) -> Duration {
        self.duration / 3
    }

    /// How long after the start of a renewal the leader may act. The last third of the duration is left for a write that
    /// is in flight at that moment.
    fn leads_for(&self) -> Duration {
        self.duration * 2 / 3
    }

    /// The timeout of a request that only the leader may send: it ends before another replica can become the leader.
    pub fn request_timeout(&self) -> Duration {
        self.duration / 3
    }

    /// The pause after a failed write of the Lease: several attempts fit into one renewal interval.
    fn retry_pause(&self) -> Duration {
        self.renew_interval() / 5
    }
}

/// Whether this replica leads. Clones share the state.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

impl Leadership {
    /// Whether this replica leads, and will for as long as a request with
    /// [`request_timeout`](Candidate::request_timeout) may take.
    pub fn is_held(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until this replica leads.
    pub async fn held(&mut self) {
        if self.0.wait_for(|until| until.is_some_and(|until| Instant::now() < until)).await.is_err() {
            // The election has ended, so this replica will not lead again.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until this replica leads no longer.
    pub async fn lost(&mut self) {
        // The channel closes when the election ends, and leadership ends with it.
        let _ = self.0.wait_for(Option::is_none).await;
    }
}

/// What happened in an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionEvent {
    /// Whether this replica leads, at the start and after each change.
    Leads(bool),
    /// The Lease cannot be read or written. The election tries again.
    Failed,
}

/// Takes part in the election until `stop`, then releases the Lease.
pub fn run_election(
    api: Api<Lease>,
    candidate: Candidate,
    stop: CancellationToken,
    on_event: impl Fn(ElectionEvent) + Send + Sync + 'static,
) -> (Leadership, impl Future<Output = ()> + Send) {
    let (sender, receiver) = watch::channel(None);
    let election = async move {
        let leases = one(api.clone(), &candidate.name, std::convert::identity);
        pin_mut!(leases);
        let mut election = Election::new(candidate, Instant::now());
        on_event(ElectionEvent::Leads(false));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(observed) = leases.next() => match observed {
                    Ok(lease) => election.observe(lease, Instant::now()),
                    Err(error) => election.failed("Lease watch failed; retrying", error.to_string()),
                },
                () = sleep_until(election.next_attempt()), if election.observed.is_some() => {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => break,
                        () = election.acquire_or_renew(&api) => {}
                    }
                }
                () = sleep_until(election.leads_until.unwrap_or_else(Instant::now)), if election.leads_until.is_some() => {
                    election.leads_until = None;
                }
            }
            election.publish(&sender, &on_event);
        }
        election.leads_until = None;
        election.publish(&sender, &on_event);
        election.release(&api).await;
    };
    (Leadership(receiver), election)
}

/// What this candidate knows of the Lease.
struct Election {
    candidate: Candidate,
    /// The newest known version of the Lease: `None` before the first event, `Some(None)` when it does not exist.
    observed: Option<Option<Lease>>,
    /// Since when the spec of the Lease is unchanged, by the local clock.
    unchanged_since: Instant,
    /// No write before this moment, because the last one failed. A new version of the Lease ends the pause.
    retry_at: Instant,
    /// Until when this replica may act as the leader.
    leads_until: Option<Instant>,
    /// The last failure, until a write succeeds. The same is logged once: without a right to the Lease there is one every two
    /// seconds.
    failure: Option<String>,
    /// How many failures were not published yet.
    new_failures: u32,
}

impl Election {
    fn new(candidate: Candidate, now: Instant) -> Self {
        let (failure, new_failures) = (None, 0);
        Self {
            candidate,
            observed: None,
            unchanged_since: now,
            retry_at: now,
            leads_until: None,
            failure,
            new_failures,
        }
    }

    fn observe(&mut self, lease: Option<Lease>, now: Instant) {
        let known = self.observed.as_ref().and_then(Option::as_ref);
        // The watch may still show a version that a write of this replica has replaced.
        if let (Some(known), Some(new)) = (known, &lease)
            && version(&new.metadata) < version(&known.metadata)
            && new.metadata.uid == known.metadata.uid
        {
            return;
        }
        if self.observed.is_none()
            || known.and_then(|lease| lease.spec.as_ref()) != lease.as_ref().and_then(|lease| lease.spec.as_ref())
        {
            self.unchanged_since = now;
        }
        self.observed = Some(lease);
        self.retry_at = now;
        if !self.is_holder() {
            self.leads_until = None;
        }
    }

    fn spec(&self) -> Option<&LeaseSpec> {
        self.observed.as_ref()?.as_ref()?.spec.as_ref()
    }

    fn holder(&self) -> Option<&str> {
        self.spec()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    fn is_holder(&self) -> bool {
        self.holder() == Some(&self.candidate.identity)
    }

    /// When to write the Lease next: to renew it, or to take it over.
    fn next_attempt(&self) -> Instant {
        let due = match self.holder() {
            None => self.unchanged_since,
            Some(_) if self.is_holder() => self.unchanged_since + self.candidate.renew_interval(),
            Some(_) => {
                let seconds = self.spec().and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
                self.unchanged_since + seconds.map_or(self.candidate.duration, Duration::from_secs)
            }
        };
        due.max(self.retry_at)
    }

    /// The Lease with this candidate as its holder, and with the resource version that the write replaces.
    fn claim(&self, now: Timestamp) -> Lease {
        let last = self.observed.clone().flatten().unwrap_or_default();
        let is_renewal = self.is_holder();
        let spec = last.spec.unwrap_or_default();
        let now = MicroTime(now);
        Lease {
            metadata: ObjectMeta { name: Some(self.candidate.name.clone()), ..last.metadata },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.candidate.identity.clone()),
                lease_duration_seconds: Some(self.candidate.duration.as_secs().try_into().unwrap_or(i32::MAX)),
                acquire_time: if is_renewal { spec.acquire_time.clone() } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(spec.lease_transitions.unwrap_or(0) + i32::from(!is_renewal)),
                ..spec
            }),
        }
    }

    async fn acquire_or_renew(&mut self, api: &Api<Lease>) {
        let started = Instant::now();
        let claim = self.claim(Timestamp::now());
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let write = async {
            match claim.metadata.resource_version {
                Some(_) => api.replace(&self.candidate.name, &params, &claim).await,
                None => api.create(&params, &claim).await,
            }
        };
        match timeout(self.candidate.request_timeout(), write).await {
            Ok(Ok(lease)) => {
                self.observed = Some(Some(lease));
                // From the start of the request: other candidates see the write at some moment after it.
                self.unchanged_since = started;
                self.leads_until = Some(started + self.candidate.leads_for());
                if self.failure.take().is_some() {
                    tracing::info!(lease = self.candidate.name, "Lease can be written again");
                }
                return;
            }
            // Another candidate was faster. The watch will show which.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {}
            Ok(Err(error)) => self.failed(NOT_WRITTEN, describe(&error)),
            Err(_) => self.failed(NOT_WRITTEN, "the API server did not respond in time".to_owned()),
        }
        self.retry_at = Instant::now() + self.candidate.retry_pause();
    }

    /// Counts a failure, and logs it unless it is the last one again.
    fn failed(&mut self, message: &'static str, error: String) {
        self.new_failures += 1;
        if self.failure.as_ref() != Some(&error) {
            tracing::warn!(lease = self.candidate.name, error, "{message}");
            self.failure = Some(error);
        }
    }

    /// Publishes until when this replica leads, and reports a change and failures.
    fn publish(&mut self, sender: &watch::Sender<Option<Instant>>, on_event: impl Fn(ElectionEvent)) {
        for _ in 0..std::mem::take(&mut self.new_failures) {
            on_event(ElectionEvent::Failed);
        }
        let now = Instant::now();
        let leads_until = self.leads_until.filter(|until| now < *until);
        let led = sender.send_replace(leads_until).is_some();
        let leads = leads_until.is_some();
        if led != leads {
            tracing::info!(lease = self.candidate.name, leader = leads, "leadership changed");
            on_event(ElectionEvent::Leads(leads));
        }
    }

    /// Releases the Lease if this candidate holds it, so that the next leader need not wait for its end.
    async fn release(&self, api: &Api<Lease>) {
        let Some(Some(lease)) = self.observed.as_ref().filter(|_| self.is_holder()) else { return };
        let name = self.candidate.name.as_str();
        let mut lease = lease.clone();
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match timeout(RELEASE_TIMEOUT, api.replace(name, &params, &lease)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let error = describe(&error);
                tracing::warn!(lease = name, error, "Lease cannot be released. It expires instead.");
            }
            Err(_) => tracing::warn!(lease = name, "Lease cannot be released in time. It expires instead."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(30);

    fn candidate() -> Candidate {
        Candidate { name: "session-checker".to_owned(), identity: "us".to_owned(), duration: DURATION }
    }

    fn lease(version: u32, holder: Option<&str>, renewed: i64) -> Lease {
        Lease {
            metadata: ObjectMeta { resource_version: Some(version.to_string()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: Some(20),
                renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
                lease_transitions: Some(4),
                ..LeaseSpec::default()
            }),
        }
    }

    fn observed(leases: &[(u64, Option<Lease>)]) -> (Election, Instant) {
        let start = Instant::now();
        let mut election = Election::new(candidate(), start);
        for (second, lease) in leases {
            election.observe(lease.clone(), start + Duration::from_secs(*second));
        }
        (election, start)
    }

    #[test]
    fn missing_or_free_lease_is_acquired_at_once() {
        for lease in [None, Some(lease(1, None, 0)), Some(lease(1, Some(""), 0))] {
            let (election, start) = observed(&[(5, lease)]);
            assert_eq!(election.next_attempt(), start + Duration::from_secs(5));
        }
    }

    #[test]
    fn unchanged_lease_is_taken_over_after_its_duration() {
        let (election, start) =
            observed(&[(0, Some(lease(1, Some("other"), 0))), (8, Some(lease(2, Some("other"), 1)))]);
        assert_eq!(election.next_attempt(), start + Duration::from_secs(28));
    }

    #[test]
    fn change_without_renewal_does_not_extend_the_lease() {
        let (election, start) =
            observed(&[(0, Some(lease(1, Some("other"), 0))), (8, Some(lease(2, Some("other"), 0)))]);
        assert_eq!(election.next_attempt(), start + Duration::from_secs(20));
    }

    #[test]
    fn older_version_is_ignored() {
        let (mut election, start) = observed(&[(0, Some(lease(3, Some("us"), 0)))]);
        election.leads_until = Some(start + DURATION);
        election.observe(Some(lease(2, Some("other"), 0)), start);
        assert!(election.leads_until.is_some() && election.is_holder());
        election.observe(Some(lease(10, Some("other"), 0)), start);
        assert!(election.leads_until.is_none());
    }

    #[test]
    fn recreated_lease_is_observed_whatever_its_version() {
        let (mut election, start) = observed(&[(0, Some(lease(3, Some("us"), 0)))]);
        let mut recreated = lease(2, Some("other"), 0);
        recreated.metadata.uid = Some("another".to_owned());
        election.observe(Some(recreated), start);
        assert!(!election.is_holder());
    }

    #[test]
    fn leadership_ends_before_another_replica_can_lead() {
        let (election, start) = observed(&[(0, Some(lease(1, Some("us"), 0)))]);
        assert_eq!(election.next_attempt(), start + DURATION / 3);
        let candidate = candidate();
        assert!(candidate.leads_for() + candidate.request_timeout() <= candidate.duration);
    }

    #[test]
    fn takeover_counts_a_transition_and_renewal_does_not() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let (election, _) = observed(&[(0, Some(lease(7, Some("other"), 0)))]);
        let taken = election.claim(now);
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"), "the version that it replaces");
        let spec = taken.spec.unwrap();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("us"), Some(5)));
        assert_eq!((spec.acquire_time, spec.renew_time), (Some(MicroTime(now)), Some(MicroTime(now))));
        let (election, _) = observed(&[(0, Some(lease(8, Some("us"), 0)))]);
        let spec = election.claim(now).spec.unwrap();
        assert_eq!((spec.lease_transitions, spec.acquire_time), (Some(4), None));
        assert_eq!((spec.renew_time, spec.lease_duration_seconds), (Some(MicroTime(now)), Some(30)));
    }

    #[test]
    fn repeated_failure_is_counted_and_told_once() {
        let (mut election, _) = observed(&[(0, None)]);
        let (sender, _receiver) = watch::channel(None);
        let events = std::cell::RefCell::new(Vec::new());
        for _ in 0..3 {
            election.failed(NOT_WRITTEN, "403".to_owned());
            assert_eq!(election.failure.as_deref(), Some("403"));
            election.publish(&sender, |event| events.borrow_mut().push(event));
        }
        assert_eq!(events.into_inner(), [ElectionEvent::Failed; 3]);
    }

    #[test]
    fn failed_write_is_retried_after_a_pause_or_a_change() {
        let (mut election, start) = observed(&[(0, None)]);
        election.retry_at = start + Duration::from_secs(2);
        assert_eq!(election.next_attempt(), start + Duration::from_secs(2));
        election.observe(Some(lease(1, None, 0)), start + Duration::from_secs(1));
        assert_eq!(election.next_attempt(), start + Duration::from_secs(1));
    }
}
