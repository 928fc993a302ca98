//! A folder of SessionPolicy and Secret YAML, followed while the process runs.
//!
//! The folder is scanned several times a second: the list of names, and the metadata of each file. A scan finds every
//! kind of change (a file written in place or replaced, the `..data` link of a mounted ConfigMap or Secret swapped, a
//! changed link) on every file system, and is cheap for any realistic number of files. Files are independent: one that
//! cannot be read or parsed keeps its last good content.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use tokio::task::{JoinError, spawn_blocking};

use super::document::{Document, FileError, read_documents};
use super::unread::{UnreadFiles, is_policy_file};
use super::watched_file::{WatchedFile, scan_ticker};
use crate::policy::{Index, ObjectName};
use crate::snapshot::{FileReport, Publisher};

/// A folder of policy files with the content of the last scan.
pub struct PolicyFolder {
    path: PathBuf,
    files: BTreeMap<String, PolicyFile>,
    unread: UnreadFiles,
    /// Why the folder itself cannot be read.
    error: Option<FileError>,
}

struct PolicyFile {
    file: WatchedFile,
    /// The last good content.
    documents: Vec<Document>,
    /// Why the newest content cannot be used.
    error: Option<FileError>,
}

/// Reads a folder for the first time and publishes its policies.
///
/// # Errors
/// When the task was cancelled or panicked.
pub async fn read_folder(path: PathBuf, publisher: Arc<Publisher>) -> Result<PolicyFolder, JoinError> {
    // File systems block, and so does compiling policies: both stay off the async workers.
    spawn_blocking(move || {
        let mut folder = PolicyFolder::new(path);
        folder.scan();
        publisher.update(|observed| observed.files = folder.feed(&mut observed.index));
        folder
    })
    .await
}

/// Publishes the content of a folder whenever it changes.
///
/// # Errors
/// When a task was cancelled or panicked.
pub async fn follow_folder(mut folder: PolicyFolder, publisher: Arc<Publisher>) -> Result<Infallible, JoinError> {
    let mut ticker = scan_ticker();
    loop {
        ticker.tick().await;
        let publisher = Arc::clone(&publisher);
        let scan = move || {
            if folder.scan() {
                publisher.update(|observed| observed.files = folder.feed(&mut observed.index));
            }
            folder
        };
        folder = spawn_blocking(scan).await?;
    }
}

impl PolicyFolder {
    /// Starts empty: [`scan`](Self::scan) reads the folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), files: BTreeMap::new(), unread: UnreadFiles::default(), error: None }
    }

    /// Reads what changed since the last scan; returns whether anything did.
    pub fn scan(&mut self) -> bool {
        let names = match yaml_files(&self.path) {
            Ok(names) => names,
            Err(error) => {
                let error = Some(FileError::Unreadable(error.to_string()));
                let changed = self.error != error;
                self.error = error;
                return changed;
            }
        };
        let mut changed = self.error.take().is_some();
        let before = self.files.len();
        self.files.retain(|name, _| names.contains(name));
        changed |= self.files.len() != before;
        for name in names {
            let path = self.path.join(&name);
            let file = self.files.entry(name).or_insert_with(|| PolicyFile::new(path));
            changed |= file.scan();
        }
        changed | self.unread.scan(&self.path)
    }

    /// Updates an index to the content of the folder: applies what the files contain, removes everything else. Returns a
    /// report for each file that is not used completely.
    pub fn feed(&self, index: &mut Index) -> Vec<FileReport> {
        let mut reports: Vec<FileReport> =
            self.error.iter().map(|error| report(&self.path.display().to_string(), error)).collect();
        reports.extend(self.unread.with_policies().iter().map(|path| {
            let name = path.strip_prefix(&self.path).unwrap_or(path);
            report(&name.display().to_string(), &FileError::NotRead)
        }));
        let mut policies: HashMap<&ObjectName, &str> = HashMap::new();
        let mut secrets: HashMap<&ObjectName, &str> = HashMap::new();
        for (name, file) in &self.files {
            reports.extend(file.error.iter().map(|error| report(name, error)));
            for document in &file.documents {
                let (resource, first) = match document {
                    Document::Policy(manifest) | Document::UnknownType(manifest, _) => {
                        match policies.insert(&manifest.name, name) {
                            None => {
                                document.feed(index);
                                continue;
                            }
                            Some(first) => (format!("SessionPolicy {}", manifest.name), first),
                        }
                    }
                    Document::Secret(secret) => match secrets.insert(&secret.name, name) {
                        None => {
                            document.feed(index);
                            continue;
                        }
                        Some(first) => (format!("Secret {}", secret.name), first),
                    },
                    Document::Other { .. } => continue,
                };
                let error = format!(
                    "{resource} is defined twice: here, and in {first}. The definition in {first} is used; remove one of them"
                );
                reports.push(FileReport { file: name.clone(), error });
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

impl PolicyFile {
    fn new(path: PathBuf) -> Self {
        Self { file: WatchedFile::new(path), documents: Vec::new(), error: None }
    }

    /// Reads the file if it may have changed; returns whether its content or its error changed.
    fn scan(&mut self) -> bool {
        match self.file.read_if_changed() {
            Ok(None) => false,
            Ok(Some(text)) => self.replace(read_documents(&text)),
            Err(error) => self.replace(Err(FileError::Unreadable(error.to_string()))),
        }
    }

    fn replace(&mut self, read: Result<Vec<Document>, FileError>) -> bool {
        let path = self.file.path();
        match read {
            Ok(documents) => {
                for document in &documents {
                    if let Document::Other { api_version, kind } = document {
                        tracing::info!(file = %path.display(), api_version, kind, "resource ignored: it is neither a SessionPolicy nor a Secret");
                    }
                }
                self.documents = documents;
                self.error = None;
                true
            }
            Err(error) => {
                let changed = self.error.as_ref() != Some(&error);
                self.error = Some(error);
                changed
            }
        }
    }
}

/// The names of the policy files in a folder: those that end in `.yaml`, `.yml` or `.json`, in any case, without hidden
/// files and subfolders.
///
/// # Errors
/// When the folder cannot be read.
pub fn yaml_files(path: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(path)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if is_policy_file(&name) && !name.starts_with('.') && !path.join(&name).is_dir() {
            names.insert(name);
        }
    }
    Ok(names)
}

/// The files of a folder that hold a policy and are not read, each with the reason.
pub fn unread_policies(path: &Path) -> Vec<(PathBuf, FileError)> {
    let mut unread = UnreadFiles::default();
    unread.scan(path);
    unread.with_policies().into_iter().map(|path| (path, FileError::NotRead)).collect()
}
