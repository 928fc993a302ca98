//! `session-checker demo`: a simulated tenant, an example policy and the service, all on loopback, and the playground.
//!
//! The requests that it prints go to a tenant and a service on the machine's clock. The playground has another
//! tenant and service, with the clock of its scenario, so that clicking does not change what the printed requests show.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use simulator::{Application, Options, Session, Simulator};
use tokio::net::TcpListener;

use crate::args::{DemoArgs, ListenAddress};
use crate::clock::ServiceClock;
use crate::playground::Playground;
use crate::scenario::{CLIENT, DOMAIN, TOKEN};
use crate::service::{RunError, Service, ServiceConfig, SourceConfig};
use crate::shutdown::Signals;

/// The tenant, its credential and the caller's token are those of scenarios, too.
const MANIFESTS: &str = include_str!("../../examples/demo.yaml");
const CLIENT_ID: &str = "demo-app";
/// The usual port of the playground.
const PLAYGROUND_PORT: u16 = 3001;

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
    let failed = |error: io::Error| RunError::Command(format!("the simulated tenant cannot be started: {error}"));
    let tenant = Simulator::start(Options::new(DOMAIN)).await.map_err(failed)?;
    add_users(&tenant);
    let (page, page_address) = playground(args.playground_listen.as_ref()).await?;
    let source = SourceConfig::simulated(MANIFESTS, DOMAIN, &tenant.url())?;
    let loopback = ServiceConfig::on_loopback(source, ServiceClock::default());
    let (listen, admin_listen) = (args.listen.clone(), args.admin_listen.clone());
    let service = Service::start(ServiceConfig { listen, admin_listen, ..loopback }).await?;

    let page_url = format!("http://{page_address}/");
    println!(
        "Playground: {page_url}  Open it in a browser: sign people in by clicks, and see what is decided and why."
    );
    println!();
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
    if args.open {
        open_in_browser(&page_url);
    }
    tokio::select! {
        ended = service.run(signals) => ended,
        ended = Playground::new().serve(page) => {
            let error = ended.err().map_or_else(|| "it stopped".to_owned(), |error| error.to_string());
            Err(RunError::Command(format!("the playground: {error}")))
        }
    }
}

/// Binds the socket of the playground: the given address; else the usual port; else, when another program has it, any.
async fn playground(listen: Option<&ListenAddress>) -> Result<(TcpListener, SocketAddr), RunError> {
    let failed = |error: io::Error| RunError::Command(format!("the playground cannot listen: {error}"));
    let listener = match listen {
        Some(listen) if !listen.is_loopback() => {
            let problem = "--playground-listen must be a loopback address, such as 127.0.0.1:3001: anybody who reaches the \
                           playground can use it";
            return Err(RunError::Command(problem.to_owned()));
        }
        Some(listen) => TcpListener::bind(&*listen.resolve().await.map_err(failed)?).await,
        None => match TcpListener::bind((Ipv4Addr::LOCALHOST, PLAYGROUND_PORT)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await,
            bound => bound,
        },
    };
    let listener = listener.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Opens the page with the program of the desktop. Where there is none, the address is printed all the same.
fn open_in_browser(url: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let (input, output, errors) = (Stdio::null(), Stdio::null(), Stdio::null());
    if let Err(error) = Command::new(program).arg(url).stdin(input).stdout(output).stderr(errors).spawn() {
        tracing::warn!(%error, program, "no browser was opened: open the address yourself");
    }
}

/// Adds users below, at and above the limit.
fn add_users(tenant: &Simulator) {
    tenant.add_application(Application::with_secret(CLIENT.0, CLIENT.1));
    let now = Timestamp::now();
    let ago = |minutes| now - SignedDuration::from_mins(minutes);
    tenant.add_session("auth0|anna", Session::new("anna-laptop", now));
    tenant.add_session("auth0|bert", Session::new("bert-laptop", ago(90)).client(CLIENT_ID));
    tenant.add_session("auth0|carla", Session::new("carla-laptop", ago(30)).client(CLIENT_ID));
    tenant.add_session("auth0|carla", Session::new("carla-phone", now));
}
