//! Leader election: exactly one of several replicas holds the Lease, through failures of replicas and of the API server.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use session_checker::controller::status::lease::{Candidate, Leadership, run_election};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::common::eventually;
use crate::control_plane::{self, Namespace, Rbac};

const LEASE: &str = "session-checker";

/// A candidate whose election runs.
struct RunningCandidate {
    leadership: Leadership,
    stop: CancellationToken,
    election: JoinHandle<()>,
}

impl RunningCandidate {
    async fn start(team: &Namespace<'_>, identity: &str, seconds: u64) -> Self {
        let candidate =
            Candidate { name: LEASE.to_owned(), identity: identity.to_owned(), duration: Duration::from_secs(seconds) };
        let stop = CancellationToken::new();
        let api = Api::namespaced(team.client().await, &team.name);
        let (leadership, election) = run_election(api, candidate, stop.clone(), |_| {});
        Self { leadership, stop, election: tokio::spawn(election) }
    }

    async fn leads(&self) {
        eventually("the replica leads", async || self.leadership.is_held()).await;
    }

    /// Ends the election as a clean shutdown does.
    async fn stop(self) {
        self.stop.cancel();
        self.election.await.unwrap();
    }
}

async fn holder(team: &Namespace<'_>) -> Option<String> {
    let leases: Api<Lease> = team.admin();
    leases.get(LEASE).await.unwrap().spec.unwrap().holder_identity
}

#[tokio::test]
async fn stopping_leader_hands_over_at_once() {
    let Some(plane) = control_plane::shared().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    // Much longer than this test waits: a handover in time does not come from an expired Lease.
    let first = RunningCandidate::start(&team, "first", 600).await;
    first.leads().await;
    let second = RunningCandidate::start(&team, "second", 600).await;
    let third = RunningCandidate::start(&team, "third", 600).await;
    assert_eq!(holder(&team).await.as_deref(), Some("first"));
    first.stop().await;
    eventually("another leads", async || second.leadership.is_held() != third.leadership.is_held()).await;
    let (leader, other) = if second.leadership.is_held() { (second, third) } else { (third, second) };
    leader.stop().await;
    other.leads().await;
    other.stop().await;
    assert_eq!(holder(&team).await, None);
}

#[tokio::test]
async fn dead_leader_is_replaced_when_its_lease_expires() {
    let Some(plane) = control_plane::shared().await else { return };
    let team = plane.namespace(Rbac::Named).await;
    let first = RunningCandidate::start(&team, "first", 3).await;
    first.leads().await;
    let second = RunningCandidate::start(&team, "second", 3).await;
    first.election.abort();
    second.leads().await;
    assert!(!first.leadership.is_held());
    let leases: Api<Lease> = team.admin();
    let spec = leases.get(LEASE).await.unwrap().spec.unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("second"), Some(2)));
}

#[tokio::test]
async fn leadership_ends_with_the_api_server_and_returns_with_it() {
    let Some(plane) = control_plane::exclusive().await else { return };
    let team = plane.namespace(Rbac::Cluster).await;
    let mut first = RunningCandidate::start(&team, "first", 3).await;
    first.leads().await;
    let second = RunningCandidate::start(&team, "second", 3).await;
    plane.stop();
    first.leadership.lost().await;
    assert!(!first.leadership.is_held() && !second.leadership.is_held());
    plane.restart().await;
    eventually("one of them leads again", async || first.leadership.is_held() != second.leadership.is_held()).await;
}

#[tokio::test]
async fn frozen_api_server_ends_leadership_in_time() {
    let Some(plane) = control_plane::exclusive().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    let mut first = RunningCandidate::start(&team, "first", 3).await;
    first.leads().await;
    plane.freeze();
    first.leadership.lost().await;
    // A shutdown does not wait for the API server either.
    first.stop().await;
    plane.thaw();
}

#[tokio::test]
async fn edited_or_deleted_lease_is_renewed_by_its_holder() {
    let Some(plane) = control_plane::shared().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    let first = RunningCandidate::start(&team, "first", 3).await;
    first.leads().await;
    let leases: Api<Lease> = team.admin();
    let renewed = async || leases.get(LEASE).await.ok().and_then(|lease| lease.spec?.renew_time);
    let edit = json!({ "metadata": { "annotations": { "a": "b" } } });
    leases.patch(LEASE, &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
    let before = renewed().await;
    eventually("the Lease is renewed", async || renewed().await > before).await;
    assert!(first.leadership.is_held());
    leases.delete(LEASE, &DeleteParams::default()).await.unwrap();
    eventually("the Lease is created again", async || renewed().await.is_some()).await;
    first.leads().await;
}

#[tokio::test]
async fn holder_renews_and_candidates_only_watch() {
    let Some(plane) = control_plane::shared().await else { return };
    let [team, others] = [plane.namespace(Rbac::Namespaced).await, plane.namespace(Rbac::Namespaced).await];
    let first = RunningCandidate::start(&team, "first", 3).await;
    first.leads().await;
    let renewals = || team.audited().iter().filter(|event| event["verb"] == "update").count();
    eventually("the Lease is renewed", async || renewals() >= 3).await;
    let verbs = |events: Vec<serde_json::Value>| {
        let mut verbs: Vec<String> = events.iter().map(|event| event["verb"].as_str().unwrap().to_owned()).collect();
        verbs.dedup();
        verbs
    };
    assert_eq!(verbs(team.audited()), ["list", "watch", "create", "update"]);
    // A Lease of another holder that does not expire during the test.
    let leases: Api<Lease> = others.admin();
    let lease = json!({
        "metadata": { "name": LEASE },
        "spec": { "holderIdentity": "somebody", "leaseDurationSeconds": 600, "renewTime": "2026-01-01T00:00:00.000000Z" },
    });
    leases.create(&Default::default(), &serde_json::from_value(lease).unwrap()).await.unwrap();
    let waiting = RunningCandidate::start(&others, "waiting", 3).await;
    eventually("the candidate watches", async || verbs(others.audited()) == ["list", "watch"]).await;
    let before = renewals();
    eventually("the other Lease is renewed at the same time", async || renewals() >= before + 3).await;
    assert_eq!(verbs(others.audited()), ["list", "watch"]);
    assert!(!waiting.leadership.is_held());
}
