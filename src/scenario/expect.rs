//! What a scenario expects of its logins: read, written, and compared with what happened.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

use serde_json::Value;

use super::names::{alternatives, did_you_mean};
use super::state::LoginRecord;
use super::{Expectation, ExpectedLogin, ExpectedOutcome, Scenario};
use crate::policy::Reason;

/// The reason of a login to which the service gave no answer.
pub(super) const NO_ANSWER: &str = "no_answer";
/// The words that an expectation begins with.
pub(super) const OUTCOMES: [&str; 4] = ["allowed", "blocked", "asks", "evicts"];

const FORM: &str =
    "write allowed or blocked, with the reason if it matters: `blocked limit_exceeded`; or asks; or `evicts DEVICE`";

/// Every reason that can be expected.
pub(super) fn reasons() -> Vec<&'static str> {
    Reason::all().map(Reason::as_str).chain([NO_ANSWER]).collect()
}

impl Expectation {
    /// Reads what is expected of the logins of a step, which are those of `people`.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub(super) fn read(value: &Value, people: &[&str], scenario: &Scenario) -> Result<Self, String> {
        if people.is_empty() {
            return Err("`expect` is for logins: write it beside `sign in`, `at once` or `choose`".to_owned());
        }
        let text = value.as_str().ok_or(FORM)?;
        let expected = text.split(',').map(|login| ExpectedLogin::read(login.trim(), people, scenario));
        let expected = expected.collect::<Result<Vec<_>, _>>()?;
        if expected.len() != people.len() {
            return Err(format!(
                "`expect` names {} logins and the step has {}: write one outcome for each, with commas",
                expected.len(),
                people.len()
            ));
        }
        Ok(Self(expected))
    }

    /// Whether the logins ended so, in any order.
    pub(super) fn is_met_by(&self, logins: &[LoginRecord]) -> bool {
        let mut left: Vec<&LoginRecord> = logins.iter().collect();
        // The ones with a reason first: they fit fewer logins.
        let mut expected: Vec<&ExpectedLogin> = self.0.iter().collect();
        expected.sort_by_key(|expected| expected.breadth());
        let met = expected.iter().all(|expected| {
            let found = left.iter().position(|login| expected.fits(login));
            found.map(|position| left.swap_remove(position)).is_some()
        });
        met && left.is_empty()
    }
}

impl ExpectedLogin {
    fn read(text: &str, people: &[&str], scenario: &Scenario) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (outcome, reasons) = match words[..] {
            ["allowed", ref reasons @ ..] => (ExpectedOutcome::Allowed, reasons),
            ["blocked", ref reasons @ ..] => (ExpectedOutcome::Blocked, reasons),
            ["asks", ref reasons @ ..] => (ExpectedOutcome::Asks, reasons),
            ["evicts", ref names @ ..] => (ExpectedOutcome::Evicts(devices(names, people, scenario)?), &[][..]),
            [other, ..] => return Err(format!("`{other}` is no outcome{}: {FORM}", did_you_mean(other, &OUTCOMES))),
            [] => return Err(FORM.to_owned()),
        };
        let (reason, audited_reason) = match (&outcome, reasons) {
            (_, []) => (None, None),
            (ExpectedOutcome::Asks, _) => return Err("write `asks` alone: it has one reason only".to_owned()),
            (_, [reason]) => (Some(known_reason(reason)?), None),
            (ExpectedOutcome::Allowed, [audit, audited]) if *audit == Reason::Audit.as_str() => {
                (Some((*audit).to_owned()), Some(known_reason(audited)?))
            }
            _ => return Err(format!("`{text}` is not understood: {FORM}")),
        };
        Ok(Self { outcome, reason, audited_reason })
    }

    /// How a login ended, as the narrowest expectation that it meets.
    pub(super) fn of(login: &LoginRecord) -> Self {
        let outcome = match login {
            LoginRecord { blocked: true, asked: true, .. } => ExpectedOutcome::Asks,
            LoginRecord { blocked: true, .. } => ExpectedOutcome::Blocked,
            LoginRecord { evicted, .. } if !evicted.is_empty() => ExpectedOutcome::Evicts(evicted.clone()),
            _ => ExpectedOutcome::Allowed,
        };
        let has_reason = matches!(outcome, ExpectedOutcome::Allowed | ExpectedOutcome::Blocked);
        let audited_reason = login.audited_reason().filter(|_| has_reason).map(str::to_owned);
        Self { outcome, reason: has_reason.then(|| login.reason.clone()), audited_reason }
    }

    fn fits(&self, login: &LoginRecord) -> bool {
        let has_outcome = match &self.outcome {
            ExpectedOutcome::Allowed => !login.blocked,
            ExpectedOutcome::Blocked => login.blocked,
            ExpectedOutcome::Asks => login.asked,
            ExpectedOutcome::Evicts(devices) => {
                let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
                !login.blocked && set(devices) == set(&login.evicted)
            }
        };
        has_outcome
            && self.reason.as_ref().is_none_or(|reason| *reason == login.reason)
            && self.audited_reason.as_deref().is_none_or(|reason| login.audited_reason() == Some(reason))
    }

    /// How many kinds of logins fit, as a rank.
    fn breadth(&self) -> u8 {
        match (&self.outcome, &self.reason, &self.audited_reason) {
            (ExpectedOutcome::Evicts(_) | ExpectedOutcome::Asks, _, _) | (_, _, Some(_)) => 0,
            (_, Some(_), _) => 1,
            _ => 2,
        }
    }
}

/// The devices of `evicts`, joined by `and`.
fn devices(words: &[&str], people: &[&str], scenario: &Scenario) -> Result<Vec<String>, String> {
    let people = people.iter().filter_map(|name| scenario.person(name));
    let known: Vec<&str> = people.flat_map(|person| person.devices.iter().map(String::as_str)).collect();
    let is_list = words.len() % 2 == 1 && words.iter().skip(1).step_by(2).all(|word| *word == "and");
    if !is_list {
        return Err("write `evicts DEVICE`, or `evicts DEVICE and DEVICE`".to_owned());
    }
    let device = |name: &&str| match known.contains(name) {
        true => Ok((*name).to_owned()),
        false => Err(format!("there is no device `{name}`: write {}", alternatives(known.iter().copied()))),
    };
    words.iter().step_by(2).map(device).collect()
}

fn known_reason(name: &str) -> Result<String, String> {
    let reasons = reasons();
    if reasons.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(match did_you_mean(name, &reasons) {
        near if near.is_empty() => format!("`{name}` is no reason: write {}", alternatives(reasons)),
        near => format!("`{name}` is no reason{near}"),
    })
}

impl Display for Expectation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (position, login) in self.0.iter().enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            write!(f, "{comma}{login}")?;
        }
        Ok(())
    }
}

impl Display for ExpectedLogin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            ExpectedOutcome::Allowed => f.write_str("allowed")?,
            ExpectedOutcome::Blocked => f.write_str("blocked")?,
            ExpectedOutcome::Asks => f.write_str("asks")?,
            ExpectedOutcome::Evicts(devices) => write!(f, "evicts {}", devices.join(" and "))?,
        }
        for reason in self.reason.iter().chain(&self.audited_reason) {
            write!(f, " {reason}")?;
        }
        Ok(())
    }
}
