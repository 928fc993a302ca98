//! The book: its generated pages are those of the program, and each page is reachable and names only what exists.

mod addresses;
mod alerts;
mod auth0_as_code;
mod commands;
mod examples;
mod fields;
mod manifests;
mod options;
mod plugin;
mod release;
mod runbooks;
mod schema;
mod shells;
mod timelines;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use session_checker::policy::{ConditionReason, Reason};

/// What a generated page begins with, after its heading.
const NOTE: &str = "<!-- Generated: UPDATE=1 cargo test --test it book:: -->";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a page with its generated text, or writes it when the environment has `UPDATE=1`.
fn assert_page(path: &str, generated: &str) {
    let file = root().join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, generated).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = committed.lines().zip(generated.lines()).find(|(old, new)| old != new);
    assert!(
        committed == generated,
        "{path} is out of date: run UPDATE=1 cargo test --test it book::\nfirst difference: {differs:#?}"
    );
}

/// A text in a cell of a table or in a paragraph: on one line, and without what Markdown or HTML would read.
fn inline(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace('|', "\\|").replace('<', "&lt;")
}

/// A paragraph or an item of a list, in lines of at most 100 characters. Further lines of an item are indented.
fn wrapped(text: &str) -> String {
    let indent = match text.split(' ').next() {
        Some("*") => "  ",
        Some(number) if number.ends_with('.') && number.starts_with(|c: char| c.is_ascii_digit()) => "   ",
        _ => "",
    };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().unwrap();
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 100 {
            lines.push(format!("{indent}{word}"));
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines.join("\n")
}

/// The files below a folder, as paths from the root of the repository.
pub fn files(folder: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found
}

/// The Markdown files among them.
fn pages(folder: &str) -> BTreeSet<PathBuf> {
    let mut files = files(folder);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files
}

/// The fenced blocks of a page: what stands after the fence, and the text without its indentation.
fn fences(page: &str) -> Vec<(String, String)> {
    let mut fences = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let text = lines.by_ref().take_while(|line| line.trim_start() != "```");
        let text = text.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect();
        fences.push((info.to_owned(), text));
    }
    fences
}

/// The targets of the links of a page, without those to other hosts.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

#[test]
fn every_page_has_one_place_in_the_contents() {
    let contents = std::fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let listed: Vec<PathBuf> = links(&contents).iter().map(|target| Path::new("docs").join(target)).collect();
    let unique: BTreeSet<PathBuf> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), unique.len(), "a page is listed twice");
    let mut expected = pages("docs");
    expected.remove(Path::new("docs/SUMMARY.md"));
    assert_eq!(unique, expected);
}

#[test]
fn files_that_pages_link_to_exist() {
    let mut checked = 0;
    let folders = ["docs", "examples", "charts", ".github"];
    let top = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "SUPPORT.md"].map(PathBuf::from);
    for page in folders.into_iter().flat_map(pages).chain(top) {
        let text = std::fs::read_to_string(root().join(&page)).unwrap();
        for target in links(&text) {
            let file = target.split('#').next().unwrap();
            let path = root().join(page.parent().unwrap()).join(file);
            assert!(file.is_empty() || path.exists(), "{}: {target} does not exist", page.display());
            checked += 1;
        }
    }
    assert!(checked > 200, "{checked}");
}

#[test]
fn every_reason_has_an_address() {
    let page = std::fs::read_to_string(root().join("docs/reasons.md")).unwrap();
    let reasons = Reason::all().map(|reason| reason.to_string());
    for reason in reasons.chain(ConditionReason::ALL.iter().map(|reason| reason.as_str().to_owned())) {
        assert_eq!(page.matches(&format!("<a id=\"{reason}\"></a>")).count(), 1, "{reason}");
    }
}
