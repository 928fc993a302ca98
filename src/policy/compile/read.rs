//! Reads a spec into the resource's types, and finds what does not belong there.

use serde_json::Value;

use super::super::written::{SpecError, field_path};
use crate::crd::SessionPolicySpec;

/// Reads a spec.
pub(super) fn read(spec: &Value) -> Result<SessionPolicySpec, SpecError> {
    serde_path_to_error::deserialize(spec).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "spec".to_owned() } else { format!("spec.{path}") };
        let message = error.into_inner().to_string();
        // The message goes to logs, and the value may be a user's id: the message must not contain it.
        let message = match message.split_once(", expected ") {
            Some((problem, expected)) if problem.starts_with("invalid ") => format!("expected {expected}"),
            _ => message,
        };
        SpecError { field, message }
    })
}

/// The fields that the resource does not have, each as an error.
pub(super) fn unknown_fields(spec: &Value) -> Vec<SpecError> {
    let mut errors = Vec::new();
    // `read` checks the result; this second reading only collects the fields that it ignores.
    let _: Result<SessionPolicySpec, _> = serde_ignored::deserialize(spec, |path| {
        errors.push(SpecError {
            field: format!("spec{}", field_path(&path)),
            message: "no such field: the CRD and `kubectl explain sessionpolicy.spec` list the fields".to_owned(),
        });
    });
    errors
}
