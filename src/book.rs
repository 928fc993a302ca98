//! Addresses in the documentation, for messages that say where to read on.

/// Where the pages are. `repository` in Cargo.toml is the one place that a fork changes.
const PAGES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs");

/// The address of a reason: of an answer, or of a policy's condition.
pub fn reason(reason: &str) -> String {
    format!("{PAGES}/reasons.md#{reason}")
}

/// The address of a step of `doctor`.
pub fn doctor_step(step: &str) -> String {
    format!("{PAGES}/answers.md#doctor-{}", step.to_lowercase().replace(' ', "-"))
}

/// The address of a kind of problem that `validate` finds.
pub fn problem_kind(kind: &str) -> String {
    format!("{PAGES}/answers.md#validate-{kind}")
}
