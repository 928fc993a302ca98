//! `session-checker validate`: validates the policies and Secrets in files and folders.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{is_stdin, read_input, subfolders};
use crate::args::{ReportFormat, ValidateArgs};
use crate::book;
use crate::crd;
use crate::service::RunError;
use crate::source::{unread_policies, yaml_files};
use crate::validate::{InputFile, Problem, ProblemKind, Severity, Validation, validate};

/// Validates the files and folders, and prints each problem and each valid policy.
///
/// # Errors
/// When a file, a policy or a Secret is invalid, or there is nothing to validate.
#[expect(clippy::print_stdout, reason = "it is the output of the command")]
pub fn run(args: &ValidateArgs) -> Result<(), RunError> {
    let mut files = Vec::new();
    for path in &args.paths {
        read(path, args.recursive, 0, &mut files);
    }
    if args.skip_others {
        files.retain(|file| file.content.as_ref().map_or(true, |bytes| mentions_us(bytes)));
    }
    let validation = validate(&files, Timestamp::now());
    match args.output {
        ReportFormat::Text => print!("{}", text(&validation)),
        ReportFormat::Json => println!("{:#}", json(&validation)),
        ReportFormat::Sarif => println!("{:#}", sarif(&validation)),
    }
    let errors = validation.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    match errors {
        0 if validation.policies.is_empty() && !args.skip_others && !has_secrets(&files) => {
            Err(RunError::Command("no SessionPolicy was found".to_owned()))
        }
        0 => Ok(()),
        1 => Err(RunError::Command("1 problem was found".to_owned())),
        _ => Err(RunError::Command(format!("{errors} problems were found"))),
    }
}

/// Whether a file may hold a Secret of the service, which is worth validating without a policy.
fn has_secrets(files: &[InputFile]) -> bool {
    files.iter().any(|file| file.content.as_ref().is_ok_and(|bytes| mentions_us(bytes)))
}

/// Whether a file mentions the group or kind of the resource.
fn mentions_us(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.contains(crd::GROUP) || text.contains(crd::KIND)
}

/// Reads the files of a path.
fn read(path: &Path, is_recursive: bool, depth: usize, files: &mut Vec<InputFile>) {
    let unreadable = |error: io::Error| format!("the file cannot be read: {error}");
    let input = |path: &Path, content: io::Result<Vec<u8>>| {
        let name = if is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() };
        InputFile { name, content: content.map_err(unreadable) }
    };
    if is_stdin(path) || !path.is_dir() {
        return files.push(input(path, read_input(path)));
    }
    match yaml_files(path) {
        Ok(names) => {
            files.extend(names.into_iter().map(|name| path.join(name)).map(|file| input(&file, read_input(&file))));
        }
        Err(error) => return files.push(input(path, Err(error))),
    }
    if is_recursive {
        match subfolders(path, depth) {
            Ok(folders) => folders.iter().for_each(|folder| read(folder, true, depth + 1, files)),
            Err(error) => files.push(input(path, Err(error))),
        }
    }
    if depth == 0 {
        let read: HashSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let unread = unread_policies(path).into_iter().map(|(file, error)| (file.display().to_string(), error));
        let unread: Vec<_> = unread.filter(|(name, _)| !read.contains(name.as_str())).collect();
        let hint = if is_recursive {
            ""
        } else {
            ". Give --recursive if the folder is applied to a cluster with its subfolders"
        };
        files.extend(
            unread.into_iter().map(|(name, error)| InputFile { name, content: Err(format!("the file {error}{hint}")) }),
        );
    }
}

fn text(validation: &Validation) -> String {
    let problems = validation.problems.iter().map(|problem| format!("{problem}\n"));
    let policies = validation
        .policies
        .iter()
        .map(|policy| format!("{}:{}: SessionPolicy {} is valid\n", policy.file, policy.line, policy.name));
    let kinds: BTreeSet<ProblemKind> = validation.problems.iter().map(|problem| problem.kind).collect();
    let help = kinds.into_iter().map(|kind| format!("see {}\n", book::problem_kind(kind.as_str())));
    problems.chain(policies).chain(help).collect()
}

fn json(validation: &Validation) -> Value {
    let mut value = json!(validation);
    value["valid"] = validation.is_valid().into();
    for (written, problem) in value["problems"].as_array_mut().into_iter().flatten().zip(&validation.problems) {
        written["help"] = book::problem_kind(problem.kind.as_str()).into();
    }
    value
}

/// The problems as SARIF 2.1.0, which GitHub, GitLab and Azure show beside the lines.
fn sarif(validation: &Validation) -> Value {
    let rules: Vec<Value> = ProblemKind::ALL
        .iter()
        .map(|kind| {
            let (id, help) = (kind.as_str(), book::problem_kind(kind.as_str()));
            json!({ "id": id, "shortDescription": { "text": kind.description() }, "helpUri": help })
        })
        .collect();
    let results: Vec<Value> = validation.problems.iter().map(sarif_result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "session-checker",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn sarif_result(problem: &Problem) -> Value {
    let parts = [problem.resource.as_deref(), problem.field.as_deref(), Some(problem.message.as_str())];
    let message = parts.into_iter().flatten().collect::<Vec<_>>().join(": ");
    json!({
        "ruleId": problem.kind.as_str(),
        "level": problem.severity,
        "message": { "text": message },
        "locations": [{ "physicalLocation": {
            "artifactLocation": { "uri": problem.file.replace('\\', "/") },
            "region": { "startLine": problem.line, "startColumn": problem.column },
        } }],
    })
}
