//! `session-checker test`: plays scenarios, and compares their logins with what the files expect.
//!
//! Each file has a simulated tenant and a service of its own, on loopback and with one clock. Nothing else is asked.

mod report;

use std::path::{Path, PathBuf};

use futures::stream::{self, StreamExt};

use super::{is_stdin, read_input, subfolders};
use crate::args::{FAILED, TestArgs, TestFormat, UNPLAYABLE};
use crate::scenario::{LoginRecord, ScenarioFile, ScenarioRun, check_policy};
use crate::service::RunError;
use crate::source::yaml_files;
use report::{Played, TestProblem, TestReport, TestedFile, TestedStep};

/// How many files are played at once: each waits for its sockets for most of its time.
const CONCURRENT_FILES: usize = 4;
/// The largest file of a policy: a policy with all overrides that it may have is smaller.
const MAX_POLICY_BYTES: u64 = 4 << 20;

/// Plays the files, prints what came about, and returns the exit code: 0 when every login ended as expected.
///
/// # Errors
/// When a folder cannot be read.
#[expect(clippy::print_stdout, reason = "it is the output of the command")]
pub async fn run(args: TestArgs) -> Result<u8, RunError> {
    let mut paths = Vec::new();
    for path in args.paths {
        if is_stdin(&path) || !path.is_dir() {
            paths.push((path, true));
        } else {
            collect(&path, 0, &mut paths)?;
        }
    }
    let files = stream::iter(paths).map(|(path, is_named)| Box::pin(test(path, is_named)));
    let files: Vec<Option<TestedFile>> = files.buffered(CONCURRENT_FILES).collect().await;
    let report = TestReport::of(files.into_iter().flatten().collect());
    match args.output {
        TestFormat::Text => print!("{}", report.text()),
        TestFormat::Json => println!("{:#}", serde_json::json!(report)),
        TestFormat::Junit => print!("{}", report.junit()),
    }
    Ok(match report.counts() {
        (_, _, 1..) | (0, 0, 0) => UNPLAYABLE,
        (_, 1.., _) => FAILED,
        _ => 0,
    })
}

/// The YAML files of a folder and its subfolders, in the order of their names.
fn collect(folder: &Path, depth: usize, paths: &mut Vec<(PathBuf, bool)>) -> Result<(), RunError> {
    let failed = |error: std::io::Error| RunError::Command(format!("{}: {error}", folder.display()));
    paths.extend(yaml_files(folder).map_err(failed)?.into_iter().map(|name| (folder.join(name), false)));
    let folders = subfolders(folder, depth).map_err(failed)?;
    folders.iter().try_for_each(|folder| collect(folder, depth + 1, paths))
}

/// Plays a file. `None` when it was found in a folder and is a manifest, such as the policy itself.
async fn test(path: PathBuf, is_named: bool) -> Option<TestedFile> {
    let file = if is_stdin(&path) { "standard input".to_owned() } else { path.display().to_string() };
    let unplayable = |line, message: String| {
        Some(TestedFile::unplayable(&file, vec![TestProblem { file: file.clone(), line, message }]))
    };
    let text = match read_input(&path).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => return unplayable(None, "the file is not UTF-8: save it as UTF-8".to_owned()),
        Err(error) => return unplayable(None, format!("the file cannot be read: {error}")),
    };
    if !is_named && is_manifest(&text) {
        return None;
    }
    let read = match ScenarioFile::read(&text, |policy| read_policy(&path, policy)) {
        Ok(read) => read,
        Err(error) => return unplayable(error.line, error.message),
    };
    let messages = check_policy(&read.scenario.policy, read.scenario.start);
    if !messages.problems.is_empty() {
        let policy_file = read.policy_file.as_ref().map(|policy| beside(&path, policy).display().to_string());
        let problems = messages.problems.into_iter().map(|problem| TestProblem {
            file: policy_file.clone().unwrap_or_else(|| file.clone()),
            line: problem.line.zip(read.lines_before_policy).map(|(line, before)| line + before),
            message: format!("the policy: {}", problem.message),
        });
        return Some(TestedFile::unplayable(&file, problems.collect()));
    }
    if read.scenario.steps.iter().all(|step| step.expect.is_none()) {
        return unplayable(None, "the file expects nothing: write `expect:` beside a login".to_owned());
    }
    let run = match ScenarioRun::of(&read.scenario).await {
        Ok(run) => run,
        Err(error) => return unplayable(None, error.to_string()),
    };
    let played = Played { title: read.scenario.title, steps: steps(&run, &read.lines), warnings: messages.warnings };
    run.stop().await;
    Some(TestedFile::played(&file, played))
}

/// Whether a text holds Kubernetes resources.
fn is_manifest(text: &str) -> bool {
    let has = |key: &str| text.lines().any(|line| line.starts_with(key));
    has("apiVersion:") && has("kind:")
}

/// The path of a file that a scenario names.
fn beside(scenario: &Path, named: &str) -> PathBuf {
    let folder = if is_stdin(scenario) { None } else { scenario.parent() };
    folder.unwrap_or(Path::new("")).join(named)
}

/// The text of the file that `policyFile` names, from the folder of the scenario.
fn read_policy(scenario: &Path, policy: &str) -> Result<String, String> {
    let path = beside(scenario, policy);
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    if std::fs::metadata(&path).map_err(failed)?.len() > MAX_POLICY_BYTES {
        return Err(format!("{} is larger than 4 MiB, so it is no policy", path.display()));
    }
    std::fs::read_to_string(&path).map_err(failed)
}

/// The steps of which the file expects something.
fn steps(run: &ScenarioRun, lines: &[u64]) -> Vec<TestedStep> {
    let steps = run.records().iter().zip(lines);
    let tested = steps.filter_map(|(record, line)| {
        let is_met = record.met?;
        let logins = &record.logins;
        Some(TestedStep {
            line: *line,
            step: record.sentence.clone(),
            passed: is_met,
            expected: record.expected.clone().unwrap_or_default(),
            got: logins.iter().map(LoginRecord::outcome).collect::<Vec<_>>().join(", "),
            why: if is_met { Vec::new() } else { logins.iter().flat_map(|login| why(run, login)).collect() },
        })
    });
    tested.collect()
}

/// Why a login ended as it did, in lines.
fn why(run: &ScenarioRun, login: &LoginRecord) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(error) = &login.error {
        lines.push(format!("{error}, so the Action's FAIL_MODE decided: {}", run.scenario().fail_mode.as_str()));
    }
    if let Some(answer) = &login.answer {
        let (active, limit, scope) = (&answer["active_sessions"], &answer["limit"], &answer["limit_scope"]);
        if let (Some(active), Some(limit), Some(scope)) = (active.as_u64(), limit.as_u64(), scope.as_str()) {
            let sessions = if active == 1 { "session counts" } else { "sessions count" };
            lines.push(format!("{active} other {sessions} towards the {scope} limit of {limit}"));
        }
    }
    if let Some(explanation) = &login.explanation {
        let chosen = explanation.chosen_by.as_ref().map_or_else(String::new, |name| format!(" (override {name})"));
        lines.push(format!("limits: {}{chosen}", explanation.limits));
        for session in &explanation.sessions {
            let device = run.device_of(&session.id).unwrap_or("unknown device");
            lines.push(format!("session on {device} {}", session.role));
        }
    }
    lines.extend(login.message.iter().map(|message| format!("the user reads: {message}")));
    let place = format!("{} on {}", login.person, login.device);
    lines.into_iter().map(|line| format!("{place}: {line}")).collect()
}
