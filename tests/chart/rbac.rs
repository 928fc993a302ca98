//! The permissions of the service in the cluster.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::render::{Manifests, NAMESPACE, chart, template, with};

/// All rules of these roles, as (resource, verb, resource names).
fn permissions(roles: &[&Value]) -> BTreeSet<(String, String, String)> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let rules = roles.iter().flat_map(|role| role["rules"].as_array().unwrap());
    rules
        .flat_map(|rule| {
            let names = words(&rule["resourceNames"]).join(",");
            words(&rule["resources"]).into_iter().flat_map(move |resource| {
                let names = names.clone();
                words(&rule["verbs"]).into_iter().map(move |verb| (resource.clone(), verb, names.clone()))
            })
        })
        .collect()
}

fn on_secrets(manifests: &Manifests, kind: &str) -> BTreeSet<(String, String)> {
    let of_secrets = permissions(&manifests.of(kind)).into_iter().filter(|(resource, ..)| resource == "secrets");
    of_secrets.map(|(_, verb, names)| (verb, names)).collect()
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn default_permissions_cover_only_the_release_namespace() {
    let manifests = with(&[]);
    assert!(manifests.of("ClusterRole").is_empty() && manifests.of("ClusterRoleBinding").is_empty());
    for kind in ["Role", "RoleBinding"] {
        assert!(manifests.of(kind).iter().all(|role| role["metadata"]["namespace"] == NAMESPACE), "{kind}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn write_permissions_cover_only_status_events_and_lease() {
    let roles = with(&["watch.allNamespaces=true"]);
    let written: Vec<_> = ["Role", "ClusterRole"]
        .iter()
        .flat_map(|kind| permissions(&roles.of(kind)))
        .filter(|(_, verb, _)| !matches!(verb.as_str(), "get" | "list" | "watch"))
        .map(|(resource, _, names)| (resource, names))
        .collect();
    for (resource, names) in &written {
        assert!(
            matches!(
                (resource.as_str(), names.as_str()),
                ("sessionpolicies/status" | "events" | "leases", "") | ("leases", "session-checker")
            ),
            "{resource} {names}"
        );
    }
    assert_eq!(written.iter().filter(|(resource, _)| resource == "leases").count(), 2);
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn permissions_have_no_verb_that_the_service_does_not_use() {
    // It reads by watches, which list first, and writes the status by patches.
    for (values, kind) in [(&[][..], "Role"), (&["watch.allNamespaces=true"], "ClusterRole")] {
        let verbs = |resource: &str| -> BTreeSet<String> {
            let all = permissions(&with(values).of(kind)).into_iter();
            all.filter(|(of, ..)| of == resource).map(|(_, verb, _)| verb).collect()
        };
        let reads = BTreeSet::from(["list", "watch"].map(ToOwned::to_owned));
        for resource in ["sessionpolicies", "secrets", "configmaps"] {
            assert_eq!(verbs(resource), reads, "{resource}");
        }
        assert_eq!(verbs("sessionpolicies/status"), BTreeSet::from(["patch".to_owned()]));
        assert_eq!(verbs("events"), BTreeSet::from(["create", "patch"].map(ToOwned::to_owned)));
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn secret_names_restrict_read_access_to_secrets() {
    for (values, kind) in [(&[][..], "Role"), (&["watch.allNamespaces=true"], "ClusterRole")] {
        let named = [values, &["rbac.secretNames={a,b}"]].concat();
        for (values, names) in [(values.to_vec(), ""), (named, "a,b")] {
            let expected = ["list", "watch"].map(|verb| (verb.to_owned(), names.to_owned()));
            assert_eq!(on_secrets(&with(&values), kind), BTreeSet::from(expected), "{values:?}");
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn roles_exist_in_watched_namespaces_only() {
    let manifests = with(&["watch.namespaces={one,two}"]);
    let of = |kind: &str| -> BTreeSet<String> {
        let roles = manifests.of(kind).into_iter().filter(|role| role["metadata"]["name"] != "session-checker-lease");
        roles.map(|role| role["metadata"]["namespace"].as_str().unwrap().to_owned()).collect()
    };
    let expected = BTreeSet::from(["one".to_owned(), "two".to_owned()]);
    assert_eq!((of("Role"), of("RoleBinding")), (expected.clone(), expected));
    assert_eq!(manifests.serve().source.namespace, ["one", "two"]);
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn bindings_match_roles_and_the_service_account() {
    for values in [&[][..], &["watch.allNamespaces=true"], &["watch.namespaces={one,two}", "fullnameOverride=x"]] {
        let manifests = with(values);
        let account = &manifests.pod()["serviceAccountName"];
        assert_eq!(&manifests.the("ServiceAccount")["metadata"]["name"], account);
        for kind in ["Role", "ClusterRole"] {
            let key = |metadata: &Value, name: &Value| (metadata["namespace"].clone().to_string(), name.to_string());
            let roles: BTreeSet<_> =
                manifests.of(kind).iter().map(|role| key(&role["metadata"], &role["metadata"]["name"])).collect();
            let bindings = manifests.of(&format!("{kind}Binding"));
            let bound: BTreeSet<_> =
                bindings.iter().map(|binding| key(&binding["metadata"], &binding["roleRef"]["name"])).collect();
            assert_eq!(roles, bound, "{values:?}");
            for binding in bindings {
                assert_eq!(binding["roleRef"]["kind"], kind);
                assert_eq!(
                    (&binding["subjects"][0]["name"], &binding["subjects"][0]["namespace"]),
                    (account, &NAMESPACE.into())
                );
            }
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn committed_rbac_matches_the_chart() {
    for scope in ["namespaced", "named", "cluster"] {
        let values = chart().join(format!("ci/rbac-{scope}-values.yaml"));
        let rendered = template(&chart(), ["--values", values.to_str().unwrap(), "--show-only", "templates/rbac.yaml"]);
        let copy = chart().join(format!("../../tests/control-plane/rbac/{scope}.yaml"));
        assert_eq!(std::fs::read_to_string(copy).unwrap(), rendered.unwrap(), "{scope}: run make chart");
    }
}
