//! The policies that the pages show compile.

use std::path::PathBuf;

use serde_json::json;
use session_checker::policy::compile;
use session_checker::source::{Document, read_documents};

use super::{fences, pages, root};

const HEAD: &str = "apiVersion: sessionchecker.dev/v1alpha1\nkind: SessionPolicy\nmetadata:\n  name: fragment\n";

#[test]
fn policies_of_the_pages_compile() {
    let tenant = json!({ "domain": "acme.eu.auth0.com", "credentialsSecretRef": { "name": "acme" } });
    let mut compiled = 0;
    for page in pages("docs").into_iter().chain([PathBuf::from("README.md")]) {
        let text = std::fs::read_to_string(root().join(&page)).unwrap();
        for (_, block) in fences(&text).into_iter().filter(|(info, _)| info == "yaml") {
            let manifest = match block.starts_with("spec:") {
                true => format!("{HEAD}{block}"),
                false if block.contains("kind: SessionPolicy") => block.clone(),
                false => continue,
            };
            for document in read_documents(&manifest).unwrap() {
                let Document::Policy(mut manifest) = document else { continue };
                // A fragment shows only the fields that it is about.
                for (field, value) in [("tenant", tenant.clone()), ("limits", json!({ "perUser": 1 }))] {
                    if manifest.spec[field].is_null() {
                        manifest.spec[field] = value;
                    }
                }
                assert_eq!(compile(&manifest).err(), None, "{}: {block}", page.display());
                compiled += 1;
            }
        }
    }
    assert!(compiled >= 20, "{compiled}");
}
