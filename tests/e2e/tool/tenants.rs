//! Three tenants, each on a port of its own: one that is well, one that is down, one that is asked too much.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;
use simulator::{Application, Fault, Operation, Options, RateLimit, Session, Simulator};
use tokio::signal::unix::{SignalKind, signal};

/// The client ids and secrets that the tenants know. The second is what the test changes the Secret to.
const CREDENTIALS: [(&str, &str); 2] = [("e2e", "first-secret"), ("e2e-rotated", "second-secret")];

/// Serves until a signal comes.
pub async fn serve() -> Result<(), Box<dyn Error>> {
    let well = start("well.eu.auth0.com", 8080).await?;
    let down = start("down.eu.auth0.com", 8081).await?;
    let _busy = start("busy.eu.auth0.com", 8082).await?;
    down.fault(Operation::List, Fault::status(StatusCode::SERVICE_UNAVAILABLE));
    let now = Timestamp::now();
    for client in ["e2e-app", "audited-app"] {
        // At the limit of one, with a session that nobody here logs in with.
        well.add_session(
            &format!("auth0|full-{client}"),
            Session::new(format!("elsewhere-{client}"), now).client(client),
        );
    }
    // A holder, who comes back again and again.
    well.add_session("auth0|holder", Session::new("holder", now).client("e2e-app"));
    // An entry that cannot be read: its id is not one.
    well.add_session("auth0|odd", Session::new("not an id", now).client("e2e-app"));
    println!("tenants are up");
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}

async fn start(domain: &str, port: u16) -> Result<Simulator, Box<dyn Error>> {
    let mut options = Options::new(domain);
    options.listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    // What it says of its rate limit is what the dashboard shows.
    options.rate_limit = Some(RateLimit { burst: 10_000, per_second: 10_000 });
    options.token_lifetime = Duration::from_secs(3600);
    options.recorded_requests = 0;
    let tenant = Simulator::start(options).await?;
    for (client_id, secret) in CREDENTIALS {
        tenant.add_application(Application::with_secret(client_id, secret));
    }
    Ok(tenant)
}
