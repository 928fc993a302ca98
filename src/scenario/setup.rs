//! What a scenario is played with: a simulated tenant and a service, over sockets of loopback, with one clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use simulator::{Application, Clock, Fault, Operation, Options, Simulator};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::policy_text::{self, CLIENT, DOMAIN};
use super::{Auth0Condition, Scenario};
use crate::args::ListenAddress;
use crate::choose::Chooser;
use crate::clock::ServiceClock;
use crate::service::{ChooseConfig, RunError, Service, ServiceConfig, SourceConfig};
use crate::snapshot::Snapshot;

/// How late a slow tenant answers: later than the longest `timeout` that a policy can have.
const SLOW: Duration = Duration::from_secs(60);
/// How long a tenant without a request left says that it lasts, in seconds: longer than checks wait.
const LIMITED_FOR: &str = "10";
/// How much time passes until Auth0 works again: the rate limit and the circuit breaker are over by then.
const RECOVERY: Duration = Duration::from_secs(10);

pub(super) struct SimulatedSetup {
    pub tenant: Simulator,
    pub clock: Clock,
    /// The service's address for checks.
    pub address: SocketAddr,
    /// The service's page for choosing sessions.
    pub chooser: Option<Arc<Chooser>>,
    /// The same policies with clients of their own, to explain decisions without touching the service.
    pub explainer: Arc<Snapshot>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), RunError>>,
}

impl SimulatedSetup {
    /// Starts both. A login continues after a choice at `login_origin`.
    ///
    /// # Errors
    /// The policy is no YAML, or a socket cannot be bound.
    pub async fn start(scenario: &Scenario, login_origin: Option<String>) -> Result<Self, RunError> {
        let manifests = policy_text::manifests(&scenario.policy)
            .map_err(|problem| RunError::Command(format!("the policy {}", problem.message)))?;
        let clock = Clock::stopped_at(scenario.start);
        let options = Options { clock: clock.clone(), knows_every_user: true, ..Options::new(DOMAIN) };
        let failed = |error: std::io::Error| RunError::Command(format!("the simulated tenant cannot start: {error}"));
        let tenant = Simulator::start(options).await.map_err(failed)?;
        tenant.add_application(Application::with_secret(CLIENT.0, CLIENT.1));
        for person in &scenario.people {
            tenant.add_user(&person.user_id);
        }
        let source = || SourceConfig::simulated(manifests.clone(), DOMAIN, &tenant.url());
        let explainer = source()?.read_once().await?;
        let shown = clock.clone();
        let service_clock = ServiceClock::follow(move || shown.now());
        let listen = ListenAddress::loopback(0);
        let choose = ChooseConfig { listen, url: None, login_origin, ticket_key_file: None, page_dir: None };
        let config = ServiceConfig { choose: Some(choose), ..ServiceConfig::on_loopback(source()?, service_clock) };
        let service = Service::start(config).await?;
        let (address, chooser) = (service.address, service.chooser());
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(service.run_until(async move {
            // Dropping the sender stops the service too.
            let _ = stopped.await;
            Ok("the end of a scenario")
        }));
        Ok(Self { tenant, clock, address, chooser, explainer, stop, ended })
    }

    /// Stops both.
    pub async fn stop(self) {
        self.tenant.clear_faults();
        drop(self.stop);
        if let Ok(Err(error)) = self.ended.await {
            tracing::warn!(%error, "the scenario's service did not stop cleanly");
        }
        if let Err(error) = self.tenant.shutdown().await {
            tracing::warn!(%error, "the simulated tenant did not stop cleanly");
        }
    }

    /// Lets the Management API behave so from now on. The token endpoint answers all the same.
    pub fn set_auth0(&self, condition: Auth0Condition) {
        self.tenant.clear_faults();
        let fault = match condition {
            Auth0Condition::Works => return self.clock.advance(RECOVERY),
            Auth0Condition::Slow => Fault::Delay(SLOW),
            Auth0Condition::Down => Fault::status(StatusCode::SERVICE_UNAVAILABLE),
            Auth0Condition::Limited => {
                let header = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
                let headers = [header("retry-after", LIMITED_FOR), header("x-ratelimit-remaining", "0")];
                let fault = Fault::error(StatusCode::TOO_MANY_REQUESTS, "Global limit has been reached", None);
                headers.into_iter().fold(fault, |fault, (name, value)| fault.header(name, value))
            }
        };
        for operation in [Operation::List, Operation::Revoke, Operation::Delete] {
            self.tenant.fault(operation, fault.clone());
        }
    }
}
