//! A service with the page for choosing sessions and a simulated tenant, for the tests in Chromium. Reads one JSON command a line, and
//! answers each with a line.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::Write as _;
use std::time::Duration;

use clap::Parser;
use jiff::SignedDuration;
use serde_json::{Value, json};
use session_checker::args::{Args, Command};
use session_checker::cli::service_config;
use session_checker::clock::ServiceClock;
use session_checker::service::{Service, ServiceConfig};
use simulator::{Application, Clock, Options, Session, Simulator, Tls};
use tokio::task::spawn_blocking;

const DOMAIN: &str = "acme.eu.auth0.com";
const PAGE: &str = "https://sessions.test";

/// The policies of the scene, with their Secrets: one session for each application, and three for users of `crm`.
const POLICIES: &str = r#"
apiVersion: v1
kind: Secret
type: sessionchecker.dev/credentials
metadata: { name: tenant }
stringData: { domain: acme.eu.auth0.com, clientId: checker, clientSecret: checker-secret }
---
apiVersion: v1
kind: Secret
type: sessionchecker.dev/callers
metadata: { name: callers }
stringData: { action: a-token-of-the-browser-tests }
---
apiVersion: sessionchecker.dev/v1alpha1
kind: SessionPolicy
metadata: { name: ask }
spec:
  tenant: { domain: acme.eu.auth0.com, credentialsSecretRef: { name: tenant } }
  callerSecretRef: { name: callers }
  limits: { perClient: 1 }
  strategy: Ask
  timeout: 10s
---
apiVersion: sessionchecker.dev/v1alpha1
kind: SessionPolicy
metadata: { name: crm }
spec:
  tenant: { domain: acme.eu.auth0.com, credentialsSecretRef: { name: tenant } }
  callerSecretRef: { name: callers }
  selector: { clientIds: [crm] }
  priority: 1
  limits: { perUser: 3 }
  strategy: Ask
  timeout: 10s
"#;

#[tokio::main]
async fn main() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let names = [DOMAIN, "sessions.test", "127.0.0.1"].map(str::to_owned);
    let certificate = rcgen::generate_simple_self_signed(names).unwrap();
    let (chain, key) = (certificate.cert.pem(), certificate.signing_key.serialize_pem());
    std::fs::write(path("tls.crt"), &chain).unwrap();
    std::fs::write(path("tls.key"), &key).unwrap();
    std::fs::create_dir(path("policies")).unwrap();
    std::fs::write(path("policies/policies.yaml"), POLICIES).unwrap();

    let tls = Some(Tls { certificate: chain, key: key.into() });
    let clock = Clock::system();
    let options = Options { tls, knows_every_user: true, clock: clock.clone(), ..Options::new(DOMAIN) };
    let tenant = Simulator::start(options).await.unwrap();
    tenant.add_application(Application::with_secret("checker", "checker-secret"));
    let endpoint = format!("{DOMAIN}={}", tenant.url());
    let any = "127.0.0.1:0";
    let (certificate, key, policies) = (path("tls.crt"), path("tls.key"), path("policies"));
    let arguments = [
        "session-checker",
        "serve",
        "--listen",
        any,
        "--admin-listen",
        any,
        "--choose-listen",
        any,
        "--choose-url",
        PAGE,
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
        "--auth0-ca-file",
        &certificate,
        "--auth0-endpoint",
        &endpoint,
        "--policy-dir",
        &policies,
    ];
    let Command::Serve(args) = Args::try_parse_from(arguments).unwrap().command else { panic!("it is serve") };
    let shown = clock.clone();
    let service_clock = ServiceClock::follow(move || shown.now());
    let config = ServiceConfig { clock: service_clock, ..service_config(*args).unwrap() };
    let service = Service::start(config).await.unwrap();
    say(&json!({
        "check": format!("https://{}", service.address),
        "page": service.choose_address.unwrap().to_string(),
        "tenant": tenant.url().trim_start_matches("https://"),
    }));
    let ended = async {
        while let Some(Ok(line)) = spawn_blocking(|| std::io::stdin().lines().next()).await.unwrap() {
            say(&answer(&tenant, &clock, &serde_json::from_str(&line).unwrap()));
        }
        Ok("the end of the commands")
    };
    service.run_until(ended).await.unwrap();
}

/// Carries out a command: `actions` with a URL, `pass` with seconds, or `add` with a user, a session and its age. Each answer
/// lists the sessions of the command's `user`.
fn answer(tenant: &Simulator, clock: &Clock, command: &Value) -> Value {
    let text = |name: &str| command[name].as_str().unwrap_or_default();
    if !command["actions"].is_null() {
        tenant.run_actions_at(text("actions"));
    }
    if let Some(seconds) = command["pass"].as_u64() {
        clock.advance(Duration::from_secs(seconds));
    }
    if !command["add"].is_null() {
        let ago = tenant.now() - SignedDuration::from_hours(command["hours"].as_i64().unwrap_or(1));
        let device = json!({ "last_user_agent": text("user_agent"), "last_ip": "198.51.100.77" });
        let session = Session::new(text("add"), ago).client(text("client")).field("device", device);
        tenant.add_session(text("user"), session);
    }
    let sessions = tenant.sessions_of(text("user"));
    json!(
        sessions.iter().map(|session| json!({ "id": session.id(), "clients": session.clients() })).collect::<Vec<_>>()
    )
}

fn say(line: &Value) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}
