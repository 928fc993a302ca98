//! The names in a scenario: people, devices and applications.

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
