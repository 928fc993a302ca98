//! The names of policies and Secrets.

use std::fmt;

/// The name of a policy or a Secret, written as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// The object's namespace; `default` where a manifest names none.
    pub namespace: String,
    /// The object's name within the namespace.
    pub name: String,
}

impl ObjectName {
    /// Combines a namespace and a name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
