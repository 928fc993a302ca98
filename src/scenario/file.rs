//! A scenario in a file: its steps have lines, and its policy may be in another file.

use super::parse::{ReadScenario, ScenarioError, read};
use super::{Scenario, policy_text};

/// A scenario with the places of its steps.
pub struct ScenarioFile {
    /// The scenario.
    pub scenario: Scenario,
    /// For each step the line of its `expect`, or its first line when it expects nothing.
    pub lines: Vec<u64>,
    /// The file of the policy, as the scenario names it. `None` when the policy is in the scenario.
    pub policy_file: Option<String>,
    /// How many lines of its file come before the policy's first one. `None` when the policy has no lines of its own.
    pub lines_before_policy: Option<u64>,
}

impl ScenarioFile {
    /// Reads the text of a file. `read_file` returns the text of the file that `policyFile` names.
    ///
    /// # Errors
    /// The first problem. The policy is not compiled here: see [`check_policy`](super::check_policy).
    pub fn read(text: &str, read_file: impl FnOnce(&str) -> Result<String, String>) -> Result<Self, ScenarioError> {
        let mut policy_file = None;
        let read_policy = |file: &str, name: Option<&str>| {
            policy_file = Some(file.to_owned());
            policy_text::select(&read_file(file)?, name).map_err(|message| format!("{file}: {message}"))
        };
        let ReadScenario { scenario, lines } = read(text, read_policy)?;
        let ends = lines.iter().skip(1).copied().chain([u64::MAX]);
        let lines = lines.iter().zip(ends).map(|(start, end)| expectation_line(text, *start, end)).collect();
        let lines_before_policy = if policy_file.is_some() { Some(0) } else { lines_before_policy(text) };
        Ok(Self { scenario, lines, policy_file, lines_before_policy })
    }
}

impl Scenario {
    /// Reads a scenario that has its policy in itself.
    ///
    /// # Errors
    /// As [`ScenarioFile::read`].
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let no_file = |_: &str| {
            Err("only `session-checker test` reads a file: write the policy itself below `policy:`".to_owned())
        };
        ScenarioFile::read(text, no_file).map(|file| file.scenario)
    }
}

/// The line of `policy:`, when the policy begins on the next one.
fn lines_before_policy(text: &str) -> Option<u64> {
    let is_block = |line: &str| {
        let rest = line.strip_prefix("policy:").map(str::trim_start);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['#', '|']))
    };
    (1..).zip(text.lines()).find(|(_, line)| is_block(line)).map(|(number, _)| number)
}

/// The line of the expectation of a step that begins at `start`, where it has a line of its own.
fn expectation_line(text: &str, start: u64, end: u64) -> u64 {
    let numbered = (1..).zip(text.lines());
    let mut own = numbered.skip_while(|(number, _)| *number < start).take_while(|(number, _)| *number < end);
    let is_expectation = |line: &str| line.trim_start().trim_start_matches("- ").starts_with("expect:");
    own.find(|(_, line)| is_expectation(line)).map_or(start, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEOPLE: &str = "people:\n  - name: Carla\n    devices: [laptop]\n";
    const POLICIES: &str = "kind: Secret\nmetadata: { name: keys }\n---\n# The seats.\nkind: SessionPolicy\n\
                            metadata: { name: seats }\nspec: { limits: { perUser: 2 } }\n";

    fn of_file(head: &str, policies: &str) -> Result<ScenarioFile, ScenarioError> {
        ScenarioFile::read(&format!("{head}{PEOPLE}"), |file| match file {
            "seats.yaml" => Ok(policies.to_owned()),
            _ => Err("there is no such file".to_owned()),
        })
    }

    #[test]
    fn policy_of_a_file_keeps_its_lines() {
        let file = of_file("policyFile: seats.yaml\n", POLICIES).unwrap();
        assert_eq!(file.scenario.policy.lines().position(|line| line.contains("perUser")), Some(6));
        let broken = POLICIES.replace("perUser: 2", "perUser: 0");
        let policy = of_file("policyFile: seats.yaml\npolicyName: seats\n", &broken).unwrap().scenario.policy;
        assert_eq!(super::super::check_policy(&policy, jiff::Timestamp::UNIX_EPOCH).problems[0].line, Some(7));
    }

    #[test]
    fn policy_that_is_not_in_its_file_is_an_error_with_the_names() {
        let two = format!("{POLICIES}---\n{}", POLICIES.replace("seats", "desks"));
        for (head, policies, message) in [
            ("policyFile: other.yaml\n", POLICIES, "line 1: there is no such file"),
            ("policyFile: seats.yaml\npolicyName: seat\n", POLICIES, "no SessionPolicy `seat`: did you mean `seats`?"),
            ("policyFile: seats.yaml\npolicyName: x\n", POLICIES, "no SessionPolicy `x`: write seats"),
            ("policyFile: seats.yaml\n", &two, "has several policies: write `policyName:` and seats or desks"),
            ("policyFile: seats.yaml\n", "kind: Secret\n", "has no SessionPolicy"),
            ("policyFile: seats.yaml\n", "kind: [\n", "seats.yaml: line 1: is not YAML"),
            ("policyFile: seats.yaml\npolicy: {}\n", POLICIES, "write either `policy` or `policyFile`"),
            ("policy: {}\npolicyName: seats\n", POLICIES, "`policyName` is for `policyFile`"),
            ("title: none\n", POLICIES, "there is no policy"),
        ] {
            let error = of_file(head, policies).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(message), "{head:?}: {error}");
        }
        let error = Scenario::parse(&format!("policyFile: seats.yaml\n{PEOPLE}")).unwrap_err().to_string();
        assert!(error.contains("only `session-checker test` reads a file"), "{error}");
    }

    #[test]
    fn step_has_the_line_of_its_expectation() {
        let steps = "policy: { limits: { perUser: 1 } }\nsteps:\n  - sign in: Carla on laptop\n    expect: allowed\n  \
                     - pass: 2h\n  - { sign in: Carla on laptop, expect: allowed }\n  - expect: allowed\n    sign in: Carla on laptop\n";
        let file = ScenarioFile::read(&format!("{PEOPLE}{steps}"), |_| Err(String::new())).unwrap();
        assert_eq!(file.lines, [7, 8, 9, 10]);
    }
}
