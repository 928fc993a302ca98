//! Steps, as a file and a page write them: one key that says what happens, and `expect`.

use serde_json::{Map, Value, json};

use super::names::{alternatives, did_you_mean, place};
use super::{
    Auth0Condition, Expectation, OnDevice, PageChoice, Scenario, ScenarioEvent, ScenarioStep, SignIn, duration,
};

/// The most logins at once: more than a person has devices.
pub(super) const MAX_AT_ONCE: usize = 8;

/// The keys of steps.
pub(super) const KEYS: [&str; 9] =
    ["sign in", "sign out", "close browser", "choose", "at once", "has session", "pass", "auth0", "service"];

const CHOICE_FORM: &str = "write PERSON on DEVICE ends DEVICE, or PERSON on DEVICE cancels";

const LOGIN_FORM: &str = "write PERSON on DEVICE, PERSON on DEVICE to APPLICATION, or the same and `with mfa`";

impl ScenarioStep {
    /// Reads a step. The people, devices and applications must be the scenario's.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn read(value: &Value, scenario: &Scenario) -> Result<Self, String> {
        let keys = || KEYS.map(|key| format!("`{key}:`")).join(", ");
        let fields =
            value.as_object().ok_or_else(|| format!("a step is a key and its value: write one of {}", keys()))?;
        let known = [&KEYS[..], &["expect"]].concat();
        if let Some(key) = fields.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(match did_you_mean(key, &known) {
                near if near.is_empty() => format!("`{key}` is no step: write one of {}", keys()),
                near => format!("`{key}` is no step{near} The steps are {}", keys()),
            });
        }
        let mut events = fields.iter().filter(|(key, _)| *key != "expect");
        let (key, value) = events.next().ok_or_else(|| format!("the step says nothing: write one of {}", keys()))?;
        if let Some((second, _)) = events.next() {
            return Err(format!("a step is one thing, and this is `{key}` and `{second}`: write a step for each"));
        }
        let event = match key.as_str() {
            "sign in" => ScenarioEvent::SignIn(login(text(value, LOGIN_FORM)?, scenario)?),
            "choose" => ScenarioEvent::Choose(PageChoice::read(text(value, CHOICE_FORM)?, scenario)?),
            "sign out" => ScenarioEvent::SignOut(on_device(value, scenario)?),
            "close browser" => ScenarioEvent::CloseBrowser(on_device(value, scenario)?),
            "at once" => ScenarioEvent::AtOnce(at_once(value, scenario)?),
            "pass" => ScenarioEvent::Pass(duration::parse(text(value, "write a duration such as 2h")?)?),
            "auth0" => ScenarioEvent::Auth0(auth0(value)?),
            "has session" => ScenarioEvent::HasSession(login(text(value, LOGIN_FORM)?, scenario)?),
            // The last one of `KEYS` is `service`.
            _ => match value.as_str() {
                Some("works") => ScenarioEvent::Service(true),
                Some("down") => ScenarioEvent::Service(false),
                _ => return Err("write `service: works` or `service: down`".to_owned()),
            },
        };
        let expect =
            fields.get("expect").map(|value| Expectation::read(value, &event.people(), scenario)).transpose()?;
        Ok(Self { event, expect })
    }

    /// The step as a value that [`read`](Self::read) reads.
    pub fn to_value(&self) -> Value {
        let (key, value) = match &self.event {
            ScenarioEvent::SignIn(login) => ("sign in", login.to_string().into()),
            ScenarioEvent::AtOnce(logins) => ("at once", logins.iter().map(ToString::to_string).collect()),
            ScenarioEvent::Choose(choice) => ("choose", choice.to_string().into()),
            ScenarioEvent::HasSession(login) => ("has session", login.to_string().into()),
            ScenarioEvent::SignOut(at) => ("sign out", at.to_string().into()),
            ScenarioEvent::CloseBrowser(at) => ("close browser", at.to_string().into()),
            ScenarioEvent::Pass(time) => ("pass", duration::write(*time).into()),
            ScenarioEvent::Auth0(condition) => ("auth0", condition.as_str().into()),
            ScenarioEvent::Service(works) => ("service", if *works { "works" } else { "down" }.into()),
        };
        let mut fields = Map::from_iter([(key.to_owned(), value)]);
        if let Some(expect) = &self.expect {
            fields.insert("expect".to_owned(), json!(expect.to_string()));
        }
        Value::Object(fields)
    }
}

impl ScenarioEvent {
    /// The logins that the step begins.
    pub fn logins(&self) -> &[SignIn] {
        match self {
            Self::SignIn(login) => std::slice::from_ref(login),
            Self::AtOnce(logins) => logins,
            _ => &[],
        }
    }

    /// The person of each login that the step decides: those that it begins, or the one that goes on after a choice.
    fn people(&self) -> Vec<&str> {
        match self {
            Self::Choose(choice) => vec![&choice.at.person],
            _ => self.logins().iter().map(|login| login.at.person.as_str()).collect(),
        }
    }

    /// The step as a sentence.
    pub fn sentence(&self) -> String {
        let sign_in = |login: &SignIn| {
            let mfa = if login.mfa { " with a second factor" } else { "" };
            format!("{} signs in to {} on {}{mfa}", login.at.person, login.application, login.at.device)
        };
        match self {
            Self::SignIn(login) => sign_in(login),
            Self::AtOnce(logins) => format!("At once: {}", logins.iter().map(sign_in).collect::<Vec<_>>().join("; ")),
            Self::Choose(choice) => choice.sentence(),
            Self::HasSession(login) => format!(
                "{} has a session in {} on {}, which began without a check",
                login.at.person, login.application, login.at.device
            ),
            Self::SignOut(at) => format!("{} signs out on {}", at.person, at.device),
            Self::CloseBrowser(at) => format!("{} closes the browser on {}", at.person, at.device),
            Self::Pass(time) => format!("{} pass", duration::write(*time)),
            Self::Auth0(Auth0Condition::Works) => "Auth0 works again".to_owned(),
            Self::Auth0(Auth0Condition::Slow) => "Auth0 becomes slow".to_owned(),
            Self::Auth0(Auth0Condition::Limited) => "Auth0's rate limit is used up".to_owned(),
            Self::Auth0(Auth0Condition::Down) => "Auth0's Management API goes down".to_owned(),
            Self::Service(true) => "session-checker can be reached again".to_owned(),
            Self::Service(false) => "session-checker cannot be reached".to_owned(),
        }
    }
}

fn text<'a>(value: &'a Value, form: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| form.to_owned())
}

fn auth0(value: &Value) -> Result<Auth0Condition, String> {
    let known = Auth0Condition::ALL.into_iter().find(|condition| value.as_str() == Some(condition.as_str()));
    known.ok_or_else(|| {
        format!("write `auth0:` and one of {}", alternatives(Auth0Condition::ALL.map(Auth0Condition::as_str)))
    })
}

fn at_once(value: &Value, scenario: &Scenario) -> Result<Vec<SignIn>, String> {
    let logins = value.as_array().filter(|logins| (2..=MAX_AT_ONCE).contains(&logins.len()));
    let logins = logins.ok_or_else(|| {
        format!("write a list of 2 to {MAX_AT_ONCE} logins, such as `at once: [Carla on laptop, Carla on phone]`")
    })?;
    let logins = logins.iter().map(|value| login(text(value, LOGIN_FORM)?, scenario));
    let logins = logins.collect::<Result<Vec<_>, String>>()?;
    for (position, login) in logins.iter().enumerate() {
        if logins[..position].iter().any(|other| other.at == login.at) {
            return Err(format!("`{}` logs in twice at once: a browser does one login at a time", login.at));
        }
    }
    Ok(logins)
}

fn on_device(value: &Value, scenario: &Scenario) -> Result<OnDevice, String> {
    const FORM: &str = "write PERSON on DEVICE";
    match text(value, FORM)?.split_whitespace().collect::<Vec<_>>()[..] {
        [person, "on", device] => place(person, device, scenario),
        _ => Err(format!("{value} is not understood: {FORM}")),
    }
}

fn login(text: &str, scenario: &Scenario) -> Result<SignIn, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (words, mfa) = match &words[..] {
        [words @ .., "with", "mfa"] => (words, true),
        words => (words, false),
    };
    let (person, device, application) = match *words {
        [person, "on", device] => (person, device, None),
        [person, "on", device, "to", application] => (person, device, Some(application)),
        _ => return Err(format!("`{text}` is not understood: {LOGIN_FORM}")),
    };
    let known = scenario.applications.iter().find(|known| application.is_none_or(|name| name == *known));
    let application = known.cloned().ok_or_else(|| {
        let known = alternatives(scenario.applications.iter().map(String::as_str));
        format!("there is no application `{}`: write {known}", application.unwrap_or_default())
    })?;
    Ok(SignIn { at: place(person, device, scenario)?, application, mfa })
}
