//! `session-checker demo`: a simulated tenant, an example policy and the service, all on loopback.

use clap::{CommandFactory, FromArgMatches};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::listen_to_signals;
use crate::args::{Args, Command, DemoArgs, ServeArgs};
use crate::service::{RunError, Service, Source};
use simulator::{Application, Options, Session, Simulator};

const DOMAIN: &str = "demo.eu.auth0.com";
const MANIFESTS: &str = include_str!("../../examples/demo.yaml");
const TOKEN: &str = "demo-caller-token";
const APP: &str = "demo-app";

/// What to try: a title, and the login to ask about.
const LOGINS: [(&str, &str, &str, Option<&str>); 4] = [
    ("Anna has no other session: she is let in", "auth0|anna", "anna-laptop", None),
    ("Bert is at his limit, with this very session: he keeps his place", "auth0|bert", "bert-laptop", None),
    ("Carla is signed in on her laptop: her phone is refused", "auth0|carla", "carla-phone", None),
    ("Carla's refresh tokens are not limited", "auth0|carla", "", Some("oauth2-refresh-token")),
];

/// Runs the demo until a signal comes.
///
/// # Errors
/// When a port is taken, most likely.
#[expect(clippy::print_stdout, reason = "it is the output of the command")]
pub async fn run(args: &DemoArgs) -> Result<(), RunError> {
    let signals = listen_to_signals()?;
    let failed = |error: std::io::Error| RunError::Command(format!("the simulated tenant cannot be started: {error}"));
    let tenant = Simulator::start(Options::new(DOMAIN)).await.map_err(failed)?;
    furnish(&tenant);
    let service = Service::start(serve_args(args, &tenant)?, Source::Text(MANIFESTS)).await?;

    println!("A simulated Auth0 tenant, {DOMAIN}, is at {}.", tenant.url());
    println!("The policy is examples/demo.yaml: one session for each application.");
    println!("The service is at http://{}, its metrics at http://{}/metrics.", service.address, service.admin_address);
    println!();
    println!("Try, in another terminal:");
    for (title, user, sid, protocol) in LOGINS {
        let mut login = json!({ "user_id": user, "client_id": APP });
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
    println!("Every decision appears below. Ctrl-C ends the demo.");
    service.run(signals).await
}

/// The tenant's users: within, at and over the limit.
fn furnish(tenant: &Simulator) {
    tenant.add_application(Application::with_secret("demo-client", "demo-secret"));
    let now = Timestamp::now();
    let ago = |minutes| now - SignedDuration::from_mins(minutes);
    tenant.add_session("auth0|anna", Session::new("anna-laptop", now));
    tenant.add_session("auth0|bert", Session::new("bert-laptop", ago(90)).client(APP));
    tenant.add_session("auth0|carla", Session::new("carla-laptop", ago(30)).client(APP));
    tenant.add_session("auth0|carla", Session::new("carla-phone", now));
}

fn serve_args(args: &DemoArgs, tenant: &Simulator) -> Result<ServeArgs, RunError> {
    let endpoint = format!("{DOMAIN}={}", tenant.url());
    let (listen, admin_listen) = (args.listen.to_string(), args.admin_listen.to_string());
    let line = [
        "session-checker",
        "serve",
        "--listen",
        &listen,
        "--admin-listen",
        &admin_listen,
        "--auth0-endpoint",
        &endpoint,
    ];
    // No configuration: what the environment says is for `serve`.
    let command = Args::command().mut_subcommand("serve", |serve| serve.mut_args(|option| option.env(None)));
    let args = command.try_get_matches_from(line).and_then(|matches| Args::from_arg_matches(&matches));
    let args = args.map_err(|error| RunError::Command(error.to_string()))?;
    match args.command {
        Command::Serve(args) => Ok(*args),
        _ => Err(RunError::Command("the demo is not set up as a service".to_owned())),
    }
}
