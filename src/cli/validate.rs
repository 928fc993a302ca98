//! `session-checker validate`: checks the policies of files and folders.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::args::ValidateArgs;
use crate::policy::compile;
use crate::service::RunError;
use crate::source::{Document, read_documents, yaml_files};

/// Checks every SessionPolicy in the files and folders that are named.
///
/// # Errors
/// When any is bad, or none is there; each has been named on the way.
#[expect(clippy::print_stdout, reason = "it is the output of the command")]
pub fn run(args: &ValidateArgs) -> Result<(), RunError> {
    let (mut good, mut bad) = (0, 0);
    for (name, text) in args.paths.iter().flat_map(|path| read(path)) {
        for finding in text.map_or_else(|error| vec![Err(error)], |text| check(&text)) {
            match finding {
                Ok(policy) => {
                    good += 1;
                    println!("{name}: {policy} is valid");
                }
                Err(problem) => {
                    bad += 1;
                    println!("{name}: {problem}");
                }
            }
        }
    }
    match (good, bad) {
        (0, 0) => Err(RunError::Command("there is no SessionPolicy in what was named".to_owned())),
        (_, 0) => Ok(()),
        _ => Err(RunError::Command(format!("{bad} {} found", if bad == 1 { "problem" } else { "problems" }))),
    }
}

/// The texts behind a path, each with the name that people know it by.
fn read(path: &Path) -> Vec<(String, Result<String, String>)> {
    let show = |path: &Path| path.display().to_string();
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    if path.as_os_str() == "-" {
        let mut text = String::new();
        let read = io::stdin().read_to_string(&mut text);
        return vec![("standard input".to_owned(), read.map(|_| text).map_err(cannot))];
    }
    let files: Result<Vec<PathBuf>, io::Error> = if path.is_dir() {
        yaml_files(path).map(|names| names.into_iter().map(|name| path.join(name)).collect())
    } else {
        Ok(vec![path.to_owned()])
    };
    match files {
        Ok(files) => files.iter().map(|file| (show(file), std::fs::read_to_string(file).map_err(cannot))).collect(),
        Err(error) => vec![(show(path), Err(cannot(error)))],
    }
}

/// What there is to say about each policy of a text: its name, or what is wrong.
fn check(text: &str) -> Vec<Result<String, String>> {
    let documents = match read_documents(text) {
        Ok(documents) => documents,
        Err(error) => return vec![Err(error.to_string())],
    };
    let policies = documents.into_iter().filter_map(|document| match document {
        Document::Policy(manifest) => Some(manifest),
        Document::Secret(_) | Document::Other { .. } => None,
    });
    policies
        .flat_map(|manifest| match compile(&manifest) {
            Ok(_) => vec![Ok(format!("SessionPolicy {}", manifest.name))],
            Err(errors) => {
                errors.iter().map(|error| Err(format!("SessionPolicy {}: {error}", manifest.name))).collect()
            }
        })
        .collect()
}
