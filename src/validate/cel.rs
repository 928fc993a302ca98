//! The CEL rules of the resource, evaluated as the API server does.

use kube::core::cel::{CompiledSchema, ErrorKind, Validator, apply_defaults, compile_schema};
use serde_json::Value;

use super::{FileResource, Problem, ProblemKind};
use crate::crd;
use crate::policy::as_stored;

/// The fields of a spec that hold a duration.
const DURATIONS: [&str; 4] = ["activeWithin", "timeout", "admissionWindow", "recheckAfter"];

/// The rules of the resource, ready to be evaluated.
pub(super) struct ResourceRules {
    validator: Validator,
    schema: CompiledSchema,
}

impl ResourceRules {
    pub fn new() -> Self {
        Self { validator: Validator::new(), schema: compile_schema(crd::spec_schema()) }
    }

    /// The rules that a policy breaks although it compiles.
    pub fn problems(&self, resource: &FileResource<'_>) -> Vec<Problem> {
        let mut spec = apply_defaults(crd::spec_schema(), &as_stored(&resource.written["spec"]));
        for field in DURATIONS {
            // This evaluator does not read the µ that the API server reads.
            if let Some(Value::String(text)) = spec.get_mut(field) {
                *text = text.replace(['µ', 'μ'], "u");
            }
        }
        let Err(errors) = self.validator.validate_compiled(&self.schema, &spec, None) else { return Vec::new() };
        let broken = errors.into_vec().into_iter();
        let broken =
            broken.filter(|error| matches!(error.kind, ErrorKind::ValidationFailure | ErrorKind::EvaluationError));
        broken
            .map(|error| {
                let path = error.field_path;
                let field = if path.is_empty() { "spec".to_owned() } else { format!("spec.{path}") };
                resource.error(ProblemKind::Field, &field, error.message)
            })
            .collect()
    }
}
