//! The Lease: which of the replicas speaks for all of them, in the status of policies and in Events. Checks never depend on it.
//!
//! As `client-go` elects: the holder renews the Lease, and whoever sees it unchanged for its whole duration takes it over. Only
//! the time that passes here is measured, so that clocks of nodes need not agree; every write names the version that it
//! replaces, so that of several who take it one does. A candidate watches the Lease instead of asking for it time and
//! again, and learns at once when a holder gives it back.

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

use crate::controller::{FIELD_MANAGER, watch::one};

/// A replica that asks for the Lease.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The name of the Lease.
    pub name: String,
    /// Who asks. No two processes that ever lived have the same.
    pub identity: String,
    /// How long the Lease is good for after it was renewed, in whole seconds.
    pub duration: Duration,
}

impl Candidate {
    /// This process, for a Lease of this name and duration.
    pub fn new(name: &str, duration: Duration) -> Self {
        // In a Pod the host's name is the Pod's; what follows tells a container from the one before it.
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "session-checker".to_owned());
        let process = uuid::Uuid::new_v4().simple().to_string();
        Self { name: name.to_owned(), identity: format!("{host}_{}", &process[..8]), duration }
    }

    /// How often a holder renews it.
    fn renewal(&self) -> Duration {
        self.duration / 3
    }

    /// How long after it began to renew a holder may rely on it. The rest is for a write that is under way then.
    fn reliance(&self) -> Duration {
        self.duration * 2 / 3
    }

    /// How long a request under the Lease may take, so that it is over before another replica can hold it.
    pub fn request_timeout(&self) -> Duration {
        self.duration / 3
    }
}

/// Whether this replica holds the Lease. Clones share it.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

impl Leadership {
    /// Whether the Lease is held, and will be for as long as a request under it may take.
    pub fn is_held(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until the Lease is held.
    pub async fn held(&mut self) {
        if self.0.wait_for(|until| until.is_some_and(|until| Instant::now() < until)).await.is_err() {
            // Nobody asks for it any more, so it never will be.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until it is held no more.
    pub async fn lost(&mut self) {
        // An election that has ended is one that is lost.
        let _ = self.0.wait_for(Option::is_none).await;
    }
}

/// Asks for the Lease and holds it, until `stop`; then gives it back. `told` hears of each change.
pub fn run_election(
    api: Api<Lease>,
    candidate: Candidate,
    stop: CancellationToken,
    told: impl Fn(bool) + Send + Sync + 'static,
) -> (Leadership, impl Future<Output = ()> + Send) {
    let (sender, receiver) = watch::channel(None);
    let election = async move {
        let shown = one(api.clone(), &candidate.name, std::convert::identity);
        pin_mut!(shown);
        let mut election = Election::new(candidate, Instant::now());
        told(false);
        let publish = |election: &Election| {
            let now = Instant::now();
            let held = election.held_until.filter(|until| now < *until);
            let was_held = sender.send_replace(held).is_some();
            if was_held != held.is_some() {
                tracing::info!(lease = election.candidate.name, leader = held.is_some(), "the Lease changed hands");
                told(held.is_some());
            }
        };
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(shown) = shown.next() => match shown {
                    Ok(lease) => election.see(lease, Instant::now()),
                    Err(trouble) => tracing::warn!(%trouble, "the Lease cannot be watched"),
                },
                () = sleep_until(election.claim_at()), if election.record.is_some() => {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => break,
                        () = election.ask(&api) => {}
                    }
                }
                () = sleep_until(election.held_until.unwrap_or_else(Instant::now)), if election.held_until.is_some() => {
                    election.held_until = None;
                }
            }
            publish(&election);
        }
        election.held_until = None;
        publish(&election);
        election.give_back(&api).await;
    };
    (Leadership(receiver), election)
}

/// What is known of the Lease, and what follows.
struct Election {
    candidate: Candidate,
    /// `None` = not seen yet; `Some(None)` = it is not there.
    record: Option<Option<Lease>>,
    /// Since when it says what it says, as seen from here.
    since: Instant,
    /// No request before, because the last one failed; what is seen after it ends that.
    patience: Instant,
    /// Until when it can be relied on.
    held_until: Option<Instant>,
}

impl Election {
    fn new(candidate: Candidate, now: Instant) -> Self {
        Self { candidate, record: None, since: now, patience: now, held_until: None }
    }

    fn see(&mut self, lease: Option<Lease>, now: Instant) {
        let known = self.record.as_ref().and_then(Option::as_ref);
        // The watch may still be telling what our own write has replaced.
        if let (Some(known), Some(new)) = (known, &lease)
            && version(new) < version(known)
            && new.metadata.uid == known.metadata.uid
        {
            return;
        }
        if self.record.is_none()
            || known.and_then(|lease| lease.spec.as_ref()) != lease.as_ref().and_then(|lease| lease.spec.as_ref())
        {
            self.since = now;
        }
        self.record = Some(lease);
        self.patience = now;
        if !self.is_holder() {
            self.held_until = None;
        }
    }

    fn spec(&self) -> Option<&LeaseSpec> {
        self.record.as_ref()?.as_ref()?.spec.as_ref()
    }

    fn holder(&self) -> Option<&str> {
        self.spec()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    fn is_holder(&self) -> bool {
        self.holder() == Some(&self.candidate.identity)
    }

    /// When it is next to be asked for: to renew it, or to take it over.
    fn claim_at(&self) -> Instant {
        let due = match self.holder() {
            None => self.since,
            Some(_) if self.is_holder() => self.since + self.candidate.renewal(),
            Some(_) => {
                let said = self.spec().and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
                self.since + said.map_or(self.candidate.duration, Duration::from_secs)
            }
        };
        due.max(self.patience)
    }

    /// The Lease as this candidate's; with the version that it replaces, where there is one.
    fn claim(&self, now: Timestamp) -> Lease {
        let last = self.record.clone().flatten().unwrap_or_default();
        let held = self.is_holder();
        let spec = last.spec.unwrap_or_default();
        let now = MicroTime(now);
        Lease {
            metadata: ObjectMeta { name: Some(self.candidate.name.clone()), ..last.metadata },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.candidate.identity.clone()),
                lease_duration_seconds: Some(self.candidate.duration.as_secs().try_into().unwrap_or(i32::MAX)),
                acquire_time: if held { spec.acquire_time.clone() } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(spec.lease_transitions.unwrap_or(0) + i32::from(!held)),
                ..spec
            }),
        }
    }

    async fn ask(&mut self, api: &Api<Lease>) {
        let asked = Instant::now();
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
                self.record = Some(Some(lease));
                self.since = asked;
                self.held_until = Some(asked + self.candidate.reliance());
            }
            outcome => {
                match outcome {
                    // Another was faster, and the watch will say who.
                    Ok(Err(kube::Error::Api(status))) if status.code == 409 => {}
                    Ok(Err(error)) => tracing::warn!(%error, "the Lease cannot be written"),
                    Ok(Ok(_)) | Err(_) => tracing::warn!("the Lease cannot be written in time"),
                }
                self.patience = Instant::now() + self.candidate.renewal() / 5;
            }
        }
    }

    /// Frees it, if it is held, so that another replica need not wait for its end.
    async fn give_back(&self, api: &Api<Lease>) {
        let Some(Some(lease)) = self.record.as_ref().filter(|_| self.is_holder()) else { return };
        let mut lease = lease.clone();
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match timeout(Duration::from_secs(2), api.replace(&self.candidate.name, &params, &lease)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the Lease cannot be given back: it runs out"),
            Err(_) => tracing::warn!("the Lease cannot be given back in time: it runs out"),
        }
    }
}

/// Versions of one object are numbers that grow (Kubernetes API concepts, resource versions).
fn version(lease: &Lease) -> Option<u64> {
    lease.metadata.resource_version.as_ref()?.parse().ok()
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

    fn seen(leases: &[(u64, Option<Lease>)]) -> (Election, Instant) {
        let start = Instant::now();
        let mut election = Election::new(candidate(), start);
        for (second, lease) in leases {
            election.see(lease.clone(), start + Duration::from_secs(*second));
        }
        (election, start)
    }

    #[test]
    fn a_lease_that_is_not_there_or_free_is_asked_for_at_once() {
        for record in [None, Some(lease(1, None, 0)), Some(lease(1, Some(""), 0))] {
            let (election, start) = seen(&[(5, record)]);
            assert_eq!(election.claim_at(), start + Duration::from_secs(5));
        }
    }

    #[test]
    fn anothers_lease_is_taken_when_it_was_seen_unchanged_for_as_long_as_it_says() {
        let (election, start) = seen(&[(0, Some(lease(1, Some("other"), 0))), (8, Some(lease(2, Some("other"), 1)))]);
        assert_eq!(election.claim_at(), start + Duration::from_secs(28));
    }

    #[test]
    fn a_change_that_is_no_renewal_does_not_prolong_a_lease() {
        let (election, start) = seen(&[(0, Some(lease(1, Some("other"), 0))), (8, Some(lease(2, Some("other"), 0)))]);
        assert_eq!(election.claim_at(), start + Duration::from_secs(20));
    }

    #[test]
    fn an_older_version_is_not_news() {
        let (mut election, start) = seen(&[(0, Some(lease(3, Some("us"), 0)))]);
        election.held_until = Some(start + DURATION);
        election.see(Some(lease(2, Some("other"), 0)), start);
        assert!(election.held_until.is_some() && election.is_holder());
        election.see(Some(lease(10, Some("other"), 0)), start);
        assert!(election.held_until.is_none());
    }

    #[test]
    fn a_lease_that_was_made_anew_is_news_whatever_its_version() {
        let (mut election, start) = seen(&[(0, Some(lease(3, Some("us"), 0)))]);
        let mut anew = lease(2, Some("other"), 0);
        anew.metadata.uid = Some("another".to_owned());
        election.see(Some(anew), start);
        assert!(!election.is_holder());
    }

    #[test]
    fn the_own_lease_is_renewed_long_before_it_can_be_taken_and_relied_on_for_less() {
        let (election, start) = seen(&[(0, Some(lease(1, Some("us"), 0)))]);
        assert_eq!(election.claim_at(), start + DURATION / 3);
        let candidate = candidate();
        assert!(candidate.reliance() + candidate.request_timeout() <= candidate.duration);
    }

    #[test]
    fn taking_a_lease_over_counts_a_transition_and_renewing_it_does_not() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let (election, _) = seen(&[(0, Some(lease(7, Some("other"), 0)))]);
        let taken = election.claim(now);
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"), "the version that it replaces");
        let spec = taken.spec.unwrap();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("us"), Some(5)));
        assert_eq!((spec.acquire_time, spec.renew_time), (Some(MicroTime(now)), Some(MicroTime(now))));
        let (election, _) = seen(&[(0, Some(lease(8, Some("us"), 0)))]);
        let spec = election.claim(now).spec.unwrap();
        assert_eq!((spec.lease_transitions, spec.acquire_time), (Some(4), None));
        assert_eq!((spec.renew_time, spec.lease_duration_seconds), (Some(MicroTime(now)), Some(30)));
    }

    #[test]
    fn after_a_failure_it_is_asked_for_a_little_later_or_when_there_is_news() {
        let (mut election, start) = seen(&[(0, None)]);
        election.patience = start + Duration::from_secs(2);
        assert_eq!(election.claim_at(), start + Duration::from_secs(2));
        election.see(Some(lease(1, None, 0)), start + Duration::from_secs(1));
        assert_eq!(election.claim_at(), start + Duration::from_secs(1));
    }
}
