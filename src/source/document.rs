//! Reads the resources in the text of a YAML or JSON file.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::crd;
use crate::policy::{Index, Manifest, ObjectName, SecretManifest, parse_rfc3339};
use crate::secret::SecretError;

/// One resource in a file.
pub enum Document {
    /// A `SessionPolicy`.
    Policy(Manifest),
    /// A `Secret`.
    Secret(SecretManifest),
    /// A resource of another kind, which is ignored.
    Other {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
    },
}

impl Document {
    /// Applies the resource to an index.
    pub fn feed(self, index: &mut Index) {
        match self {
            Self::Policy(manifest) => index.apply_policy(&manifest),
            Self::Secret(secret) => index.apply_secret(&secret),
            Self::Other { .. } => {}
        }
    }
}

/// The reason why a whole file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The text is neither YAML nor JSON.
    #[error("is not YAML: {0}")]
    NotYaml(String),
    /// A document is not a Kubernetes resource.
    #[error("document {document}: {problem}")]
    NotAResource {
        /// The position of the document in the file, from 1.
        document: usize,
        /// What is wrong with it, and what to write.
        problem: &'static str,
    },
}

/// Reads YAML (or JSON, which is YAML) with any number of documents. A `List` is replaced by its items.
///
/// # Errors
/// When the text is not YAML or a document is not a Kubernetes resource. An invalid spec is no error here: compiling the
/// policy reports it.
pub fn read_documents(text: &str) -> Result<Vec<Document>, FileError> {
    // Without the snippet: it would quote lines of the file in the error, and the file may contain a Secret.
    let values: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| FileError::NotYaml(error.without_snippet().to_string()))?;
    let mut documents = Vec::new();
    for (position, value) in values.into_iter().enumerate() {
        read_resource(value, &mut documents)
            .map_err(|problem| FileError::NotAResource { document: position + 1, problem })?;
    }
    Ok(documents)
}

fn read_resource(mut value: Value, documents: &mut Vec<Document>) -> Result<(), &'static str> {
    let text = |value: &Value, key: &str| value[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let (Some(api_version), Some(kind)) = (text(&value, "apiVersion"), text(&value, "kind")) else {
        return Err("has no apiVersion and kind: every document must be a Kubernetes resource");
    };
    match (api_version.as_str(), kind.as_str()) {
        ("v1", "List") => {
            let Value::Array(items) = value["items"].take() else { return Err("is a List without items") };
            items.into_iter().try_for_each(|item| read_resource(item, documents))?;
        }
        (crd::API_VERSION, crd::KIND) => documents.push(Document::Policy(Manifest {
            name: name(&value)?,
            generation: value["metadata"]["generation"].as_i64().unwrap_or_default(),
            created_at: value["metadata"]["creationTimestamp"].as_str().and_then(parse_rfc3339),
            spec: value["spec"].take(),
        })),
        ("v1", "Secret") => documents.push(Document::Secret(SecretManifest {
            name: name(&value)?,
            kind: text(&value, "type").unwrap_or_else(|| "Opaque".to_owned()),
            data: secret_data(&value),
        })),
        _ => documents.push(Document::Other { api_version, kind }),
    }
    Ok(())
}

fn name(value: &Value) -> Result<ObjectName, &'static str> {
    let metadata = &value["metadata"];
    let name = metadata["name"].as_str().filter(|name| !name.is_empty()).ok_or("has no metadata.name")?;
    let namespace = metadata["namespace"].as_str().unwrap_or("default");
    if [name, namespace].iter().all(|name| is_dns_name(name)) {
        Ok(ObjectName::new(namespace, name))
    } else {
        Err(
            "has an invalid metadata.name or metadata.namespace: use lower case letters, digits, - and . as in Kubernetes",
        )
    }
}

/// Whether Kubernetes would accept the name (a DNS-1123 subdomain). Names are used in metric labels and answers.
fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Merges `data` (Base64) and `stringData` (plain); `stringData` wins, as in Kubernetes.
fn secret_data(value: &Value) -> Result<BTreeMap<String, Vec<u8>>, SecretError> {
    let mut data = BTreeMap::new();
    for (field, is_plain) in [("data", false), ("stringData", true)] {
        let entries = match &value[field] {
            Value::Null => continue,
            Value::Object(entries) => entries,
            _ => return Err(SecretError::Data(format!("{field} must be a map of keys to strings"))),
        };
        for (key, entry) in entries {
            let text = match entry {
                Value::String(text) => text.as_str(),
                Value::Null => "",
                _ => {
                    return Err(SecretError::Data(format!(
                        "the value of key {key} must be a string: put it in quotes"
                    )));
                }
            };
            let bytes = if is_plain { Some(text.as_bytes().to_vec()) } else { BASE64.decode(text.trim()).ok() };
            let bytes = bytes.ok_or_else(|| {
                SecretError::Data(format!(
                    "the value of key {key} is not Base64: encode it, or write it under stringData"
                ))
            })?;
            data.insert(key.clone(), bytes);
        }
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        read_documents(text).err().expect("an error").to_string()
    }

    #[test]
    fn file_may_contain_several_documents_and_lists() {
        let text = "
apiVersion: sessionchecker.dev/v1alpha1
kind: SessionPolicy
metadata: {name: a, generation: 3, creationTimestamp: 2026-01-01T00:00:00Z}
spec: {priority: 1}
---
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Secret
  type: sessionchecker.dev/callers
  metadata: {name: s, namespace: other}
  data: {a: b25lCg==, b: dHdv}
  stringData: {b: three}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}
";
        let documents = read_documents(text).unwrap();
        let [Document::Policy(policy), Document::Secret(secret), Document::Other { kind, .. }] = &documents[..] else {
            panic!("three documents of these kinds, not {}", documents.len());
        };
        assert_eq!(policy.name, ObjectName::new("default", "a"));
        assert_eq!((policy.generation, policy.created_at), (3, "2026-01-01T00:00:00Z".parse().ok()));
        assert_eq!(secret.name, ObjectName::new("other", "s"));
        let data = secret.data.as_ref().unwrap();
        assert_eq!((data["a"].as_slice(), data["b"].as_slice()), (&b"one\n"[..], &b"three"[..]));
        assert_eq!(kind, "ConfigMap");
    }

    #[test]
    fn json_is_read_as_yaml() {
        let text = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"}}"#;
        assert_eq!(read_documents(text).unwrap().len(), 1);
    }

    #[test]
    fn invalid_document_is_reported_by_its_position() {
        let good = "{apiVersion: v1, kind: Secret, metadata: {name: s}}";
        assert!(error(&format!("{good}\n---\nlimits: 1")).contains("document 2: has no apiVersion and kind"));
        assert!(error("{apiVersion: v1, kind: Secret}").contains("no metadata.name"));
        assert!(error("- a\n- b").contains("document 1"));
        assert!(error("a: [").starts_with("is not YAML"));
        assert!(error("a: 1\na: 2").starts_with("is not YAML"), "a duplicate key");
    }

    #[test]
    fn error_never_quotes_the_file() {
        let text = "apiVersion: v1\nkind: Secret\nstringData:\n  clientSecret: \"hunter2-hunter2\n  x: [\n";
        assert!(!error(text).contains("hunter2"), "{}", error(text));
        let Document::Secret(secret) = &read_documents(
            "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {clientSecret: hunter2-hunter2}}",
        )
        .unwrap()[0] else {
            panic!("a Secret")
        };
        let error = secret.data.as_ref().unwrap_err().to_string();
        assert!(error.contains("clientSecret") && !error.contains("hunter2"), "{error}");
    }
}
