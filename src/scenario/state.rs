//! What a run shows: the state of the people's browsers and of the tenant, and a record of every step.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::ExpectedLogin;

/// A run at one moment, as JSON for a page or a report.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunState {
    /// The scenario's title.
    pub title: String,
    /// What a person may try next.
    pub hint: Option<String>,
    /// When the scenario starts.
    pub start: Timestamp,
    /// The time of tenant and service.
    pub now: Timestamp,
    /// The spec of the policy, as written.
    pub policy: String,
    /// Parts of the policy that have no effect.
    pub warnings: Vec<String>,
    /// The Action's `FAIL_MODE`.
    pub fail_mode: &'static str,
    /// How the Management API behaves.
    pub auth0: &'static str,
    /// Whether session-checker can be reached.
    pub service: bool,
    /// Where checks are sent.
    pub check_url: String,
    /// The people and their devices.
    pub people: Vec<PersonState>,
    /// The client ids.
    pub applications: Vec<String>,
    /// Every session that began, in that order, also those that ended.
    pub sessions: Vec<SessionLane>,
    /// What happened.
    pub steps: Vec<StepRecord>,
    /// The scenario with all steps, as YAML.
    pub scenario: String,
    /// The same, where every login is expected to end as it did.
    pub expectations: String,
}

/// A person's devices.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PersonState {
    /// The name.
    pub name: String,
    /// The Auth0 user id.
    pub user_id: String,
    /// The devices.
    pub devices: Vec<DeviceState>,
}

/// The browser of a device.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceState {
    /// The name.
    pub name: String,
    /// The session of the browser's cookie, whether it still exists or not.
    pub sid: Option<String>,
    /// The page for choosing sessions, while a login of this browser waits for a choice.
    pub page: Option<String>,
}

/// A session from its begin to its end.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionLane {
    /// The session id.
    pub id: String,
    /// Whose it is.
    pub person: String,
    /// Where it began.
    pub device: String,
    /// When it began.
    pub began: Timestamp,
    /// The applications that completed a login in it, and when.
    pub clients: Vec<(String, Timestamp)>,
    /// When it ends unless it is used.
    pub expires: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What ended it.
    pub ended_by: Option<&'static str>,
    /// Its entry in Auth0's list; the last one, when it has ended.
    pub entry: Value,
}

/// A step that was played.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// The step as a sentence.
    pub sentence: String,
    /// When it began.
    pub at: Timestamp,
    /// The logins of the step.
    pub logins: Vec<LoginRecord>,
    /// How many lists session-checker requested from Auth0.
    pub lists: u64,
    /// How many revocations session-checker requested from Auth0.
    pub revocations: u64,
    /// What else there is to say, such as that there was no session to end.
    pub note: Option<String>,
    /// What the scenario expects of the logins.
    pub expected: Option<String>,
    /// Whether that came about.
    pub met: Option<bool>,
}

/// A login that was played.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginRecord {
    /// Who.
    pub person: String,
    /// Where.
    pub device: String,
    /// The client id.
    pub application: String,
    /// The session of the login.
    pub sid: String,
    /// Whether the browser's session continued.
    pub resumed: bool,
    /// Whether the Action blocked the login.
    pub blocked: bool,
    /// Whether the login waits until the person has chosen sessions to end, on the page of the service.
    pub asked: bool,
    /// The devices of the person whose sessions session-checker ended in the step, when it ended some for this login.
    pub evicted: Vec<String>,
    /// The reason in the answer; `no_answer` when there was none.
    pub reason: String,
    /// What the user reads.
    pub message: Option<String>,
    /// The body that the Action sent.
    pub request: Value,
    /// The service's answer.
    pub answer: Option<Value>,
    /// Why there was no answer.
    pub error: Option<String>,
    /// What the Action did.
    pub action: Vec<String>,
    /// How each session counted; `None` when there was nothing to count.
    pub explanation: Option<Explanation>,
}

impl LoginRecord {
    /// How the login ended, as an expectation that it meets.
    pub fn outcome(&self) -> String {
        ExpectedLogin::of(self).to_string()
    }

    /// What the reason would be with mode `Enforce`.
    pub fn audited_reason(&self) -> Option<&str> {
        self.answer.as_ref()?["audited_reason"].as_str()
    }
}

/// How the sessions of a user counted for a login.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The limits that applied.
    pub limits: String,
    /// The override that chose them.
    pub chosen_by: Option<String>,
    /// The sessions in the order of the list.
    pub sessions: Vec<ExplainedSession>,
}

/// How a session counted.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedSession {
    /// The session id.
    pub id: String,
    /// Whether it takes a place of a limit.
    pub counts: bool,
    /// Why, as the rest of a sentence that begins with the session.
    pub role: String,
    /// Whether the strategy ends it.
    pub would_end: bool,
}
