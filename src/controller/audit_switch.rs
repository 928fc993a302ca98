//! The ConfigMaps by which people force policies to audit through the API server.
//!
//! A ConfigMap and not a field of the policies: the right to change it can be given to people who may not change policies, it
//! concerns all policies of a namespace or of the service at once, and a tool that owns the policies does not revert it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

use crate::policy::ObjectName;
use crate::snapshot::AuditSwitch;

/// The annotation that people set. It comes before the key: tools that own the ConfigMap leave an annotation as it is.
const ANNOTATION: &str = "sessionchecker.dev/force-audit";
/// The key of the data, which the chart sets.
const KEY: &str = "value";

/// The namespace of a ConfigMap and what it says. Any other text than `true` is off.
pub(super) fn audit_switch(map: ConfigMap) -> (String, AuditSwitch) {
    let annotation = map.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION));
    let text = annotation.or_else(|| map.data.as_ref()?.get(KEY));
    let is_on = text.is_some_and(|text| text.trim().eq_ignore_ascii_case("true"));
    let field = match annotation {
        Some(_) => ["f:metadata", "f:annotations", &format!("f:{ANNOTATION}")].join("\n"),
        None => ["f:data", &format!("f:{KEY}")].join("\n"),
    };
    let writer = map
        .metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| owns(entry, &field))
        .max_by_key(|entry| time(entry));
    let name = ObjectName::new(map.metadata.namespace.unwrap_or_default(), map.metadata.name.unwrap_or_default());
    let mut source = format!("ConfigMap {name}");
    if let Some((writer, at)) = writer.and_then(|entry| Some((entry.manager.as_deref()?, time(entry)?))) {
        source += &format!(", written by {writer} at {at}");
    }
    (name.namespace().to_owned(), AuditSwitch { is_on, source })
}

fn time(entry: &ManagedFieldsEntry) -> Option<Timestamp> {
    entry.time.as_ref().map(|time| time.0)
}

/// Whether an entry of managed fields has a field, whose names are lines.
fn owns(entry: &ManagedFieldsEntry, field: &str) -> bool {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
    field.lines().try_fold(fields.unwrap_or(&Value::Null), |fields, name| fields.get(name)).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(annotations: &Value, data: &Value) -> AuditSwitch {
        let managed = |manager: &str, time: &str, fields: Value| json!({ "manager": manager, "operation": "Update", "time": time, "fieldsV1": fields });
        let map = json!({
            "metadata": {
                "namespace": "team", "name": "switch", "annotations": annotations,
                "managedFields": [
                    managed("helm", "2026-01-01T00:00:00Z", json!({ "f:data": { "f:value": {} } })),
                    managed("kubectl-patch", "2026-01-02T00:00:00Z", json!({ "f:data": { "f:value": {} } })),
                    managed("other", "2026-01-04T00:00:00Z", json!({ "f:metadata": { "f:labels": {} } })),
                    managed("kubectl-annotate", "2026-01-03T00:00:00Z", json!({
                        "f:metadata": { "f:annotations": { "f:sessionchecker.dev/force-audit": {} } },
                    })),
                ],
            },
            "data": data,
        });
        let (namespace, switch) = audit_switch(serde_json::from_value(map).unwrap());
        assert_eq!(namespace, "team");
        switch
    }

    #[test]
    fn annotation_comes_before_the_data() {
        let annotated = |text: &str| json!({ "sessionchecker.dev/force-audit": text });
        for (annotations, data, is_on, writer) in [
            (json!({}), json!({ "value": "true" }), true, "kubectl-patch at 2026-01-02T00:00:00Z"),
            (json!({}), json!({ "value": "false" }), false, "kubectl-patch at 2026-01-02T00:00:00Z"),
            (annotated("true"), json!({ "value": "false" }), true, "kubectl-annotate at 2026-01-03T00:00:00Z"),
            (annotated("True "), json!({}), true, "kubectl-annotate at 2026-01-03T00:00:00Z"),
            (annotated("false"), json!({ "value": "true" }), false, "kubectl-annotate at 2026-01-03T00:00:00Z"),
            (annotated("yes"), json!({}), false, "kubectl-annotate at 2026-01-03T00:00:00Z"),
            (json!({}), json!(null), false, "kubectl-patch at 2026-01-02T00:00:00Z"),
        ] {
            let switch = read(&annotations, &data);
            let source = format!("ConfigMap team/switch, written by {writer}");
            assert_eq!(switch, AuditSwitch { is_on, source });
        }
    }
}
