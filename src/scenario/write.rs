//! Writes scenarios, so that what was played can be kept as a file.

use std::fmt::{self, Display, Formatter, Write as _};

use serde_json::Value;

use super::parse::default_user_id;
use super::{FailMode, OnDevice, Scenario, SignIn};

impl Scenario {
    /// The scenario as YAML that [`parse`](Self::parse) reads.
    pub fn to_yaml(&self) -> String {
        let mut text = format!("title: {}\n", quoted(&self.title));
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {}", quoted(hint));
        }
        let _ = writeln!(text, "start: {}", self.start);
        if self.fail_mode == FailMode::Deny {
            text += "failMode: deny\n";
        }
        text += "policy:\n";
        for line in self.policy.lines() {
            let _ = writeln!(text, "{}", format!("  {line}").trim_end());
        }
        text += "people:\n";
        for person in &self.people {
            let _ = writeln!(text, "  - name: {}", quoted(&person.name));
            if person.user_id != default_user_id(&person.name) {
                let _ = writeln!(text, "    userId: {}", quoted(&person.user_id));
            }
            if !person.roles.is_empty() {
                let _ = writeln!(text, "    roles: {}", list(&person.roles));
            }
            for (field, value) in [("organization", &person.organization), ("connection", &person.connection)] {
                if let Some(value) = value {
                    let _ = writeln!(text, "    {field}: {}", quoted(value));
                }
            }
            let _ = writeln!(text, "    devices: {}", list(&person.devices));
        }
        let _ = writeln!(text, "applications: {}", list(&self.applications));
        text += if self.steps.is_empty() { "steps: []\n" } else { "steps:\n" };
        for step in &self.steps {
            let Value::Object(mut fields) = step.to_value() else { continue };
            let expect = fields.remove("expect");
            for (key, value) in fields {
                let value = match value {
                    Value::Array(items) => list(items.iter().filter_map(Value::as_str)),
                    other => quoted(other.as_str().unwrap_or_default()),
                };
                let _ = writeln!(text, "  - {key}: {value}");
            }
            if let Some(expect) = expect {
                let _ = writeln!(text, "    expect: {}", expect.as_str().unwrap_or_default());
            }
        }
        text
    }
}

fn list(items: impl IntoIterator<Item: AsRef<str>>) -> String {
    format!("[{}]", items.into_iter().map(|item| quoted(item.as_ref())).collect::<Vec<_>>().join(", "))
}

/// The text as YAML: plain where nothing in it has a meaning, else in double quotes, whose escapes are those of JSON.
fn quoted(text: &str) -> String {
    let is_plain_sign =
        |sign: char| sign.is_alphanumeric() || matches!(sign, ' ' | '-' | '_' | '.' | '/' | '(' | ')' | '?');
    let is_plain = text.starts_with(|sign: char| sign.is_alphabetic())
        && text.chars().all(is_plain_sign)
        && !text.ends_with(' ')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&&*text.to_lowercase());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

impl Display for SignIn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mfa = if self.mfa { " with mfa" } else { "" };
        write!(f, "{} to {}{mfa}", self.at, self.application)
    }
}

impl Display for OnDevice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.person, self.device)
    }
}
