//! Round trips that a login waits for: after the start, and after a quiet time. Counted at the tenant.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::auth0_client::DOMAIN;
use crate::auth0_connections::Peer;
use crate::common::{APP, Running, callers, credentials, eventually, folder, policy, serve_args};

struct Service {
    running: Running,
    _folder: tempfile::TempDir,
}

async fn start(peer: &Peer) -> Service {
    crate::common::provider();
    let folder = folder(&[policy("p", json!({})), credentials(), callers()]);
    let ca = folder.path().join("ca.txt");
    std::fs::write(&ca, &peer.ca).unwrap();
    let (path, endpoint) = (folder.path().to_str().unwrap(), format!("{DOMAIN}={}", peer.url()));
    let options = ["--policy-dir", path, "--auth0-endpoint", &endpoint, "--auth0-ca-file", ca.to_str().unwrap()];
    Service { running: Running::start(serve_args(&options)).await.unwrap(), _folder: folder }
}

impl Service {
    async fn is_ready(&self) -> bool {
        let url = format!("http://{}/readyz", self.running.admin_address);
        self.running.http.get(url).send().await.unwrap().status().is_success()
    }

    async fn login(&self, user: &str) -> serde_json::Value {
        self.running.check(user, APP, "s1").await
    }
}

/// A login costs one request on a connection that is there: one round trip.
async fn costs_one_round_trip(service: &Service, peer: &Peer, user: &str) {
    let (connections, accepted, requests) = (peer.connections(), peer.accepted(), peer.requests());
    let answer = service.login(user).await;
    assert_eq!(answer["reason"], "within_limit", "{answer}");
    assert_eq!((peer.connections(), peer.accepted()), (connections, accepted), "no connection was opened");
    assert_eq!(peer.requests(), requests + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn first_login_after_readiness_costs_one_round_trip() {
    let peer = Peer::start(100).await;
    let service = start(&peer).await;
    eventually("ready", || service.is_ready()).await;
    assert_eq!((peer.connections(), peer.tokens()), (2, 1), "one for the token, one for lists");
    costs_one_round_trip(&service, &peer, "u1").await;
    costs_one_round_trip(&service, &peer, "u2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_the_tenant_closes_is_open_again_before_a_login() {
    let peer = Peer::start(100).await;
    let service = start(&peer).await;
    eventually("ready", || service.is_ready()).await;
    for count in 3..6 {
        peer.close.notify_waiters();
        eventually("it is opened again", async || peer.connections() >= count).await;
        eventually("it is known", async || {
            service.running.metric(&format!("session_checker_auth0_connections{{tenant=\"{DOMAIN}\"}}")).await
                == Some(1.0)
        })
        .await;
        costs_one_round_trip(&service, &peer, &format!("u{count}")).await;
    }
    assert_eq!(peer.tokens(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_that_does_not_answer_delays_readiness_and_no_check() {
    let peer = Peer::start(100).await;
    peer.shakes_hands.store(false, Ordering::SeqCst);
    let service = start(&peer).await;
    // The check is answered, by its failure policy.
    assert_eq!(service.login("u").await["reason"], "upstream_timeout");
    eventually("ready without the tenant", || service.is_ready()).await;
    peer.shakes_hands.store(true, Ordering::SeqCst);
}
