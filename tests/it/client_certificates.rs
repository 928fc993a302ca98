//! `--tls-client-ca`: only clients with a certificate of a named CA are served.

use std::net::SocketAddr;

use rcgen::CertificateParams;
use reqwest::Client;
use serde_json::json;
use session_checker::server::TlsFiles;

use crate::authority::Authority;
use crate::common::{APP, Running, TOKEN, callers, credentials, eventually, folder, policy, provider, tenant};
use crate::https::{Https, write_certificate};

/// A CA for clients, and what a client with a certificate of it presents.
struct ClientCa {
    pem: String,
    identity: Vec<u8>,
}

impl ClientCa {
    fn new() -> Self {
        let ca = Authority::new();
        let (client, key) = ca.sign(CertificateParams::new(["gateway".to_owned()]).unwrap());
        Self { pem: ca.pem, identity: [client.pem(), key.serialize_pem()].concat().into_bytes() }
    }
}

/// A client that opens a connection for each request, and resumes its TLS sessions.
fn client(server: &reqwest::Certificate, identity: Option<&ClientCa>) -> Client {
    let mut builder = Client::builder().no_proxy().pool_max_idle_per_host(0).tls_certs_only([server.clone()]);
    if let Some(ca) = identity {
        builder = builder.identity(reqwest::Identity::from_pem(&ca.identity).unwrap());
    }
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clients_with_a_certificate_are_served() {
    let tenant = tenant().await;
    let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
    let server = write_certificate(folder.path());
    let (ours, other) = (ClientCa::new(), ClientCa::new());
    std::fs::write(folder.path().join("ca.pem"), &ours.pem).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (cert, key, ca) = (path("cert.pem"), path("key.pem"), path("ca.pem"));
    let options = ["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca, "--logs-listen", "127.0.0.1:0"];
    let service = Running::path(&tenant, folder.path(), &options).await;
    let check = async |client: &Client, token: &str| {
        let body = json!({ "user_id": "u", "client_id": APP, "sid": "s" });
        let request = client.post(format!("https://{}/check", service.address)).bearer_auth(token).json(&body);
        request.send().await.map(|answer| answer.status().as_u16()).ok()
    };
    assert_eq!(check(&client(&server, None), TOKEN).await, None, "a token alone is not enough");
    assert_eq!(check(&client(&server, Some(&other)), TOKEN).await, None);
    let gateway = client(&server, Some(&ours));
    assert_eq!(check(&gateway, "a-wrong-token-of-a-stranger").await, Some(401), "nor is a certificate alone");
    assert_eq!(check(&gateway, TOKEN).await, Some(200));
    let ended = "session_checker_connections_ended_total{listener=\"checks\",reason=\"client_certificate\"}";
    eventually("both are counted", || async { service.metric(ended).await == Some(2.0) }).await;
    // Auth0 has no client certificate for its log streams.
    let url = format!("https://{}/healthz", service.logs_address.unwrap());
    assert_eq!(client(&server, None).get(url).send().await.unwrap().status(), 200);
    service.stop().await.unwrap();
}

/// Whether a new connection is served.
async fn is_served(address: SocketAddr, client: &Client) -> bool {
    client.post(format!("https://{address}/check")).send().await.is_ok_and(|answer| answer.status() == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_client_ca_decides_new_connections() {
    provider();
    let folder = tempfile::tempdir().unwrap();
    let server = write_certificate(folder.path());
    let path = |name: &str| folder.path().join(name);
    let (first, second) = (ClientCa::new(), ClientCa::new());
    std::fs::write(path("ca.pem"), &first.pem).unwrap();
    let files = TlsFiles { certificate: path("cert.pem"), key: path("key.pem"), client_ca: Some(path("ca.pem")) };
    let tls = files.load().await.unwrap();
    let https = Https::serve(tls.clone());
    let address = https.address;
    let [of_first, of_second] = [&first, &second].map(|ca| client(&server, Some(ca)));
    assert!(is_served(address, &of_first).await && !is_served(address, &of_second).await);

    // While CAs change, a file has both.
    std::fs::write(path("ca.pem"), [first.pem.as_str(), &second.pem].concat()).unwrap();
    files.reload(&tls).await.unwrap();
    assert!(is_served(address, &of_first).await && is_served(address, &of_second).await);

    std::fs::write(path("ca.pem"), &second.pem).unwrap();
    files.reload(&tls).await.unwrap();
    assert!(!is_served(address, &of_first).await, "nor does it resume a session");
    assert!(is_served(address, &of_second).await);

    for broken in ["", "no certificate"] {
        std::fs::write(path("ca.pem"), broken).unwrap();
        let error = files.reload(&tls).await.unwrap_err().to_string();
        assert!(error.contains("ca.pem") && error.contains("--tls-client-ca"), "{error}");
    }
    assert!(is_served(address, &of_second).await && !is_served(address, &of_first).await);
    https.stop().await;
}
