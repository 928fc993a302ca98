//! The playground: a page of `demo` on which people sign in and out by clicks, and which shows what Auth0 has and why
//! session-checker decides so.
//!
//! ```text
//!  browser ──POST /api/…──▶ routes ──▶ Playground ──▶ ScenarioRun ──▶ tenant and service, over sockets
//!     ▲                                    │
//!     └──────── GET /api/events ◀──────────┘  after each step the whole state, as JSON
//! ```
//!
//! There is one run at a time, and all tabs show it. A changed policy, a step back and a link start a new run and play its
//! steps again, so that the page never shows a state that no sequence of steps leads to. The first run starts when the page
//! is opened.
//!
//! The page is one function of that JSON, in plain modules with [Preact](https://preactjs.com), whose keyed comparison
//! keeps the focus and the scroll position when data come, and `htm`, which needs no build step. Both are vendored and
//! listed in `assets`. There is no other script, style or font, and nothing is loaded from elsewhere.
//!
//! The page runs on loopback. That does not keep other websites away: a browser on the same machine sends their requests
//! too. So every request needs the `Host` of this page, and every request but the page itself has to come from it; see
//! `guard`.

mod assets;
mod guard;
mod routes;

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::middleware::from_fn_with_state;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};

use crate::scenario::{MAX_STEPS, Scenario, ScenarioRun, ScenarioStep, StepRecord, check_policy};

/// The scenes of the menu: the file, and its text. The first one is shown at the start.
const SCENES: [&str; 18] = [
    include_str!("../../examples/scenarios/first.yaml"),
    include_str!("../../examples/scenarios/choose.yaml"),
    include_str!("../../examples/scenarios/closed-browser.yaml"),
    include_str!("../../examples/scenarios/newest-wins.yaml"),
    include_str!("../../examples/scenarios/at-once.yaml"),
    include_str!("../../examples/scenarios/auth0-down.yaml"),
    include_str!("../../examples/scenarios/audit.yaml"),
    include_str!("../../examples/scenarios/enforce.yaml"),
    include_str!("../../examples/scenarios/deny.yaml"),
    include_str!("../../examples/scenarios/revoke-oldest.yaml"),
    include_str!("../../examples/scenarios/revoke-least-recently-used.yaml"),
    include_str!("../../examples/scenarios/revoke-next-to-expire.yaml"),
    include_str!("../../examples/scenarios/revoke-requires-mfa.yaml"),
    include_str!("../../examples/scenarios/ask.yaml"),
    include_str!("../../examples/scenarios/keep-place.yaml"),
    include_str!("../../examples/scenarios/count-others.yaml"),
    include_str!("../../examples/scenarios/active-within.yaml"),
    include_str!("../../examples/scenarios/recheck-after.yaml"),
];

/// The playground, which all tabs share.
pub struct Playground {
    run: Mutex<Option<ScenarioRun>>,
    shown: watch::Sender<Shown>,
    /// The origin of the page. Logins continue here after a choice of sessions.
    origin: OnceLock<String>,
}

/// What the page shows, with a number that rises.
#[derive(Clone, Default)]
struct Shown {
    number: u64,
    json: Arc<str>,
}

/// How a login ended before and after a change of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Difference {
    step: usize,
    login: usize,
    before: String,
    after: String,
}

/// Why a request of the page cannot be done: a JSON object with `error`.
#[derive(Debug)]
struct Rejected(Value);

impl Playground {
    /// A playground without a run.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { run: Mutex::default(), shown: watch::Sender::new(Shown::default()), origin: OnceLock::new() })
    }

    /// Serves the page until the future is dropped.
    ///
    /// # Errors
    /// The socket fails.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let address = listener.local_addr()?;
        self.origin.get_or_init(|| format!("http://{address}"));
        let router = self.router(address);
        axum::serve(listener, router).await
    }

    fn router(self: Arc<Self>, address: SocketAddr) -> Router {
        routes::router(self).layer(from_fn_with_state(guard::Origins::of(address), guard::check))
    }

    /// Starts the first scene, unless there is a run.
    async fn start_if_needed(&self) -> Result<(), Rejected> {
        let mut run = self.run.lock().await;
        if run.is_none() {
            let scenario = Scenario::parse(SCENES[0]).map_err(Rejected::because)?;
            self.replace(&mut run, &scenario, &[]).await?;
        }
        Ok(())
    }

    /// Plays another scenario from its start.
    async fn open(&self, text: &str) -> Result<(), Rejected> {
        let scenario = Scenario::parse(text).map_err(Rejected::because)?;
        self.replace(&mut *self.run.lock().await, &scenario, &[]).await
    }

    /// Plays a step.
    async fn step(&self, step: &Value) -> Result<(), Rejected> {
        let mut run = self.run.lock().await;
        let run = run.as_mut().ok_or_else(Rejected::without_run)?;
        if run.scenario().steps.len() >= MAX_STEPS {
            return Err(Rejected::because(format!("there are {MAX_STEPS} steps already: start again")));
        }
        let step = ScenarioStep::read(step, run.scenario()).map_err(Rejected::because)?;
        self.publish(run, true, &[]);
        run.play(step).await;
        self.publish(run, false, &[]);
        Ok(())
    }

    /// Lets the login with this state continue, whose person comes back from the page for choosing sessions. Returns `false`
    /// when no login waits with it.
    async fn resume(&self, state: &str) -> bool {
        let mut run = self.run.lock().await;
        let Some(run) = run.as_mut() else { return false };
        let is_resumed = run.resume(state).await;
        if is_resumed {
            self.publish(run, false, &[]);
        }
        is_resumed
    }

    /// Plays all steps again but the last.
    async fn back(&self) -> Result<(), Rejected> {
        self.replay(|scenario| {
            scenario.steps.pop();
            Ok(())
        })
        .await
    }

    /// Plays all steps again with another policy, and compares.
    async fn set_policy(&self, policy: &str) -> Result<(), Rejected> {
        self.replay(|scenario| {
            let messages = check_policy(policy, scenario.start);
            if !messages.problems.is_empty() {
                return Err(Rejected(json!({ "error": "the policy is invalid", "messages": messages })));
            }
            scenario.policy = policy.to_owned();
            Ok(())
        })
        .await
    }

    /// Plays all steps again with another scenario that `change` makes of the current one.
    async fn replay(&self, change: impl FnOnce(&mut Scenario) -> Result<(), Rejected>) -> Result<(), Rejected> {
        let mut run = self.run.lock().await;
        let current = run.as_ref().ok_or_else(Rejected::without_run)?;
        let (mut scenario, before) = (current.scenario().clone(), current.records().to_vec());
        change(&mut scenario)?;
        self.replace(&mut run, &scenario, &before).await
    }

    /// Replaces the run. The old one stays when the new one cannot start.
    async fn replace(
        &self,
        run: &mut Option<ScenarioRun>,
        scenario: &Scenario,
        before: &[StepRecord],
    ) -> Result<(), Rejected> {
        let started = ScenarioRun::start(scenario, self.origin.get().cloned()).await.map_err(Rejected::because)?;
        if let Some(old) = run.take() {
            old.stop().await;
        }
        let run = run.insert(started);
        for step in &scenario.steps {
            self.publish(run, true, &[]);
            run.play(step.clone()).await;
        }
        self.publish(run, false, &differences(before, run.records()));
        Ok(())
    }

    fn publish(&self, run: &ScenarioRun, busy: bool, differences: &[Difference]) {
        let state = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "busy": busy,
            "differences": differences,
            "run": run.state(),
        });
        let json: Arc<str> = state.to_string().into();
        self.shown.send_modify(|shown| *shown = Shown { number: shown.number + 1, json });
    }
}

impl Rejected {
    fn because(error: impl Display) -> Self {
        Self(json!({ "error": error.to_string() }))
    }

    fn without_run() -> Self {
        Self::because("nothing is played yet: open the page first")
    }
}

/// The logins that ended otherwise.
fn differences(before: &[StepRecord], after: &[StepRecord]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (step, (before, after)) in before.iter().zip(after).enumerate() {
        for (login, (before, after)) in before.logins.iter().zip(&after.logins).enumerate() {
            let [before, after] = [before, after].map(|login| {
                let outcome = if login.asked {
                    "asked"
                } else if login.blocked {
                    "blocked"
                } else {
                    "allowed"
                };
                let audited = login.audited_reason().map(|reason| format!(", audited {reason}")).unwrap_or_default();
                format!("{outcome} ({}{audited})", login.reason)
            });
            if before != after {
                differences.push(Difference { step, login, before, after });
            }
        }
    }
    differences
}
