//! `session-checker validate`: validates the policies in files and folders.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::args::ValidateArgs;
use crate::policy::{self, Policy, warnings};
use crate::service::RunError;
use crate::source::{Document, read_documents, unread_policies, yaml_files};

/// Validates every SessionPolicy in the files and folders, and prints a line for each policy and each problem.
///
/// # Errors
/// When a file or a policy is invalid, or there is no policy.
#[expect(clippy::print_stdout, reason = "it is the output of the command")]
pub fn run(args: &ValidateArgs) -> Result<(), RunError> {
    let (mut policies, mut problems) = (0, 0);
    for (name, text) in args.paths.iter().flat_map(|path| read(path)) {
        for result in text.map_or_else(|error| vec![Err(error)], |text| validate(&text)) {
            match result {
                Ok(policy) => {
                    policies += 1;
                    println!("{name}: {policy}");
                }
                Err(problem) => {
                    problems += 1;
                    println!("{name}: {problem}");
                }
            }
        }
    }
    match (policies, problems) {
        (0, 0) => Err(RunError::Command("no SessionPolicy was found".to_owned())),
        (_, 0) => Ok(()),
        (_, 1) => Err(RunError::Command("1 problem was found".to_owned())),
        _ => Err(RunError::Command(format!("{problems} problems were found"))),
    }
}

/// The text of each file of a path, with the file's name for people.
fn read(path: &Path) -> Vec<(String, Result<String, String>)> {
    let show = |path: &Path| path.display().to_string();
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    if path.as_os_str() == "-" {
        let mut text = String::new();
        let read = io::stdin().read_to_string(&mut text);
        return vec![("standard input".to_owned(), read.map(|_| text).map_err(unreadable))];
    }
    let files: Result<Vec<PathBuf>, io::Error> = if path.is_dir() {
        yaml_files(path).map(|names| names.into_iter().map(|name| path.join(name)).collect())
    } else {
        Ok(vec![path.to_owned()])
    };
    match files {
        Ok(files) => {
            let read = files.iter().map(|file| (show(file), std::fs::read_to_string(file).map_err(unreadable)));
            let unread = if path.is_dir() { unread_policies(path) } else { Vec::new() };
            read.chain(unread.iter().map(|(file, error)| (show(file), Err(error.to_string())))).collect()
        }
        Err(error) => vec![(show(path), Err(unreadable(error)))],
    }
}

/// For each policy of a text what is to be said of it, or each of its problems.
fn validate(text: &str) -> Vec<Result<String, String>> {
    let documents = match read_documents(text) {
        Ok(documents) => documents,
        Err(error) => return vec![Err(error.to_string())],
    };
    documents
        .iter()
        .flat_map(|document| match document {
            Document::Policy(manifest) => match policy::validate(manifest) {
                Ok(policy) => vec![Ok(valid(&policy))],
                Err(errors) => {
                    errors.iter().map(|error| Err(format!("SessionPolicy {}: {error}", manifest.name))).collect()
                }
            },
            Document::UnknownType(manifest, error) => vec![Err(format!("{}: {error}", manifest.name))],
            Document::Secret(_) | Document::Other { .. } => Vec::new(),
        })
        .collect()
}

/// Says that a policy is valid, with a line for each part of it that has no effect.
fn valid(policy: &Policy) -> String {
    let name = format!("SessionPolicy {}", policy.scope.name);
    let warnings = warnings(policy, Some(Timestamp::now()));
    let warnings: String = warnings.iter().map(|warning| format!("\n  warning: {warning}")).collect();
    format!("{name} is valid{warnings}")
}
