//! The documentation says what the program does.

use std::collections::BTreeSet;

use clap::CommandFactory;
use session_checker::args::Args;
use session_checker::policy::{Reason, compile};
use session_checker::source::{Document, read_documents};

const REASONS: &str = include_str!("../../docs/reasons.md");
const METRICS: &str = include_str!("../../docs/metrics.md");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");

#[test]
fn every_reason_is_documented_and_every_error_word() {
    for reason in Reason::all() {
        assert!(REASONS.contains(&format!("| `{reason}` |")), "{reason}");
    }
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let source = include_str!("../../src/metrics.rs");
    let made: BTreeSet<String> = source
        .split("make")
        .filter_map(|rest| rest.trim_start().strip_prefix('.'))
        .filter_map(|rest| rest.split_once('(')?.1.trim_start().strip_prefix('"')?.split_once('"'))
        .map(|(name, _)| format!("session_checker_{name}"))
        .collect();
    let documented: BTreeSet<String> = METRICS
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("session_checker_"))
        .map(str::to_owned)
        .collect();
    assert!(made.len() > 20, "the source is read: {made:?}");
    assert_eq!(made, documented);
}

#[test]
fn every_option_is_documented_with_its_variable() {
    let command = Args::command();
    let serve = command.find_subcommand("serve").unwrap();
    for option in serve.get_arguments().chain(command.get_arguments()).filter(|option| !option.is_hide_set()) {
        let (Some(long), Some(variable)) = (option.get_long(), option.get_env()) else { continue };
        assert!(CONFIGURATION.contains(&format!("`--{long}`")), "--{long}");
        assert!(CONFIGURATION.contains(&format!("`{}`", variable.to_str().unwrap())), "{variable:?}");
    }
}

#[test]
fn every_example_compiles() {
    let mut policies = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        for document in read_documents(&std::fs::read_to_string(&path).unwrap()).unwrap() {
            if let Document::Policy(manifest) = document {
                assert_eq!(compile(&manifest).err(), None, "{}", path.display());
                policies += 1;
            }
        }
    }
    assert!(policies > 0);
}
