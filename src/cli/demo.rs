//! `session-checker demo`: a simulated tenant, an example policy and the service, all on loopback.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use simulator::{Application, Options, Session, Simulator};
use url::Url;

use crate::args::DemoArgs;
use crate::clock::ServiceClock;
use crate::service::{RunError, Service, ServiceConfig, Source, SourceConfig};
use crate::shutdown::Signals;

const DOMAIN: &str = "demo.eu.auth0.com";
const MANIFESTS: &str = include_str!("../../examples/demo.yaml");
const TOKEN: &str = "demo-caller-token";
const CLIENT_ID: &str = "demo-app";

/// Logins to try: a title, the user, the session and the protocol.
const LOGINS: [(&str, &str, &str, Option<&str>); 4] = [
    ("Anna has no other session: allowed", "auth0|anna", "anna-laptop", None),
    ("Bert is at his limit, and this session is the one that counts: allowed", "auth0|bert", "bert-laptop", None),
    ("Carla is signed in on her laptop and now logs in on her phone: blocked", "auth0|carla", "carla-phone", None),
    ("Carla's refresh token exchange is not limited: allowed", "auth0|carla", "", Some("oauth2-refresh-token")),
];

/// Runs the demo until a signal.
///
/// # Errors
/// When the service cannot start, such as when a port is in use.
#[expect(clippy::print_stdout, reason = "it is the output of the command")]
pub async fn run(args: DemoArgs) -> Result<(), RunError> {
    let signals = Signals::listen().map_err(RunError::Signals)?;
    let failed = |error: std::io::Error| RunError::Command(format!("the simulated tenant cannot be started: {error}"));
    let tenant = Simulator::start(Options::new(DOMAIN)).await.map_err(failed)?;
    add_users(&tenant);
    let endpoint = tenant.url().parse().map_err(|error| RunError::Command(format!("the tenant's URL: {error}")))?;
    let service = Service::start(service_config(&args, endpoint)).await?;

    println!("A simulated Auth0 tenant, {DOMAIN}, runs at {}.", tenant.url());
    println!("The policy is examples/demo.yaml: one session per application.");
    println!(
        "The service runs at http://{}, its metrics at http://{}/metrics.",
        service.address, service.admin_address
    );
    println!();
    println!("Try in another terminal:");
    for (title, user, sid, protocol) in LOGINS {
        let mut login = json!({ "user_id": user, "client_id": CLIENT_ID });
        if !sid.is_empty() {
            login["sid"] = sid.into();
        }
        if let Some(protocol) = protocol {
            login["protocol"] = protocol.into();
        }
        println!();
        println!("# {title}");
        println!(
            "curl -s http://{}/check -H 'Authorization: Bearer {TOKEN}' -H 'Content-Type: application/json' -d '{login}'",
            service.address
        );
    }
    println!();
    println!("Every decision is logged below. Ctrl-C ends the demo.");
    service.run(signals).await
}

/// Adds users below, at and above the limit.
fn add_users(tenant: &Simulator) {
    tenant.add_application(Application::with_secret("demo-client", "demo-secret"));
    let now = Timestamp::now();
    let ago = |minutes| now - SignedDuration::from_mins(minutes);
    tenant.add_session("auth0|anna", Session::new("anna-laptop", now));
    tenant.add_session("auth0|bert", Session::new("bert-laptop", ago(90)).client(CLIENT_ID));
    tenant.add_session("auth0|carla", Session::new("carla-laptop", ago(30)).client(CLIENT_ID));
    tenant.add_session("auth0|carla", Session::new("carla-phone", now));
}

/// The service with the example policy, its tenant at `endpoint`. The environment configures `serve`, not the demo.
fn service_config(args: &DemoArgs, endpoint: Url) -> ServiceConfig {
    let source = SourceConfig {
        policies: Source::Text(MANIFESTS.into()),
        endpoints: [(DOMAIN.to_owned(), endpoint)].into(),
        ca_file: None,
        ca_only: false,
        proxy: None,
        proxy_credentials_file: None,
    };
    let loopback = ServiceConfig::on_loopback(source, ServiceClock::default());
    ServiceConfig { listen: args.listen.clone(), admin_listen: args.admin_listen.clone(), ..loopback }
}
