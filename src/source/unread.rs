//! Finds the policies in a folder that the service does not read: in a file with another extension, or in a subfolder. A
//! policy that nobody reads would otherwise look like a limit and be none.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::watched_file::FileVersion;
use crate::crd;

/// How much of a file is searched for a policy. The type stands at the beginning of a document.
const MAX_SEARCHED_BYTES: u64 = 64 * 1024;

/// How many entries of the folder and its subfolders are looked at in a scan, which happens several times a second: a
/// thousand take a few milliseconds. A folder of policies has fewer; somebody may name a source tree by mistake.
const MAX_ENTRIES: usize = 1000;

/// How many levels of subfolders are searched.
const MAX_DEPTH: usize = 4;

/// The extensions of files that people keep beside a policy and do not mean to be read.
const SET_ASIDE: [&str; 9] = ["md", "bak", "old", "orig", "rej", "tmp", "swp", "disabled", "off"];

/// The files of a folder that are not read, with what the last scan found in them.
#[derive(Default)]
pub(super) struct UnreadFiles {
    files: BTreeMap<PathBuf, UnreadFile>,
    is_over_bound: bool,
}

struct UnreadFile {
    /// The version that was searched. `None` when a later version could have the same metadata.
    version: Option<FileVersion>,
    has_policy: bool,
}

impl UnreadFiles {
    /// Searches the files that are new or changed; returns whether the result changed.
    pub fn scan(&mut self, folder: &Path) -> bool {
        let before = self.with_policies();
        let mut found = Vec::new();
        let mut budget = MAX_ENTRIES;
        list(folder, 0, &mut budget, &mut found);
        let is_over_bound = budget == 0;
        if is_over_bound && !self.is_over_bound {
            tracing::warn!(
                folder = %folder.display(),
                "the folder has more than {MAX_ENTRIES} entries. Not all of them are searched for policies that are not read."
            );
        }
        self.is_over_bound = is_over_bound;
        let mut files = BTreeMap::new();
        for (path, version) in found {
            let last = self.files.remove(&path);
            let file = UnreadFile::search(&path, version, last);
            files.insert(path, file);
        }
        self.files = files;
        self.with_policies() != before
    }

    /// The files that hold a policy.
    pub fn with_policies(&self) -> Vec<PathBuf> {
        self.files.iter().filter(|(_, file)| file.has_policy).map(|(path, _)| path.clone()).collect()
    }
}

impl UnreadFile {
    fn search(path: &Path, version: FileVersion, last: Option<Self>) -> Self {
        match last {
            Some(last) if last.version == Some(version) => last,
            _ => Self {
                version: (!version.is_young(SystemTime::now())).then_some(version),
                // A file that cannot be read is not known to hold a policy.
                has_policy: beginning(path).is_ok_and(|text| names_group(&text)),
            },
        }
    }
}

/// Collects the files that are not read, with their versions: all in subfolders, and those with another extension in the folder
/// itself.
fn list(folder: &Path, depth: usize, budget: &mut usize, files: &mut Vec<(PathBuf, FileVersion)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if *budget == 0 {
            return;
        }
        *budget -= 1;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        if is_set_aside(&name) {
            continue;
        }
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            if depth < MAX_DEPTH {
                list(&path, depth + 1, budget, files);
            }
        } else if metadata.is_file() && (depth > 0 || !is_policy_file(&name)) {
            files.push((path, FileVersion::of(&metadata)));
        }
    }
}

/// Whether a file of this name is read.
pub(super) fn is_policy_file(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn is_set_aside(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    name.starts_with('.')
        || name.ends_with('~')
        || SET_ASIDE.iter().any(|set_aside| extension.eq_ignore_ascii_case(set_aside))
}

fn beginning(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SEARCHED_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether the text holds an `apiVersion` of the service's group, in YAML or JSON.
fn names_group(text: &str) -> bool {
    const QUOTES: [char; 2] = ['"', '\''];
    text.split("apiVersion").skip(1).any(|rest| {
        let value = rest.trim_start_matches(QUOTES).trim_start().strip_prefix(':');
        value.is_some_and(|value| value.trim_start().trim_start_matches(QUOTES).starts_with(crd::GROUP))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_is_found_by_its_type() {
        for text in [
            "apiVersion: sessionchecker.dev/v1alpha1",
            "# a comment\nkind: SessionPolicy\napiVersion:   'sessionchecker.dev/v2'\n",
            "{\"apiVersion\":\"sessionchecker.dev/v1alpha1\"}",
            "- apiVersion: v1\n- apiVersion: \"sessionchecker.dev\"",
        ] {
            assert!(names_group(text), "{text}");
        }
        for text in ["", "sessionchecker.dev/v1alpha1", "apiVersion sessionchecker.dev", "apiVersion: v1", "apiVersion"]
        {
            assert!(!names_group(text), "{text}");
        }
    }

    #[test]
    fn search_ends_at_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..=MAX_ENTRIES {
            fs::write(folder.path().join(format!("file-{number}")), "").unwrap();
        }
        let mut files = UnreadFiles::default();
        assert!(!files.scan(folder.path()));
        assert!(files.is_over_bound && files.files.len() == MAX_ENTRIES);
    }
}
