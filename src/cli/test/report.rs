//! What `test` prints.

use std::fmt::Write as _;

use serde::Serialize;

use crate::xml::escaped;

/// All files that were tested.
#[derive(Debug, Serialize)]
pub(super) struct TestReport {
    /// Whether every file could be played and every login ended as expected.
    passed: bool,
    files: Vec<TestedFile>,
}

/// A file, played or not.
#[derive(Debug, Serialize)]
pub(super) struct TestedFile {
    file: String,
    passed: bool,
    #[serde(flatten)]
    played: Option<Played>,
    /// Why it cannot be played.
    problems: Vec<TestProblem>,
}

/// What came about in a file.
#[derive(Debug, Serialize)]
pub(super) struct Played {
    pub title: String,
    /// The steps of which the file expects something.
    pub steps: Vec<TestedStep>,
    /// Parts of the policy that have no effect.
    pub warnings: Vec<String>,
}

/// A step of which its file expects something.
#[derive(Debug, Serialize)]
pub(super) struct TestedStep {
    /// The line of the expectation.
    pub line: u64,
    /// The step as a sentence.
    pub step: String,
    pub passed: bool,
    pub expected: String,
    pub got: String,
    /// Why it came about otherwise than expected.
    pub why: Vec<String>,
}

/// A reason why a file cannot be played.
#[derive(Debug, Serialize)]
pub(super) struct TestProblem {
    /// The file with the problem: that of the policy, when the policy is invalid.
    pub file: String,
    pub line: Option<u64>,
    pub message: String,
}

impl TestedFile {
    pub fn played(file: &str, played: Played) -> Self {
        let passed = played.steps.iter().all(|step| step.passed);
        Self { file: file.to_owned(), passed, played: Some(played), problems: Vec::new() }
    }

    pub fn unplayable(file: &str, problems: Vec<TestProblem>) -> Self {
        Self { file: file.to_owned(), passed: false, played: None, problems }
    }

    fn steps(&self) -> &[TestedStep] {
        self.played.as_ref().map_or(&[], |played| &played.steps)
    }

    fn title(&self) -> &str {
        self.played.as_ref().map_or("cannot be played", |played| &played.title)
    }
}

impl TestProblem {
    /// The file and the line.
    fn place(&self) -> String {
        self.line.map_or_else(|| self.file.clone(), |line| format!("{}:{line}", self.file))
    }
}

impl TestReport {
    pub fn of(files: Vec<TestedFile>) -> Self {
        Self { passed: !files.is_empty() && files.iter().all(|file| file.passed), files }
    }

    /// How many files passed, failed, and could not be played.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |fits: fn(&TestedFile) -> bool| self.files.iter().filter(|file| fits(file)).count();
        (
            count(|file| file.passed),
            count(|file| !file.passed && file.problems.is_empty()),
            count(|file| !file.problems.is_empty()),
        )
    }

    /// Lines for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            let name = &file.file;
            for problem in &file.problems {
                let _ = writeln!(text, "ERROR {}: {}", problem.place(), problem.message);
            }
            if file.played.is_none() {
                continue;
            }
            let steps = file.steps();
            let met = steps.iter().filter(|step| step.passed).count();
            let word = if file.passed { "ok   " } else { "FAIL " };
            let _ = writeln!(text, "{word} {name}: {} ({met} of {} as expected)", file.title(), steps.len());
            for warning in file.played.iter().flat_map(|played| &played.warnings) {
                let _ = writeln!(text, "  warning: {warning}");
            }
            for step in steps.iter().filter(|step| !step.passed) {
                let _ = writeln!(text, "  {name}:{}: {}", step.line, step.step);
                let _ = writeln!(text, "    - expected: {}", step.expected);
                let _ = writeln!(text, "    + got:      {}", step.got);
                for line in &step.why {
                    let _ = writeln!(text, "      {line}");
                }
            }
        }
        let _ = match self.counts() {
            (0, 0, 0) => writeln!(text, "There is no scenario in these folders."),
            (passed, failed, 0) => writeln!(text, "{} passed, {failed} failed.", files(passed)),
            (passed, failed, errors) => {
                writeln!(text, "{} passed, {failed} failed, {errors} could not be played.", files(passed))
            }
        };
        text
    }

    /// The XML of JUnit, as CI systems read it: a suite for each file, and a case for each step.
    pub fn junit(&self) -> String {
        let steps = || self.files.iter().flat_map(TestedFile::steps);
        let errors: usize = self.files.iter().map(|file| file.problems.len()).sum();
        let failures = steps().filter(|step| !step.passed).count();
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let tests = steps().count() + errors;
        let _ = writeln!(
            xml,
            "<testsuites name=\"session-checker test\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">"
        );
        for file in &self.files {
            let steps = file.steps();
            let failures = steps.iter().filter(|step| !step.passed).count();
            let errors = file.problems.len();
            let name = escaped(&file.file);
            let _ = writeln!(
                xml,
                "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\">",
                steps.len() + errors
            );
            let case = |step: &str, line: u64| {
                let title = escaped(&format!("{}: {step}", file.title()));
                format!("    <testcase classname=\"{name}\" name=\"{title}\" file=\"{name}\" line=\"{line}\"")
            };
            for problem in &file.problems {
                let (message, place) = (escaped(&problem.message), escaped(&problem.place()));
                let open = case(&problem.message, problem.line.unwrap_or(1));
                let _ = writeln!(xml, "{open}><error message=\"{message}\">{place}: {message}</error></testcase>");
            }
            for step in steps {
                let open = case(&format!("line {}: {}", step.line, step.step), step.line);
                if step.passed {
                    let _ = writeln!(xml, "{open}/>");
                    continue;
                }
                let message = escaped(&format!("expected {}, got {}", step.expected, step.got));
                let why = escaped(&step.why.join("\n"));
                let _ = writeln!(xml, "{open}><failure message=\"{message}\">{why}</failure></testcase>");
            }
            xml += "  </testsuite>\n";
        }
        xml + "</testsuites>\n"
    }
}

fn files(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}
