//! Of several replicas one holds the Lease, whatever happens to them and to the API server.

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

/// A replica's part in the election.
struct Replica {
    leadership: Leadership,
    stop: CancellationToken,
    election: JoinHandle<()>,
}

impl Replica {
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

    /// As a clean shutdown ends it.
    async fn stop(self) {
        self.stop.cancel();
        self.election.await.unwrap();
    }
}

async fn holder(team: &Namespace<'_>) -> Option<String> {
    let leases: Api<Lease> = team.admin().await;
    leases.get(LEASE).await.unwrap().spec.unwrap().holder_identity
}

#[tokio::test]
async fn one_replica_leads_and_hands_over_at_once_when_it_stops() {
    let Some(plane) = control_plane::shared().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    // Much longer than this test waits: what happens in time is no waiting for its end.
    let first = Replica::start(&team, "first", 600).await;
    first.leads().await;
    let second = Replica::start(&team, "second", 600).await;
    let third = Replica::start(&team, "third", 600).await;
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
async fn a_replica_that_dies_is_succeeded_when_its_lease_has_run_out() {
    let Some(plane) = control_plane::shared().await else { return };
    let team = plane.namespace(Rbac::Named).await;
    let first = Replica::start(&team, "first", 3).await;
    first.leads().await;
    let second = Replica::start(&team, "second", 3).await;
    first.election.abort();
    second.leads().await;
    assert!(!first.leadership.is_held());
    let leases: Api<Lease> = team.admin().await;
    let spec = leases.get(LEASE).await.unwrap().spec.unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("second"), Some(2)));
}

#[tokio::test]
async fn leadership_ends_without_the_api_server_and_is_found_again_with_it() {
    let Some(plane) = control_plane::own().await else { return };
    let team = plane.namespace(Rbac::Cluster).await;
    let mut first = Replica::start(&team, "first", 3).await;
    first.leads().await;
    let second = Replica::start(&team, "second", 3).await;
    plane.stop();
    first.leadership.lost().await;
    assert!(!first.leadership.is_held() && !second.leadership.is_held());
    plane.restart().await;
    eventually("one of them leads again", async || first.leadership.is_held() != second.leadership.is_held()).await;
}

#[tokio::test]
async fn an_api_server_that_hangs_ends_leadership_in_time() {
    let Some(plane) = control_plane::own().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    let mut first = Replica::start(&team, "first", 3).await;
    first.leads().await;
    plane.freeze();
    first.leadership.lost().await;
    // A shutdown does not wait for it either.
    first.stop().await;
    plane.thaw();
}

#[tokio::test]
async fn a_lease_that_is_edited_or_deleted_is_held_on_to() {
    let Some(plane) = control_plane::shared().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    let first = Replica::start(&team, "first", 3).await;
    first.leads().await;
    let leases: Api<Lease> = team.admin().await;
    let renewed = async || leases.get(LEASE).await.ok().and_then(|lease| lease.spec?.renew_time);
    let edit = json!({ "metadata": { "annotations": { "a": "b" } } });
    leases.patch(LEASE, &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
    let before = renewed().await;
    eventually("the Lease is renewed", async || renewed().await > before).await;
    assert!(first.leadership.is_held());
    leases.delete(LEASE, &DeleteParams::default()).await.unwrap();
    eventually("the Lease is made anew", async || renewed().await.is_some()).await;
    first.leads().await;
}

#[tokio::test]
async fn the_holder_renews_and_the_others_only_watch() {
    let Some(plane) = control_plane::shared().await else { return };
    let [team, others] = [plane.namespace(Rbac::Namespaced).await, plane.namespace(Rbac::Namespaced).await];
    let first = Replica::start(&team, "first", 3).await;
    first.leads().await;
    let renewals = || team.audited().iter().filter(|event| event["verb"] == "update").count();
    eventually("it is renewed", async || renewals() >= 3).await;
    let verbs = |events: Vec<serde_json::Value>| {
        let mut verbs: Vec<String> = events.iter().map(|event| event["verb"].as_str().unwrap().to_owned()).collect();
        verbs.dedup();
        verbs
    };
    assert_eq!(verbs(team.audited()), ["list", "watch", "create", "update"]);
    // Somebody else's Lease, never free.
    let leases: Api<Lease> = others.admin().await;
    let lease = json!({
        "metadata": { "name": LEASE },
        "spec": { "holderIdentity": "somebody", "leaseDurationSeconds": 600, "renewTime": "2026-01-01T00:00:00.000000Z" },
    });
    leases.create(&Default::default(), &serde_json::from_value(lease).unwrap()).await.unwrap();
    let waiting = Replica::start(&others, "waiting", 3).await;
    eventually("it watches", async || verbs(others.audited()) == ["list", "watch"]).await;
    let before = renewals();
    eventually("others are renewed meanwhile", async || renewals() >= before + 3).await;
    assert_eq!(verbs(others.audited()), ["list", "watch"]);
    assert!(!waiting.leadership.is_held());
}
