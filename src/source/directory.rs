//! A folder of SessionPolicy and Secret YAML.
//!
//! The folder is looked at several times a second: its names, and for each file the few numbers that tell one version from another.
//! That sees every way in which files change (written in place, replaced, the `..data` link of a mounted ConfigMap or
//! Secret swapped, a link to somewhere else) on every file system, and costs next to nothing for as many files as people
//! keep. Each file stands for itself: one that cannot be read or parsed keeps all that it last gave.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::document::{Document, FileError, read_documents};
use super::watched::Watched;
use crate::policy::{Index, ObjectName};

/// A folder, and what it last gave.
pub struct Directory {
    path: PathBuf,
    files: BTreeMap<String, File>,
    /// Why the folder itself cannot be read.
    error: Option<FileError>,
}

struct File {
    watched: Watched,
    documents: Vec<Document>,
    error: Option<FileError>,
}

/// What there is to say about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// The file's name, or the folder's path.
    pub file: String,
    /// What is wrong.
    pub error: String,
}

impl Directory {
    /// Of a folder that [`scan`](Self::scan) has not looked at yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), files: BTreeMap::new(), error: None }
    }

    /// Looks at the folder; whether anything changed since the last look.
    pub fn scan(&mut self) -> bool {
        let names = match yaml_files(&self.path) {
            Ok(names) => names,
            Err(error) => return self.broken(FileError::Unreadable(error.to_string())),
        };
        let mut changed = self.error.take().is_some();
        let before = self.files.len();
        self.files.retain(|name, _| names.contains(name));
        changed |= self.files.len() != before;
        for name in names {
            let path = self.path.join(&name);
            let file = self.files.entry(name).or_insert_with(|| File {
                watched: Watched::new(path),
                documents: Vec::new(),
                error: None,
            });
            changed |= file.look();
        }
        changed
    }

    fn broken(&mut self, error: FileError) -> bool {
        let changed = self.error.as_ref() != Some(&error);
        self.error = Some(error);
        changed
    }

    /// Feeds an index with all that the folder gives now, and takes out what it no longer gives.
    pub fn feed(&self, index: &mut Index) -> Vec<FileReport> {
        let mut reports: Vec<FileReport> =
            self.error.iter().map(|error| report(&self.path.display().to_string(), error)).collect();
        let mut policies: HashMap<&ObjectName, &str> = HashMap::new();
        let mut secrets: HashMap<&ObjectName, &str> = HashMap::new();
        for (name, file) in &self.files {
            reports.extend(file.error.iter().map(|error| report(name, error)));
            for document in &file.documents {
                let twice = match document {
                    Document::Policy(manifest) => match policies.insert(&manifest.name, name) {
                        None => {
                            index.apply_policy(manifest);
                            continue;
                        }
                        Some(first) => format!("SessionPolicy {} is also in {first}", manifest.name),
                    },
                    Document::Secret(secret) => match secrets.insert(&secret.name, name) {
                        None => {
                            index.apply_secret(secret);
                            continue;
                        }
                        Some(first) => format!("Secret {} is also in {first}", secret.name),
                    },
                    Document::Other { .. } => continue,
                };
                reports.push(FileReport {
                    file: name.clone(),
                    error: format!("{twice}: the first one is used, remove one"),
                });
            }
        }
        let gone: Vec<ObjectName> = index.policies().filter(|name| !policies.contains_key(name)).cloned().collect();
        gone.iter().for_each(|name| index.remove_policy(name));
        let gone: Vec<ObjectName> = index.secrets().filter(|name| !secrets.contains_key(name)).cloned().collect();
        gone.iter().for_each(|name| index.remove_secret(name));
        reports
    }
}

fn report(file: &str, error: &FileError) -> FileReport {
    FileReport { file: file.to_owned(), error: error.to_string() }
}

impl File {
    /// Reads the file if it may have changed; whether what it gives or what is wrong with it changed.
    fn look(&mut self) -> bool {
        match self.watched.look() {
            Ok(None) => false,
            Ok(Some(text)) => self.take(read_documents(&text)),
            Err(error) => self.take(Err(FileError::Unreadable(error.to_string()))),
        }
    }

    fn take(&mut self, read: Result<Vec<Document>, FileError>) -> bool {
        let path = self.watched.path();
        match read {
            Ok(documents) => {
                for document in &documents {
                    if let Document::Other { api_version, kind } = document {
                        tracing::info!(file = %path.display(), api_version, kind, "passed over: neither a SessionPolicy nor a Secret");
                    }
                }
                self.documents = documents;
                self.error = None;
                true
            }
            Err(error) => {
                let changed = self.error.as_ref() != Some(&error);
                if changed {
                    tracing::error!(file = %path.display(), %error, "a policy file cannot be used; what it last gave stays in force");
                }
                self.error = Some(error);
                changed
            }
        }
    }
}

/// The names of the files that count: `.yaml`, `.yml` and `.json`, in the folder itself, not hidden.
///
/// # Errors
/// When the folder cannot be read.
pub fn yaml_files(path: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(path)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let wanted = Path::new(&name)
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known));
        if wanted && !name.starts_with('.') && !path.join(&name).is_dir() {
            names.insert(name);
        }
    }
    Ok(names)
}
