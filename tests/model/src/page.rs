//! The counterexamples on the design page: `UPDATE=1 cargo test -p model page` writes them.

use std::fmt::Write;
use std::{env, fs};

use crate::weakened::WEAKENED;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design/remembered-sessions.md");
const BEGIN: &str = "<!-- Generated: UPDATE=1 cargo test -p model page -->\n";

#[test]
fn page_has_the_shortest_histories() {
    let committed = fs::read_to_string(PAGE).unwrap();
    let (written, _) = committed.split_once(BEGIN).expect("the page has the mark");
    let page = format!("{written}{BEGIN}{}", counterexamples());
    if env::var_os("UPDATE").is_some() {
        fs::write(PAGE, page).unwrap();
        return;
    }
    assert!(committed == page, "the page is out of date: run UPDATE=1 cargo test -p model page");
}

fn counterexamples() -> String {
    let (mut text, mut section) = (String::new(), "");
    for (index, weakened) in WEAKENED.iter().enumerate() {
        if section != weakened.section {
            section = weakened.section;
            write!(text, "\n### {section}\n").unwrap();
        }
        let then = if weakened.clauses.len() == 1 { "Without it" } else { "Then" };
        let claim = format!("**{}. {}** {then}:", index + 1, weakened.words);
        write!(text, "\n{}\n\n", wrap(&claim, "")).unwrap();
        let (end, history) = weakened.history().split_last().unwrap();
        for (step, sentence) in history.iter().enumerate() {
            writeln!(text, "{}", wrap(&format!("{}. {sentence}", step + 1), "   ")).unwrap();
        }
        write!(text, "\n{}\n", wrap(end, "")).unwrap();
    }
    text
}

/// A paragraph in lines of at most 100 characters; further lines are indented.
fn wrap(paragraph: &str, indent: &str) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for word in paragraph.split(' ') {
        if !line.trim().is_empty() && line.chars().count() + 1 + word.chars().count() > 100 {
            writeln!(lines, "{line}").unwrap();
            line = format!("{indent}{word}");
        } else {
            let space = if line.is_empty() { "" } else { " " };
            write!(line, "{space}{word}").unwrap();
        }
    }
    lines + &line
}
