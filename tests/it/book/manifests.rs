//! The policies that the pages show compile.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use session_checker::policy::compile;
use session_checker::source::{Document, read_documents};

use super::{fences, pages, root};

const HEAD: &str = "apiVersion: sessionchecker.dev/v1alpha1\nkind: SessionPolicy\nmetadata:\n  name: fragment\n";

/// The blocks of YAML of a page.
fn blocks(page: &Path) -> Vec<String> {
    let fences = fences(&std::fs::read_to_string(root().join(page)).unwrap());
    fences.into_iter().filter(|(info, _)| info == "yaml").map(|(_, text)| text).collect()
}

/// Compiles the policies of a block, and returns how many there are. A fragment shows only the fields that it is about: it gets
/// those of `spec` that it does not have.
fn compile_policies(block: &str, spec: &Value) -> usize {
    let text = if block.starts_with("spec:") { format!("{HEAD}{block}") } else { block.to_owned() };
    let mut compiled = 0;
    for document in read_documents(&text).unwrap() {
        let Document::Policy(mut manifest) = document else { continue };
        for (field, value) in spec.as_object().unwrap() {
            if manifest.spec[field].is_null() {
                manifest.spec[field] = value.clone();
            }
        }
        assert_eq!(compile(&manifest).err(), None, "{text}");
        compiled += 1;
    }
    compiled
}

fn tenant() -> Value {
    json!({ "domain": "acme.eu.auth0.com", "credentialsSecretRef": { "name": "acme" } })
}

#[test]
fn policies_of_the_pages_compile() {
    let spec = json!({ "tenant": tenant(), "limits": { "perUser": 1 } });
    let pages = pages("docs").into_iter().chain([PathBuf::from("README.md")]);
    let blocks = pages.flat_map(|page| blocks(&page));
    let policies = blocks.filter(|block| block.starts_with("spec:") || block.contains("kind: SessionPolicy"));
    let compiled: usize = policies.map(|block| compile_policies(&block, &spec)).sum();
    assert!(compiled >= 20, "{compiled}");
}

#[test]
fn manifests_of_the_policy_page_compile() {
    let spec = json!({ "tenant": tenant() });
    let blocks = blocks(Path::new("docs/policy.md"));
    let compiled: usize = blocks.iter().map(|block| compile_policies(block, &spec)).sum();
    assert!(compiled >= 4, "{compiled}");
}
