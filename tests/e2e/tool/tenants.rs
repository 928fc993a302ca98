//! Serves three simulated tenants, each on its own port: `well` works, `down` answers with 503, and `busy` gets more checks than
//! its request budget allows.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;
use simulator::{Application, Fault, Operation, Options, RateLimit, Session, Simulator};
use tokio::signal::unix::{SignalKind, signal};

/// The client ids and secrets that the tenants accept. The test rotates the Secret from the first to the second.
const CREDENTIALS: [(&str, &str); 2] = [("e2e", "first-secret"), ("e2e-rotated", "second-secret")];

/// Serves the tenants until SIGTERM.
pub async fn serve() -> Result<(), Box<dyn Error>> {
    let well = start("well.eu.auth0.com", 8080).await?;
    let down = start("down.eu.auth0.com", 8081).await?;
    let _busy = start("busy.eu.auth0.com", 8082).await?;
    down.fault(Operation::List, Fault::status(StatusCode::SERVICE_UNAVAILABLE));
    let now = Timestamp::now();
    for client in ["e2e-app", "audited-app", "ask-app"] {
        // This user is at the limit of one, with a session that no login of the test uses.
        well.add_session(
            &format!("auth0|full-{client}"),
            Session::new(format!("elsewhere-{client}"), now).client(client),
        );
    }
    // This user logs in repeatedly with the same session.
    well.add_session("auth0|holder", Session::new("holder", now).client("e2e-app"));
    // The list of this user has an entry that cannot be read, because its id is invalid.
    well.add_session("auth0|odd", Session::new("not an id", now).client("e2e-app"));
    println!("serving the tenants");
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}

async fn start(domain: &str, port: u16) -> Result<Simulator, Box<dyn Error>> {
    let mut options = Options::new(domain);
    options.listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    // The dashboard shows the rate limit that the tenant reports.
    options.rate_limit = Some(RateLimit { burst: 10_000, per_second: 10_000 });
    options.token_lifetime = Duration::from_secs(3600);
    options.recorded_requests = 0;
    options.knows_every_user = true;
    let tenant = Simulator::start(options).await?;
    for (client_id, secret) in CREDENTIALS {
        tenant.add_application(Application::with_secret(client_id, secret));
    }
    Ok(tenant)
}
