//! Reads the text of scenarios. Every error names a line and what to write instead. A scenario may come from a link, so bytes, values
//! and steps are bounded before anything is played.

use jiff::Timestamp;
use schemars::JsonSchema;
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
/// The longest user id, organization or connection, in characters. Auth0's own ids are shorter.
const MAX_USER_ID: usize = 128;
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

/// A scenario as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "Scenario")]
pub(super) struct RawScenario {
    /// What the scenario shows; best a question.
    #[schemars(with = "Option<String>", length(max = MAX_TITLE))]
    title: Option<Spanned<String>>,
    /// What a person may try after the last step.
    #[schemars(with = "Option<String>", length(max = MAX_TITLE))]
    hint: Option<Spanned<String>>,
    /// When the scenario starts, such as 2026-03-02T09:00:00Z.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    start: Option<Spanned<String>>,
    /// What the Action does when the service gives no answer: `allow` or `deny`.
    #[schemars(with = "Option<FailMode>")]
    fail_mode: Option<Spanned<String>>,
    /// The `spec` of a SessionPolicy, or a whole one. Tenant, credential and callers are not needed.
    #[schemars(with = "Option<Value>")]
    policy: Option<Spanned<Value>>,
    /// A file with the policy in place of `policy`, from the folder of this file. Only `session-checker test` reads it.
    #[schemars(with = "Option<String>")]
    policy_file: Option<Spanned<String>>,
    /// The name of the policy, when `policyFile` has several.
    #[schemars(with = "Option<String>")]
    policy_name: Option<Spanned<String>>,
    /// The people.
    #[schemars(with = "Vec<RawPerson>", length(min = 1, max = MAX_PEOPLE))]
    people: Spanned<Vec<Spanned<RawPerson>>>,
    /// The client ids of the applications. A login without one is to the first.
    #[schemars(with = "Option<Vec<String>>", length(min = 1, max = MAX_APPLICATIONS))]
    applications: Option<Spanned<Vec<String>>>,
    /// What happens, step by step.
    #[schemars(with = "Option<Vec<Value>>", length(max = MAX_STEPS))]
    steps: Option<Spanned<Vec<Spanned<Value>>>>,
}

/// A person.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawPerson {
    /// The name in steps, without spaces.
    name: String,
    /// The Auth0 user id; `auth0|NAME` by default.
    #[schemars(length(min = 1, max = MAX_USER_ID))]
    user_id: Option<String>,
    /// The roles that the Action reads.
    #[serde(default)]
    #[schemars(length(max = MAX_ROLES))]
    roles: Vec<String>,
    /// The id of the organization through which the person logs in.
    organization: Option<String>,
    /// The name of the connection; Auth0's own database by default.
    connection: Option<String>,
    /// The devices, each with one browser.
    #[schemars(length(min = 1, max = MAX_DEVICES))]
    devices: Vec<String>,
}

/// The text of a scenario, read.
pub(super) struct ReadScenario {
    pub scenario: Scenario,
    /// The line of each step.
    pub lines: Vec<u64>,
}

/// Reads the text of a scenario. `read_policy` returns the policy of a file with a name.
///
/// # Errors
/// The first problem. The policy is not compiled here: see [`check_policy`](super::check_policy).
pub(super) fn read(
    text: &str,
    read_policy: impl FnOnce(&str, Option<&str>) -> Result<String, String>,
) -> Result<ReadScenario, ScenarioError> {
    if text.len() > MAX_BYTES {
        return Err(whole(format!("the scenario has {} bytes: write at most {MAX_BYTES}", text.len())));
    }
    let raw: RawScenario = read_yaml(text).map_err(|(line, message)| of_yaml(line, &message))?;
    let policy = match (&raw.policy, &raw.policy_file) {
        (Some(policy), None) => match &raw.policy_name {
            None => policy_text(text, policy),
            Some(name) => return Err(at(name, "`policyName` is for `policyFile`: leave it out".to_owned())),
        },
        (None, Some(file)) => {
            let name = raw.policy_name.as_ref().map(|name| name.value.as_str());
            read_policy(&file.value, name).map_err(|message| at(file, message))?
        }
        (Some(_), Some(file)) => return Err(at(file, "write either `policy` or `policyFile`".to_owned())),
        (None, None) => return Err(whole("there is no policy: write `policy:` or `policyFile:`".to_owned())),
    };
    let title = raw.title.map(|title| short("title", title)).transpose()?;
    let hint = raw.hint.map(|hint| short("hint", hint)).transpose()?;
    let start = match raw.start {
        None => Ok(DEFAULT_START),
        Some(start) => start
            .value
            .parse::<Timestamp>()
            .map_err(|_| at(&start, format!("`{}` is no time: write one such as {DEFAULT_START}", start.value))),
    };
    let mut scenario = Scenario {
        title: title.unwrap_or_else(|| "A scenario".to_owned()),
        hint,
        start: start?,
        policy,
        fail_mode: raw.fail_mode.as_ref().map_or(Ok(FailMode::Allow), fail_mode)?,
        people: people(raw.people)?,
        applications: applications(raw.applications)?,
        steps: Vec::new(),
    };
    let mut lines = Vec::new();
    if let Some(steps) = raw.steps {
        if steps.value.len() > MAX_STEPS {
            let message = format!("there are {} steps: write at most {MAX_STEPS}", steps.value.len());
            return Err(at(&steps, message));
        }
        for step in &steps.value {
            let read = ScenarioStep::read(&step.value, &scenario).map_err(|message| at(step, message))?;
            scenario.steps.push(read);
            lines.push(step.referenced.line());
        }
    }
    Ok(ReadScenario { scenario, lines })
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
        let RawPerson { name, user_id, roles, organization, connection, devices } = &entry.value;
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
        if user_id.is_empty() || user_id.chars().count() > MAX_USER_ID || user_id.chars().any(char::is_control) {
            return Err(wrong("the userId is no user id: write one such as auth0|carla".to_owned()));
        }
        if roles.len() > MAX_ROLES || roles.iter().any(|role| role.is_empty() || role.chars().count() > 64) {
            return Err(wrong(format!("write at most {MAX_ROLES} roles of at most 64 characters each")));
        }
        let is_name = |text: &String| (1..=MAX_USER_ID).contains(&text.chars().count());
        if !organization.iter().chain(connection).all(is_name) {
            return Err(wrong(format!(
                "write an organization such as org_a1b2 and a connection of 1 to {MAX_USER_ID} characters"
            )));
        }
        people.push(Person {
            name: name.clone(),
            user_id,
            roles: roles.clone(),
            organization: organization.clone(),
            connection: connection.clone(),
            devices: devices.clone(),
        });
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
