//! Validates manifests before somebody applies them: every problem at once, with its file, line and column, and what to write.
//!
//! ```text
//!  bytes ──yaml──▶ documents with the places of their fields ──▶ manifest   fields of the resource around the spec
//!                                                              ├▶ policy::validate, cel   the spec, as the API server does
//!                                                              ├▶ secrets                 what the service needs of a Secret
//!                                                              └▶ between                 duplicates, references, conflicts
//! ```

mod between;
mod cel;
mod manifest;
mod places;
mod secrets;
mod yaml;

use std::fmt;
use std::rc::Rc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

pub(crate) use places::FieldPlaces;
pub use places::FilePlace;
#[cfg(feature = "simulator")]
pub(crate) use yaml::parts;

use crate::policy::{self, Manifest, Policy, SecretManifest, warnings};
use crate::source::{Document, resources};
use cel::ResourceRules;
use yaml::TextProblem;

/// A file to validate.
pub struct InputFile {
    /// The name for people.
    pub name: String,
    /// The content, or why it cannot be used.
    pub content: Result<Vec<u8>, String>,
}

/// The result of a validation.
#[derive(Debug, Default, Serialize)]
pub struct Validation {
    /// The problems, in the order of the files and their lines.
    pub problems: Vec<Problem>,
    /// The policies that are valid.
    pub policies: Vec<ValidPolicy>,
}

/// A policy without an error.
#[derive(Debug, Serialize)]
pub struct ValidPolicy {
    /// The name of its file.
    pub file: String,
    /// The line where it begins.
    pub line: usize,
    /// Its namespace and name.
    pub name: String,
}

/// A problem in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The name of the file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// Whether the problem makes the manifest invalid.
    pub severity: Severity,
    /// The kind.
    pub kind: ProblemKind,
    /// The resource, such as `SessionPolicy default/one`, when it is known.
    pub resource: Option<String>,
    /// The path of the field, when the problem is in one.
    pub field: Option<String>,
    /// What is wrong, and what to write.
    pub message: String,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The service or the API server rejects it, or it does not work.
    Error,
    /// It is valid and probably not what was meant.
    Warning,
}

/// The kinds of problems. SARIF calls them rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The file cannot be read.
    Unreadable,
    /// The text is not YAML.
    Syntax,
    /// The text is a template that was not rendered.
    Template,
    /// The document is no resource, or of an unknown kind or version.
    Type,
    /// A field of the resource is wrong.
    Field,
    /// A Secret is wrong.
    Secret,
    /// A name is used twice.
    Duplicate,
    /// Two policies select the same logins.
    Conflict,
    /// A policy names a Secret that does not fit it.
    Reference,
    /// A part of a policy has no effect.
    NoEffect,
}

impl ProblemKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Unreadable,
        Self::Syntax,
        Self::Template,
        Self::Type,
        Self::Field,
        Self::Secret,
        Self::Duplicate,
        Self::Conflict,
        Self::Reference,
        Self::NoEffect,
    ];

    /// The name in JSON and SARIF.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Syntax => "syntax",
            Self::Template => "template",
            Self::Type => "type",
            Self::Field => "field",
            Self::Secret => "secret",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::Reference => "reference",
            Self::NoEffect => "no-effect",
        }
    }

    /// What problems of this kind have in common.
    pub fn description(self) -> &'static str {
        match self {
            Self::Unreadable => "The file cannot be read",
            Self::Syntax => "The text is not YAML",
            Self::Template => "The text is a template that was not rendered",
            Self::Type => "The document is no Kubernetes resource, or of an unknown kind or version",
            Self::Field => "A field of the resource is wrong",
            Self::Secret => "A Secret lacks what the service needs",
            Self::Duplicate => "Two resources have the same name",
            Self::Conflict => "Two policies select the same logins",
            Self::Reference => "A policy names a Secret that does not fit it",
            Self::NoEffect => "A part of a policy has no effect",
        }
    }
}

impl fmt::Display for Problem {
    /// One line, which begins as compilers write places.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {severity}: ", self.file, self.line, self.column)?;
        for part in [&self.resource, &self.field].into_iter().flatten() {
            write!(f, "{part}: ")?;
        }
        write!(f, "{}", self.message)
    }
}

impl Validation {
    /// Whether there is no error.
    pub fn is_valid(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity != Severity::Error)
    }
}

/// A resource of a file.
struct FileResource<'a> {
    file: &'a str,
    places: Rc<FieldPlaces>,
    /// The path of the resource in its document: empty, or that of an item of a `List`.
    path: String,
    /// The resource as written.
    written: Value,
    content: ResourceContent,
}

enum ResourceContent {
    Policy { manifest: Manifest, policy: Option<Box<Policy>> },
    Secret(SecretManifest),
    Other,
}

impl FileResource<'_> {
    /// The name for people.
    fn title(&self) -> Option<String> {
        match &self.content {
            ResourceContent::Policy { manifest, .. } => Some(format!("SessionPolicy {}", manifest.name)),
            ResourceContent::Secret(secret) => Some(format!("Secret {}", secret.name)),
            ResourceContent::Other => None,
        }
    }

    fn full_path(&self, field: &str) -> String {
        match (self.path.is_empty(), field.is_empty()) {
            (true, _) => field.to_owned(),
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{field}", self.path),
        }
    }

    fn place(&self, field: &str) -> FilePlace {
        self.places.of(&self.full_path(field))
    }

    fn problem(&self, kind: ProblemKind, severity: Severity, field: &str, message: impl Into<String>) -> Problem {
        let FilePlace { line, column } = self.place(field);
        Problem {
            file: self.file.to_owned(),
            line,
            column,
            severity,
            kind,
            resource: self.title(),
            field: Some(field.to_owned()).filter(|field| !field.is_empty()),
            message: message.into(),
        }
    }

    fn error(&self, kind: ProblemKind, field: &str, message: impl Into<String>) -> Problem {
        self.problem(kind, Severity::Error, field, message)
    }

    /// An error whose place is the field's name and not its value.
    fn error_of_name(&self, kind: ProblemKind, field: &str, message: impl Into<String>) -> Problem {
        let FilePlace { line, column } = self.places.of_name(&self.full_path(field));
        Problem { line, column, ..self.error(kind, field, message) }
    }
}

/// Validates files together. `now` is the time by which overrides have expired.
pub fn validate(files: &[InputFile], now: Timestamp) -> Validation {
    let mut problems = Vec::new();
    let mut all = Vec::new();
    let rules = ResourceRules::new();
    for file in files {
        let found = match &file.content {
            Ok(bytes) => read(&file.name, bytes, &mut problems),
            Err(message) => {
                problems.push(whole_file(&file.name, ProblemKind::Unreadable, message.clone()));
                continue;
            }
        };
        for mut resource in found {
            problems.extend(check(&mut resource, &rules, now));
            all.push(resource);
        }
    }
    problems.extend(between::problems(&all));
    let order = |name: &str| files.iter().position(|file| file.name == name);
    problems.sort_by_cached_key(|problem| (order(&problem.file), problem.line, problem.column));
    let is_valid = |resource: &FileResource<'_>| {
        let title = resource.title();
        let is_its_error = |problem: &Problem| {
            problem.severity == Severity::Error && problem.file == resource.file && problem.resource == title
        };
        !problems.iter().any(is_its_error)
    };
    let policies = all.iter().filter(|resource| is_valid(resource)).filter_map(valid_policy).collect();
    Validation { problems, policies }
}

fn valid_policy(resource: &FileResource<'_>) -> Option<ValidPolicy> {
    let ResourceContent::Policy { manifest, policy: Some(_) } = &resource.content else { return None };
    let line = resource.place("").line;
    Some(ValidPolicy { file: resource.file.to_owned(), line, name: manifest.name.to_string() })
}

fn whole_file(file: &str, kind: ProblemKind, message: String) -> Problem {
    let (file, severity) = (file.to_owned(), Severity::Error);
    Problem { file, line: 1, column: 1, severity, kind, resource: None, field: None, message }
}

/// The resources of a file. What keeps one from being read is added to the problems.
fn read<'a>(file: &'a str, bytes: &[u8], problems: &mut Vec<Problem>) -> Vec<FileResource<'a>> {
    let (documents, found) = match yaml::decode(bytes) {
        Ok(text) => yaml::documents(text),
        Err(problem) => (Vec::new(), vec![problem]),
    };
    problems.extend(found.into_iter().map(|TextProblem { place, kind, message }| Problem {
        line: place.line,
        column: place.column,
        ..whole_file(file, kind, message)
    }));
    let mut all = Vec::new();
    for document in documents {
        let places = Rc::new(document.places);
        for resource in resources(document.value.clone()) {
            let written = manifest::at(&document.value, &resource.path).clone();
            let places = Rc::clone(&places);
            let mut read = FileResource { file, places, path: resource.path, written, content: ResourceContent::Other };
            match resource.read {
                Ok(Document::Policy(manifest)) => read.content = ResourceContent::Policy { manifest, policy: None },
                Ok(Document::Secret(secret)) => read.content = ResourceContent::Secret(secret),
                Ok(Document::UnknownType(named, error)) => {
                    let problem = read.error(ProblemKind::Type, &error.field, error.message);
                    problems.push(Problem { resource: Some(named.name.to_string()), ..problem });
                    continue;
                }
                Ok(Document::Other { api_version, kind }) => {
                    problems.extend(manifest::mistyped(&read, &api_version, &kind));
                    continue;
                }
                Err(message) => {
                    problems.extend(manifest::unreadable(&read, message));
                    continue;
                }
            }
            all.push(read);
        }
    }
    all
}

/// The problems of one resource. Keeps the policy when it compiles.
fn check(resource: &mut FileResource<'_>, rules: &ResourceRules, now: Timestamp) -> Vec<Problem> {
    let templates = manifest::templates(resource);
    if !templates.is_empty() {
        return templates;
    }
    let mut problems = manifest::problems(resource);
    let compiled = match &resource.content {
        ResourceContent::Policy { manifest, .. } if !manifest.spec.is_null() => policy::validate(manifest),
        ResourceContent::Secret(secret) => {
            problems.extend(secrets::problems(resource, secret));
            return problems;
        }
        ResourceContent::Policy { .. } | ResourceContent::Other => return problems,
    };
    match compiled {
        Ok(policy) => {
            problems.extend(rules.problems(resource));
            problems.extend(warnings(&policy, Some(now)).iter().map(|warning| no_effect(resource, warning)));
            if let ResourceContent::Policy { policy: kept, .. } = &mut resource.content {
                *kept = Some(Box::new(policy));
            }
        }
        Err(errors) => problems.extend(errors.into_iter().map(|error| {
            let is_unknown = error.message.starts_with("no such field");
            let report = if is_unknown { FileResource::error_of_name } else { FileResource::error };
            report(resource, ProblemKind::Field, &error.field, error.message)
        })),
    }
    problems
}

/// A warning of the policy, which begins with the path of its field.
fn no_effect(resource: &FileResource<'_>, warning: &str) -> Problem {
    let (field, message) = warning.split_once(": ").unwrap_or(("spec", warning));
    resource.problem(ProblemKind::NoEffect, Severity::Warning, field, message)
}

#[cfg(test)]
mod tests;
