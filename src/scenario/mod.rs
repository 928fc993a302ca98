//! Scenarios: a policy, people with their devices, and what happens step by step, in a small YAML file.
//!
//! ```yaml
//! title: Why is Carla blocked on her phone?
//! policy:
//!   limits:
//!     perClient: 1
//! people:
//!   - name: Carla
//!     devices: [laptop, phone]
//! steps:
//!   - sign in: Carla on laptop
//!   - pass: 2h
//!   - sign in: Carla on phone
//!     expect: blocked limit_exceeded
//! ```
//!
//! ```text
//!  text ──parse──▶ Scenario ──▶ ScenarioRun ──▶ Simulator: sessions, logins, faults
//!    ▲                │             │    └────▶ Service: POST /check, over a socket
//!    └─────write──────┘             ├──▶ RunState, LoginRecord: what happened
//!                                   └──▶ Timeline: the same as a picture
//! ```
//!
//! The playground of the demo plays scenarios and keeps one in its link, and `session-checker test` compares them with what they
//! expect. Nothing here depends on either.
//!
//! # Time
//!
//! Tenant and service have one clock. It starts at `start`, runs while a step runs, and stands still between steps. A step
//! ends at the next whole second, so a scenario that is played again shows the same times, unless a step has to wait for
//! longer. `pass` moves the clock at once. Deadlines are not the scenario's: a tenant that is slow makes the step take as
//! long as the policy's `timeout`.

mod action;
mod duration;
mod expect;
mod explain;
mod file;
mod lanes;
mod names;
mod page_choice;
mod parse;
mod policy_text;
mod run;
mod schema;
mod setup;
mod state;
mod steps;
mod timeline;
mod write;

use std::time::Duration;

use jiff::Timestamp;

pub use file::ScenarioFile;
pub use page_choice::{DeviceSession, PageChoice};
pub use parse::{MAX_BYTES, MAX_STEPS, ScenarioError};
pub(crate) use policy_text::{CLIENT, DOMAIN, TOKEN};
pub use policy_text::{PolicyMessages, PolicyProblem, check_policy};
pub use run::ScenarioRun;
pub use schema::schema;
pub use state::{Explanation, LoginRecord, RunState, SessionLane, StepRecord};
pub use timeline::Timeline;

/// A scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// What it shows; best a question.
    pub title: String,
    /// What a person may try after the last step.
    pub hint: Option<String>,
    /// When it starts.
    pub start: Timestamp,
    /// The `spec` of the `SessionPolicy` as YAML. Tenant, credential and callers are the run's own, whatever it names.
    pub policy: String,
    /// What the Action does when the service gives no answer.
    pub fail_mode: FailMode,
    /// The people.
    pub people: Vec<Person>,
    /// The client ids of the applications. A login without one is to the first.
    pub applications: Vec<String>,
    /// What happens.
    pub steps: Vec<ScenarioStep>,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The name in steps.
    pub name: String,
    /// The Auth0 user id.
    pub user_id: String,
    /// The roles that the Action reads.
    pub roles: Vec<String>,
    /// The id of the organization through which the person logs in.
    pub organization: Option<String>,
    /// The name of the connection. `None` is Auth0's own database.
    pub connection: Option<String>,
    /// The devices. Each has one browser.
    pub devices: Vec<String>,
}

/// The Action's secret `FAIL_MODE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum FailMode {
    /// The login continues.
    #[default]
    Allow,
    /// The login is blocked.
    Deny,
}

/// A step.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenarioStep {
    /// What happens.
    pub event: ScenarioEvent,
    /// How its logins should end. `None` when the scenario does not say.
    pub expect: Option<Expectation>,
}

/// What happens in a step.
#[derive(Clone, Debug, PartialEq)]
pub enum ScenarioEvent {
    /// `sign in`: a login in a browser.
    SignIn(SignIn),
    /// `at once`: logins whose checks run at the same time.
    AtOnce(Vec<SignIn>),
    /// `choose`: a person whose login waits at the page for choosing sessions ends sessions there, or cancels.
    Choose(PageChoice),
    /// `has session`: a session begins without a check, such as before there was a policy.
    HasSession(SignIn),
    /// `sign out`: the browser's session ends.
    SignOut(OnDevice),
    /// `close browser`: the browser forgets its session, which stays.
    CloseBrowser(OnDevice),
    /// `pass`: time passes.
    Pass(Duration),
    /// `auth0`: from now on the Management API behaves so.
    Auth0(Auth0Condition),
    /// `service`: from now on session-checker answers (`true`) or cannot be reached.
    Service(bool),
}

/// A login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// Who, and where.
    pub at: OnDevice,
    /// The client id.
    pub application: String,
    /// Whether a second factor is used.
    pub mfa: bool,
}

/// A person's device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OnDevice {
    /// The person's name.
    pub person: String,
    /// The device's name.
    pub device: String,
}

/// How the Management API behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth0Condition {
    /// It answers.
    #[default]
    Works,
    /// It answers later than a check waits.
    Slow,
    /// It answers 429: the rate limit is used up.
    Limited,
    /// It answers 503.
    Down,
}

/// How the logins of a step should end, in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation(pub Vec<ExpectedLogin>);

/// How a login should end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedLogin {
    /// What becomes of the login.
    pub outcome: ExpectedOutcome,
    /// The reason in the answer. `None` takes any.
    pub reason: Option<String>,
    /// What the reason would be with mode `Enforce`. `None` takes any.
    pub audited_reason: Option<String>,
}

/// What should become of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedOutcome {
    /// `allowed`: the login completes.
    Allowed,
    /// `blocked`: the login ends, or waits for a choice.
    Blocked,
    /// `asks`: the login waits until the person has chosen which sessions to end.
    Asks,
    /// `evicts`: the login completes, and the sessions of these devices of the person end.
    Evicts(Vec<String>),
}

impl Scenario {
    /// A person by name, in any case.
    pub fn person(&self, name: &str) -> Option<&Person> {
        self.people.iter().find(|person| person.name.eq_ignore_ascii_case(name))
    }
}

impl FailMode {
    /// The value of the secret.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl Auth0Condition {
    /// Every condition.
    pub const ALL: [Self; 4] = [Self::Works, Self::Slow, Self::Limited, Self::Down];

    /// The word in a step.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Slow => "slow",
            Self::Limited => "limited",
            Self::Down => "down",
        }
    }
}
