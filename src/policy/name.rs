//! The names of policies and Secrets.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The name of a policy or a Secret, written as `namespace/name`. Clones share its text: every check has several.
#[derive(Clone)]
pub struct ObjectName {
    text: Arc<str>,
    /// Where the slash is.
    slash: usize,
}

impl ObjectName {
    /// Combines a namespace and a name.
    pub fn new(namespace: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        let (namespace, name) = (namespace.as_ref(), name.as_ref());
        Self { text: [namespace, name].join("/").into(), slash: namespace.len() }
    }

    /// The object's namespace; `default` where a manifest names none.
    pub fn namespace(&self) -> &str {
        self.parts().0
    }

    /// The object's name within the namespace.
    pub fn name(&self) -> &str {
        self.parts().1
    }

    /// The namespace, a slash and the name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn parts(&self) -> (&str, &str) {
        (&self.text[..self.slash], &self.text[self.slash + 1..])
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ObjectName").field(&self.text).finish()
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for ObjectName {
    fn eq(&self, other: &Self) -> bool {
        self.slash == other.slash && self.text == other.text
    }
}

impl Eq for ObjectName {}

impl Hash for ObjectName {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.text.hash(hasher);
    }
}

impl Ord for ObjectName {
    /// By namespace, and then by name.
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for ObjectName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
