//! The names of series in a PromQL expression.

use std::collections::BTreeSet;

/// The words of an expression that name metrics of the service, recorded series, or standard metrics.
pub fn names(expression: &str) -> BTreeSet<String> {
    // Text in quotes is the value of a label, and text in braces is a label.
    let mut outside = String::new();
    let mut depth = 0;
    for part in expression.split('"').step_by(2) {
        for c in part.chars() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            outside.push(if depth > 0 { ' ' } else { c });
        }
    }
    let words = outside.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words
        .filter(|word| word.starts_with("session_checker") || word.starts_with("process_") || *word == "up")
        .map(str::to_owned)
        .collect()
}
