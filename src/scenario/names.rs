//! The names in a scenario: people, devices and applications.

use super::{OnDevice, Scenario};
use crate::policy::nearest;

/// The longest name, in characters: it fits a button.
const MAX_NAME: usize = 32;

/// Words of the grammar of a login, which no name may be.
const WORDS: [&str; 3] = ["on", "to", "with"];

/// Accepts a name.
///
/// # Errors
/// What to write instead.
pub fn check(kind: &str, name: &str) -> Result<(), String> {
    let is_sign = |sign: char| sign.is_alphanumeric() || matches!(sign, '-' | '_' | '.');
    if name.is_empty() || name.chars().count() > MAX_NAME || !name.chars().all(is_sign) {
        return Err(format!(
            "`{name}` is no name for {kind}: write 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`, without spaces"
        ));
    }
    match WORDS.iter().find(|word| name.eq_ignore_ascii_case(word)) {
        Some(word) => Err(format!("`{word}` is a word of steps: write another name for {kind}")),
        None => Ok(()),
    }
}

/// The names for a sentence: `a`, `b` or `c`.
pub fn alternatives<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

/// A device of a person of the scenario.
///
/// # Errors
/// Which names there are.
pub fn place(person: &str, device: &str, scenario: &Scenario) -> Result<OnDevice, String> {
    let found = scenario.person(person).ok_or_else(|| {
        let known = alternatives(scenario.people.iter().map(|person| person.name.as_str()));
        format!("there is no person `{person}`: write {known}")
    })?;
    if !found.devices.iter().any(|known| known == device) {
        let known = alternatives(found.devices.iter().map(String::as_str));
        return Err(format!("{} has no device `{device}`: write {known}", found.name));
    }
    Ok(OnDevice { person: found.name.clone(), device: device.to_owned() })
}

/// The end of a sentence about a word that is not known: the known word that was probably meant, or nothing.
pub fn did_you_mean(word: &str, known: &[&str]) -> String {
    nearest(word, known).map_or_else(String::new, |near| format!(": did you mean `{near}`?"))
}
