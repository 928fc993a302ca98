//! Reads scenarios. Every error names a line and what to write instead. A scenario may come from a link, so bytes, values
//! and steps are bounded before anything is played.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::Spanned;

use super::names::{self, alternatives};
use super::{FailMode, Person, Scenario, ScenarioStep};

/// The longest text in bytes: ten times the longest scenario of the documentation. It fits a link of 8,000 characters when it
/// is compressed.
pub const MAX_BYTES: usize = 32 << 10;
/// The most steps: an hour of clicking. All of them are played again after a change of the policy.
pub const MAX_STEPS: usize = 200;
/// The most values in the YAML: each step has at most nine.
const MAX_VALUES: usize = 4_000;
/// The most people: they fit the page.
const MAX_PEOPLE: usize = 12;
/// The most devices of a person.
const MAX_DEVICES: usize = 6;
/// The most applications.
const MAX_APPLICATIONS: usize = 8;
/// The most roles of a person.
const MAX_ROLES: usize = 8;
/// The longest title or hint, in characters.
const MAX_TITLE: usize = 120;

/// When a scenario starts that does not say: a Monday morning.
const DEFAULT_START: Timestamp = Timestamp::constant(1_772_442_000, 0);
/// The application of a scenario that names none.
const DEFAULT_APPLICATION: &str = "demo-app";

/// What is wrong with a scenario, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", .line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct ScenarioError {
    /// The line, from 1; `None` when the problem is of the whole text.
    pub line: Option<u64>,
    /// What is wrong, and what to write instead.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawScenario {
    title: Option<Spanned<String>>,
    hint: Option<Spanned<String>>,
    start: Option<Spanned<String>>,
    fail_mode: Option<Spanned<String>>,
    policy: Spanned<Value>,
    people: Spanned<Vec<Spanned<RawPerson>>>,
    applications: Option<Spanned<Vec<String>>>,
    steps: Option<Spanned<Vec<Spanned<Value>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawPerson {
    name: String,
    user_id: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    devices: Vec<String>,
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// The first problem. The policy is not compiled here: see [`check_policy`](super::check_policy).
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        if text.len() > MAX_BYTES {
            return Err(whole(format!("the scenario has {} bytes: write at most {MAX_BYTES}", text.len())));
        }
        let raw: RawScenario = read_yaml(text).map_err(|(line, message)| of_yaml(line, &message))?;
        let title = raw.title.map(|title| short("title", title)).transpose()?;
        let hint = raw.hint.map(|hint| short("hint", hint)).transpose()?;
        let start = match raw.start {
            None => Ok(DEFAULT_START),
            Some(start) => start
                .value
                .parse::<Timestamp>()
                .map_err(|_| at(&start, format!("`{}` is no time: write one such as {DEFAULT_START}", start.value))),
        };
        let mut scenario = Self {
            title: title.unwrap_or_else(|| "A scenario".to_owned()),
            hint,
            start: start?,
            policy: policy_text(text, &raw.policy),
            fail_mode: raw.fail_mode.as_ref().map_or(Ok(FailMode::Allow), fail_mode)?,
            people: people(raw.people)?,
            applications: applications(raw.applications)?,
            steps: Vec::new(),
        };
        if let Some(steps) = raw.steps {
            if steps.value.len() > MAX_STEPS {
                let message = format!("there are {} steps: write at most {MAX_STEPS}", steps.value.len());
                return Err(at(&steps, message));
            }
            for step in &steps.value {
                let read = ScenarioStep::read(&step.value, &scenario).map_err(|message| at(step, message))?;
                scenario.steps.push(read);
            }
        }
        Ok(scenario)
    }
}

/// Reads the YAML of a scenario or of its policy.
///
/// # Errors
/// The line, where it is known, and the parser's own words, without the snippet of the text.
pub(super) fn read_yaml<T: DeserializeOwned>(text: &str) -> Result<T, (Option<u64>, String)> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_documents: 1, max_nodes: MAX_VALUES },
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| (error.location().map(|location| location.line()), error.without_snippet().to_string()))
}

/// The user id of a person whose id is not written.
pub(super) fn default_user_id(name: &str) -> String {
    format!("auth0|{}", name.to_lowercase())
}

fn whole(message: String) -> ScenarioError {
    ScenarioError { line: None, message }
}

fn at<T>(place: &Spanned<T>, message: String) -> ScenarioError {
    ScenarioError { line: Some(place.referenced.line()), message }
}

fn of_yaml(line: Option<u64>, message: &str) -> ScenarioError {
    // The parser says the place in its own words, at the end or in front.
    let message = message.split(" at line ").next().unwrap_or(message).to_owned();
    ScenarioError { line, message }
}

fn short(field: &str, text: Spanned<String>) -> Result<String, ScenarioError> {
    let length = text.value.chars().count();
    if length > MAX_TITLE || text.value.contains('\n') {
        return Err(at(&text, format!("the {field} is too long: write one line of at most {MAX_TITLE} characters")));
    }
    Ok(text.value)
}

fn fail_mode(text: &Spanned<String>) -> Result<FailMode, ScenarioError> {
    [FailMode::Allow, FailMode::Deny]
        .into_iter()
        .find(|mode| mode.as_str() == text.value)
        .ok_or_else(|| at(text, format!("`{}` is no failMode: write allow or deny", text.value)))
}

fn people(raw: Spanned<Vec<Spanned<RawPerson>>>) -> Result<Vec<Person>, ScenarioError> {
    if !(1..=MAX_PEOPLE).contains(&raw.value.len()) {
        return Err(at(&raw, format!("write 1 to {MAX_PEOPLE} people, each with `name` and `devices`")));
    }
    let mut people: Vec<Person> = Vec::new();
    for entry in raw.value {
        let wrong = |message| at(&entry, message);
        let RawPerson { name, user_id, roles, devices } = &entry.value;
        names::check("a person", name).map_err(wrong)?;
        if people.iter().any(|person| person.name.eq_ignore_ascii_case(name)) {
            return Err(wrong(format!("there are two people `{name}`: write another name")));
        }
        if !(1..=MAX_DEVICES).contains(&devices.len()) {
            return Err(wrong(format!(
                "write 1 to {MAX_DEVICES} devices of {name}, such as `devices: [laptop, phone]`"
            )));
        }
        for (position, device) in devices.iter().enumerate() {
            names::check("a device", device).map_err(wrong)?;
            if devices[..position].contains(device) {
                return Err(wrong(format!("{name} has two devices `{device}`: write another name")));
            }
        }
        let user_id = user_id.clone().unwrap_or_else(|| default_user_id(name));
        if user_id.is_empty() || user_id.chars().count() > 128 || user_id.chars().any(char::is_control) {
            return Err(wrong("the userId is no user id: write one such as auth0|carla".to_owned()));
        }
        if roles.len() > MAX_ROLES || roles.iter().any(|role| role.is_empty() || role.chars().count() > 64) {
            return Err(wrong(format!("write at most {MAX_ROLES} roles of at most 64 characters each")));
        }
        people.push(Person { name: name.clone(), user_id, roles: roles.clone(), devices: devices.clone() });
    }
    Ok(people)
}

fn applications(raw: Option<Spanned<Vec<String>>>) -> Result<Vec<String>, ScenarioError> {
    let Some(raw) = raw else { return Ok(vec![DEFAULT_APPLICATION.to_owned()]) };
    if !(1..=MAX_APPLICATIONS).contains(&raw.value.len()) {
        return Err(at(&raw, format!("write 1 to {MAX_APPLICATIONS} applications")));
    }
    for (position, name) in raw.value.iter().enumerate() {
        names::check("an application", name).map_err(|message| at(&raw, message))?;
        if raw.value[..position].contains(name) {
            let known = alternatives(raw.value.iter().map(String::as_str));
            return Err(at(&raw, format!("the application `{name}` is written twice in {known}: write it once")));
        }
    }
    Ok(raw.value)
}

/// The policy as it is written, with its comments, where `policy:` opens a block; else as JSON, which is YAML.
fn policy_text(text: &str, policy: &Spanned<Value>) -> String {
    if let Value::String(text) = &policy.value {
        return text.clone();
    }
    let mut lines = text.lines().skip_while(|line| {
        let rest = line.strip_prefix("policy:").map(str::trim_start);
        !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
    });
    if lines.next().is_none() {
        return format!("{:#}\n", policy.value);
    }
    let is_inside = |line: &&str| line.trim().is_empty() || line.starts_with([' ', '#']);
    let block: Vec<&str> = lines.take_while(is_inside).collect();
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let is_content = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let depth = block.iter().copied().filter(|line| is_content(line)).map(|line| indent(&line)).min().unwrap_or(0);
    let dedented = block.iter().map(|line| line.get(depth.min(indent(line))..).unwrap_or_default().trim_end());
    let mut policy = dedented.collect::<Vec<_>>().join("\n").trim_end().to_owned();
    policy.push('\n');
    policy
}

#[cfg(test)]
mod tests;
