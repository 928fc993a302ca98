//! `session-checker crd`: prints the CustomResourceDefinition.

use crate::crd;
use crate::service::RunError;

/// Prints the CustomResourceDefinition as YAML.
///
/// # Errors
/// When it cannot be serialized.
#[expect(clippy::print_stdout, reason = "it is the output of the command")]
pub fn print() -> Result<(), RunError> {
    print!("{}", crd::manifest().map_err(|error| RunError::Command(error.to_string()))?);
    Ok(())
}
