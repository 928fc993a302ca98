//! Plays a scenario, step by step.

mod choosing;

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use simulator::{Login, Operation};

use super::action::{self, act};
use super::expect::NO_ANSWER;
use super::explain::explain;
use super::lanes::Lanes;
use super::setup::SimulatedSetup;
use super::state::{DeviceState, LoginRecord, PersonState, RunState, SessionLane, StepRecord};
use super::{
    Auth0Condition, Expectation, ExpectedLogin, FailMode, OnDevice, Person, Scenario, ScenarioEvent, ScenarioStep,
    SignIn, check_policy,
};
use crate::service::RunError;
use choosing::WaitingLogin;

/// What ended a session that the person chose.
pub(super) const BY_PERSON: &str = "ended on the page for choosing sessions";

/// A scenario that is being played: its tenant, its service, and the people's browsers.
pub struct ScenarioRun {
    scenario: Scenario,
    setup: SimulatedSetup,
    http: reqwest::Client,
    /// The cookies: which session a browser has.
    cookies: HashMap<OnDevice, String>,
    /// The logins that wait at the page for choosing sessions, by their browser.
    waiting: HashMap<OnDevice, WaitingLogin>,
    /// How many lists and revocations the tenant had at the end of the last step.
    requests: [u64; 2],
    lanes: Lanes,
    records: Vec<StepRecord>,
    auth0: Auth0Condition,
    is_service_up: bool,
    warnings: Vec<String>,
}

/// What ended a session that the service revoked.
pub(super) const EVICTED: &str = "ended by session-checker, for another login";

/// A login that has its session and waits for its check.
struct BegunLogin {
    sign_in: SignIn,
    login: Login,
    person: Person,
    /// The body that the Action sends.
    request: Value,
}

impl ScenarioRun {
    /// Starts a tenant and a service for the scenario. No step is played yet: [`play`](Self::play) does that. The page for
    /// choosing sessions sends browsers to `login_origin`, where [`resume`](Self::resume) lets their login continue; without
    /// it, to the tenant's domain, where no browser finds the simulated login.
    ///
    /// # Errors
    /// The policy is invalid, or a socket cannot be bound.
    pub async fn start(scenario: &Scenario, login_origin: Option<String>) -> Result<Self, RunError> {
        let messages = check_policy(&scenario.policy, scenario.start);
        if let Some(problem) = messages.problems.first() {
            return Err(RunError::Command(format!("the policy: {}", problem.message)));
        }
        let setup = SimulatedSetup::start(scenario, login_origin).await?;
        // Without a proxy of the environment: the service is on loopback.
        let http = reqwest::Client::builder().no_proxy().build();
        let http = http.map_err(|error| RunError::Command(format!("the HTTP client cannot be built: {error}")))?;
        Ok(Self {
            scenario: Scenario { steps: Vec::new(), ..scenario.clone() },
            setup,
            http,
            cookies: HashMap::new(),
            waiting: HashMap::new(),
            requests: [0; 2],
            lanes: Lanes::default(),
            records: Vec::new(),
            auth0: Auth0Condition::default(),
            is_service_up: true,
            warnings: messages.warnings,
        })
    }

    /// Starts a run and plays all steps.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn of(scenario: &Scenario) -> Result<Self, RunError> {
        let mut run = Self::start(scenario, None).await?;
        for step in &scenario.steps {
            run.play(step.clone()).await;
        }
        Ok(run)
    }

    /// Stops tenant and service.
    pub async fn stop(self) {
        drop(self.http);
        self.setup.stop().await;
    }

    /// The scenario with the steps that were played.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The steps that were played.
    pub fn records(&self) -> &[StepRecord] {
        &self.records
    }

    /// Every session that began, in that order.
    pub(super) fn lanes(&self) -> &[SessionLane] {
        self.lanes.all()
    }

    /// The time of tenant and service.
    pub fn now(&self) -> Timestamp {
        self.setup.clock.now()
    }

    /// Plays a step and adds it to the scenario. What goes wrong is part of the record.
    pub async fn play(&mut self, step: ScenarioStep) {
        self.play_step(step, false).await;
    }

    /// Plays a step. `is_chosen`: the person of a `choose` has used the page.
    async fn play_step(&mut self, step: ScenarioStep, is_chosen: bool) {
        let at = self.now();
        let mut record = StepRecord {
            sentence: step.event.sentence(),
            at,
            logins: Vec::new(),
            lists: 0,
            revocations: 0,
            note: None,
            expected: step.expect.as_ref().map(ToString::to_string),
            met: None,
        };
        match &step.event {
            ScenarioEvent::SignIn(_) | ScenarioEvent::AtOnce(_) => {
                // The clock stands: a session begins at the time of its step, however busy the machine is.
                let begun = self.begin(step.event.logins());
                self.setup.clock.run();
                // A session may end within the step.
                self.lanes.update(&self.setup.tenant, &self.scenario.people, at, |_| "expired");
                self.decide(begun, &mut record).await;
                self.setup.clock.stop();
            }
            ScenarioEvent::Choose(choice) => {
                self.setup.clock.run();
                let sent = if is_chosen { Ok(()) } else { self.send_choice(choice).await };
                record.note = sent.err();
                self.lanes.update(&self.setup.tenant, &self.scenario.people, at, |_| BY_PERSON);
                // The page has listed and revoked since the last step.
                let (before, now) = (self.requests, self.count_requests());
                (record.lists, record.revocations) = (now[0] - before[0], now[1] - before[1]);
                let waited = self.take_waiting(&choice.at);
                self.decide(waited.into_iter().collect(), &mut record).await;
                self.setup.clock.stop();
            }
            ScenarioEvent::HasSession(sign_in) => {
                for BegunLogin { sign_in, login, .. } in self.begin(std::slice::from_ref(sign_in)) {
                    self.cookies.extend(login.complete().map(|sid| (sign_in.at, sid)));
                }
                self.setup.clock.advance(Duration::from_secs(1));
            }
            ScenarioEvent::SignOut(at) => {
                record.note = self.sign_out(at);
                self.setup.clock.advance(Duration::from_secs(1));
            }
            ScenarioEvent::CloseBrowser(at) => {
                let closed = self.cookies.remove(at);
                self.waiting.remove(at);
                let note = if closed.is_some() { "The session stays at Auth0." } else { "It had no session." };
                record.note = Some(note.to_owned());
                self.setup.clock.advance(Duration::from_secs(1));
            }
            ScenarioEvent::Pass(time) => self.setup.clock.advance(*time),
            ScenarioEvent::Auth0(condition) => {
                self.setup.set_auth0(*condition);
                self.auth0 = *condition;
            }
            ScenarioEvent::Service(is_up) => self.is_service_up = *is_up,
        }
        let now = self.now();
        self.lanes.update(&self.setup.tenant, &self.scenario.people, now, |sid| {
            let is_own = record.logins.iter().any(|login| login.sid == sid && login.blocked);
            match step.event {
                ScenarioEvent::SignOut(_) => "signed out",
                _ if is_own => "ended by the Action, because the login was blocked",
                _ => EVICTED,
            }
        });
        self.requests = self.count_requests();
        for login in &mut record.logins {
            login.evicted = self.evicted_for(login, now);
        }
        record.met = step.expect.as_ref().map(|expect| expect.is_met_by(&record.logins));
        self.records.push(record);
        self.scenario.steps.push(step);
    }

    /// What there is to see.
    pub fn state(&self) -> RunState {
        let scenario = &self.scenario;
        let device = |person: &str, device: &String| DeviceState {
            name: device.clone(),
            sid: self.cookies.get(&OnDevice { person: person.to_owned(), device: device.clone() }).cloned(),
            page: self.page_of(&OnDevice { person: person.to_owned(), device: device.clone() }),
        };
        let people = scenario.people.iter().map(|person| PersonState {
            name: person.name.clone(),
            user_id: person.user_id.clone(),
            devices: person.devices.iter().map(|name| device(&person.name, name)).collect(),
        });
        RunState {
            title: scenario.title.clone(),
            hint: scenario.hint.clone(),
            start: scenario.start,
            now: self.now(),
            policy: scenario.policy.clone(),
            warnings: self.warnings.clone(),
            fail_mode: scenario.fail_mode.as_str(),
            auth0: self.auth0.as_str(),
            service: self.is_service_up,
            check_url: format!("http://{}/check", self.setup.address),
            people: people.collect(),
            applications: scenario.applications.clone(),
            sessions: self.lanes.all().to_vec(),
            steps: self.records.clone(),
            scenario: scenario.to_yaml(),
            expectations: self.with_expectations().to_yaml(),
        }
    }

    /// Sets what the Action does from now on when the service gives no answer.
    pub fn set_fail_mode(&mut self, fail_mode: FailMode) {
        self.scenario.fail_mode = fail_mode;
    }

    /// The scenario, where every login is expected to end as it did.
    fn with_expectations(&self) -> Scenario {
        let mut scenario = self.scenario.clone();
        for (step, record) in scenario.steps.iter_mut().zip(&self.records) {
            if !record.logins.is_empty() {
                step.expect = Some(Expectation(record.logins.iter().map(ExpectedLogin::of).collect()));
            }
        }
        scenario
    }

    /// The device on which a session began.
    pub fn device_of(&self, sid: &str) -> Option<&str> {
        self.lanes.device(sid)
    }

    /// The devices of the person whose sessions the service ended just now, for a login that evicted some.
    fn evicted_for(&self, login: &LoginRecord, now: Timestamp) -> Vec<String> {
        let revoked = login.answer.as_ref().and_then(|answer| answer["revoked_sessions"].as_u64());
        let lanes =
            self.lanes.all().iter().filter(|lane| {
                lane.person == login.person && lane.ended == Some(now) && lane.ended_by == Some(EVICTED)
            });
        let mut devices: Vec<String> = lanes.map(|lane| lane.device.clone()).collect();
        devices.sort();
        devices.dedup();
        if revoked.unwrap_or_default() > 0 { devices } else { Vec::new() }
    }

    /// The people authenticate: each login has its session.
    fn begin(&mut self, sign_ins: &[SignIn]) -> Vec<BegunLogin> {
        let begin = |sign_in: &SignIn| {
            let person = self.scenario.person(&sign_in.at.person)?;
            let cookie = self.cookies.get(&sign_in.at).map(String::as_str);
            let login = self.setup.tenant.begin_login(&person.user_id, &sign_in.application, cookie);
            login.used_with(user_agent(&sign_in.at.device));
            self.lanes.begins(login.sid(), &sign_in.at);
            self.waiting.remove(&sign_in.at);
            let request = action::request(person, &login, sign_in.mfa);
            Some(BegunLogin { sign_in: sign_in.clone(), login, person: person.clone(), request })
        };
        sign_ins.iter().filter_map(begin).collect()
    }

    /// Why the decisions of the logins will come about; empty while Auth0 does not answer, because nothing can be listed then.
    async fn explanations(&self, begun: &[BegunLogin]) -> Vec<Option<super::Explanation>> {
        let mut explanations = Vec::new();
        if self.auth0 != Auth0Condition::Works || !self.is_service_up {
            return explanations;
        }
        for begun in begun {
            let (mfa, continued) = (begun.sign_in.mfa, begun.is_continued());
            explanations.push(explain(&self.setup, &begun.person, &begun.login, (mfa, continued)).await);
        }
        explanations
    }

    /// Decides the logins, and adds them, their explanations and their requests to the record.
    async fn decide(&mut self, begun: Vec<BegunLogin>, record: &mut StepRecord) {
        let explanations = self.explanations(&begun).await;
        let before = self.count_requests();
        record.logins = self.check(begun).await;
        let after = self.count_requests();
        record.lists += after[0] - before[0];
        record.revocations += after[1] - before[1];
        for (login, explanation) in record.logins.iter_mut().zip(explanations) {
            login.explanation = explanation;
        }
    }

    /// How many lists and revocations the tenant has received.
    fn count_requests(&self) -> [u64; 2] {
        [Operation::List, Operation::Revoke].map(|operation| self.setup.tenant.count(operation))
    }

    /// Runs the checks of all logins at the same time, and lets the Action end each login, or send it to the page.
    async fn check(&mut self, begun: Vec<BegunLogin>) -> Vec<LoginRecord> {
        let address = self.is_service_up.then_some(self.setup.address);
        let answers = join_all(begun.iter().map(|begun| action::check(&self.http, address, &begun.request))).await;
        let mut records = Vec::new();
        for (begun, answer) in begun.into_iter().zip(answers) {
            let calls = act(&answer, self.scenario.fail_mode, begun.is_continued());
            let reason = answer.as_ref().ok().and_then(|answer| answer["reason"].as_str()).unwrap_or(NO_ANSWER);
            let OnDevice { person, device } = begun.sign_in.at.clone();
            let mut record = LoginRecord {
                person,
                device,
                application: begun.sign_in.application.clone(),
                sid: begun.login.sid().to_owned(),
                resumed: begun.login.is_resumed(),
                blocked: calls.block,
                asked: calls.page.is_some(),
                evicted: Vec::new(),
                reason: reason.to_owned(),
                message: calls.message,
                request: begun.request.clone(),
                error: answer.as_ref().err().cloned(),
                answer: answer.ok(),
                action: calls.calls,
                explanation: None,
            };
            match calls.page {
                Some(page) => self.wait(begun, &page),
                None => {
                    let has_session = self.end(begun, calls.block, calls.revoke);
                    if !has_session && !calls.block {
                        record.action.push("Auth0 found the session ended and failed the login".to_owned());
                    }
                }
            }
            records.push(record);
        }
        records
    }

    /// Ends a login as the Action says. Returns whether its browser has a session then.
    fn end(&mut self, BegunLogin { sign_in, login, .. }: BegunLogin, block: bool, revoke: bool) -> bool {
        let cookie = match (block, revoke) {
            (true, true) => {
                login.revoke();
                None
            }
            (true, false) => login.deny(),
            (false, _) => login.complete(),
        };
        let has_session = cookie.is_some();
        match cookie {
            Some(sid) => self.cookies.insert(sign_in.at, sid),
            None => self.cookies.remove(&sign_in.at),
        };
        has_session
    }

    /// Ends the session of a browser. Returns what there is to say.
    fn sign_out(&mut self, at: &OnDevice) -> Option<String> {
        let ended = self.cookies.remove(at).is_some_and(|sid| self.setup.tenant.end_session(&sid));
        (!ended).then(|| "There was no session to end.".to_owned())
    }
}

impl BegunLogin {
    /// Whether it comes back from the page for choosing sessions.
    fn is_continued(&self) -> bool {
        self.request["continued"] == true
    }
}

/// The user agent of a device: the page for choosing sessions shows its browser and system.
fn user_agent(device: &str) -> &'static str {
    let device = device.to_lowercase();
    if device.contains("phone") {
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 \
         Mobile/15E148 Safari/604.1"
    } else if device.contains("tablet") {
        "Mozilla/5.0 (Linux; Android 15; Pixel Tablet) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
    } else {
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
    }
}
