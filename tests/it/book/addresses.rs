//! Every address that a message, an alert or a problem names leads to its place in the book. mdBook builds the book for this.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use session_checker::book;
use session_checker::doctor::ExamStep;
use session_checker::policy::{ConditionReason, Reason};
use session_checker::validate::ProblemKind;

use super::root;
use crate::monitoring::alerts;
use crate::process::finish;

const PAGES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/");

/// All addresses, without what is before the page.
fn addresses() -> BTreeSet<String> {
    let reasons = Reason::all().map(|reason| book::reason(reason.as_str()));
    let conditions = ConditionReason::ALL.iter().map(|reason| book::reason(reason.as_str()));
    let events = ["Recovered", "StatusOverwritten"].map(book::reason);
    let steps = ExamStep::ALL.iter().map(|step| book::doctor_step(step.as_str()));
    let kinds = ProblemKind::ALL.iter().map(|kind| book::problem_kind(kind.as_str()));
    let runbooks = alerts().into_iter().map(|alert| alert["annotations"]["runbook_url"].as_str().unwrap().to_owned());
    let all = reasons.chain(conditions).chain(events).chain(steps).chain(kinds).chain(runbooks);
    all.map(|address| address.strip_prefix(PAGES).unwrap_or_else(|| panic!("{address}")).to_owned()).collect()
}

/// Whether a page has an element with this id.
fn has(page: &str, id: &str) -> bool {
    page.contains(&format!(" id=\"{id}\""))
}

#[test]
fn every_address_leads_to_its_place_in_the_pages() {
    let addresses = addresses();
    assert!(addresses.len() > 100, "{}", addresses.len());
    for address in addresses {
        let (page, anchor) = address.split_once('#').unwrap_or((&address, ""));
        let text = std::fs::read_to_string(root().join("docs").join(page)).unwrap_or_else(|_| panic!("{page}"));
        assert!(anchor.is_empty() || has(&text, anchor), "{address}");
    }
}

#[test]
fn every_address_leads_to_its_place_in_the_built_book() {
    if !Command::new("mdbook").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "mdbook is missing");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let built =
        Command::new("mdbook").args(["build", "--dest-dir"]).arg(folder.path()).current_dir(root()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for address in addresses() {
        let (page, anchor) = address.split_once('#').unwrap_or((&address, ""));
        let file = folder.path().join(page).with_extension("html");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{} is no page", file.display()));
        assert!(anchor.is_empty() || has(&text, anchor), "{address}");
    }
}

#[test]
fn validate_names_the_address_of_each_kind_of_problem() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, "kind: SessionPolicy\napiVersion: sessionchecker.dev/v1alpha1\nmetadata: { name: one }\nspec: { limits: {}, stratgy: Deny }\n")
        .unwrap();
    let file = file.to_str().unwrap();
    let field = book::problem_kind("field");
    let (code, text) = finish(&[], &["validate", file]);
    assert_eq!((code, text.matches(&format!("see {field}\n")).count()), (1, 1), "{text}");
    let (_, json) = finish(&[], &["validate", "-o", "json", file]);
    let problems = crate::process::first_json(&json)["problems"].as_array().unwrap().len();
    assert!(problems > 1 && json.matches(&format!("\"help\": \"{field}\"")).count() == problems, "{json}");
    let (_, sarif) = finish(&[], &["validate", "-o", "sarif", file]);
    assert_eq!(sarif.matches("\"helpUri\"").count(), ProblemKind::ALL.len(), "{sarif}");
}
