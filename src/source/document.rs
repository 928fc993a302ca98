//! Reads the resources in the text of a YAML or JSON file.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use serde_saphyr::budget::BudgetBreach;

use crate::crd;
use crate::policy::{Index, Manifest, ObjectName, SecretManifest, SpecError, is_label, parse_rfc3339};
use crate::secret::SecretError;

/// The most documents in a file. A team has tens of policies, and the bound keeps a file of separators from filling the
/// memory. It is the default of the parser, written out because the error names it.
const MAX_DOCUMENTS: usize = 1024;

/// The most values (maps, lists, texts and numbers) in all documents of a file together: about 5,000 policies of the usual
/// size. It is the default of the parser, too.
const MAX_VALUES: usize = 250_000;

/// One resource in a file.
pub enum Document {
    /// A `SessionPolicy`.
    Policy(Manifest),
    /// A resource that is meant for this service and has a version or kind that it does not know, with the reason.
    UnknownType(Manifest, SpecError),
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
    pub fn feed(&self, index: &mut Index) {
        match self {
            Self::Policy(manifest) => index.apply_policy(manifest),
            Self::UnknownType(manifest, error) => index.reject_policy(manifest, error.clone()),
            Self::Secret(secret) => index.apply_secret(secret),
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
    /// The file is larger than the parser may read.
    #[error("is larger than a policy file may be: {0}. Split it into several files")]
    TooLarge(String),
    /// The file holds a policy, and its name or its place keeps it from being read.
    #[error(
        "is not read: it holds a SessionPolicy, and only files that end in .yaml, .yml or .json in the folder itself are read. Rename or move it"
    )]
    NotRead,
    /// A document is not a Kubernetes resource.
    #[error("document {document}: {problem}")]
    NotAResource {
        /// The position of the document in the file, from 1.
        document: usize,
        /// What is wrong with it, and what to write.
        problem: &'static str,
    },
}

/// A resource of a document, with its place there.
pub struct Resource {
    /// The path of the resource in the document: empty, or that of an item of a `List`, such as `items[0]`.
    pub path: String,
    /// The resource, or why the document is not one, and what to write.
    pub read: Result<Document, &'static str>,
}

/// Reads YAML (or JSON, which is YAML) with any number of documents. A `List` is replaced by its items.
///
/// # Errors
/// When the text is not YAML or a document is not a Kubernetes resource. An invalid spec is no error here: compiling the
/// policy reports it.
pub fn read_documents(text: &str) -> Result<Vec<Document>, FileError> {
    let values = parse_yaml(text).map_err(|error| FileError::from(&error))?;
    let mut documents = Vec::new();
    for (position, value) in values.into_iter().enumerate() {
        for resource in resources(value) {
            let read = resource.read;
            documents.push(read.map_err(|problem| FileError::NotAResource { document: position + 1, problem })?);
        }
    }
    Ok(documents)
}

/// The values of a text of YAML. Documents without a value are left out.
///
/// # Errors
/// When the text is not YAML or is larger than the parser may read. The error's snippet quotes lines of the text, which may
/// contain a Secret.
pub fn parse_yaml(text: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_documents: MAX_DOCUMENTS, max_nodes: MAX_VALUES },
    };
    serde_saphyr::from_multiple_with_options(text, options)
}

/// The resources of a document: one, or the items of a `List`.
pub fn resources(value: Value) -> Vec<Resource> {
    let mut found = Vec::new();
    read_resource(value, String::new(), &mut found);
    found
}

impl From<&serde_saphyr::Error> for FileError {
    fn from(error: &serde_saphyr::Error) -> Self {
        match error.without_snippet() {
            serde_saphyr::Error::Budget { breach, .. } => Self::TooLarge(match breach {
                BudgetBreach::Documents { .. } => format!("it has more than {MAX_DOCUMENTS} documents"),
                BudgetBreach::Nodes { .. } => format!("it has more than {MAX_VALUES} values"),
                _ => error.to_string(),
            }),
            other => Self::NotYaml(other.to_string()),
        }
    }
}

fn read_resource(mut value: Value, path: String, found: &mut Vec<Resource>) {
    match list_items(&mut value) {
        Ok(None) => found.push(Resource { path, read: read_single(value) }),
        Ok(Some(items)) => {
            let prefix = if path.is_empty() { "items".to_owned() } else { format!("{path}.items") };
            for (position, item) in items.into_iter().enumerate() {
                read_resource(item, format!("{prefix}[{position}]"), found);
            }
        }
        Err(problem) => found.push(Resource { path, read: Err(problem) }),
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn type_of(value: &Value) -> Result<(String, String), &'static str> {
    match (text(value, "apiVersion"), text(value, "kind")) {
        (Some(api_version), Some(kind)) => Ok((api_version, kind)),
        _ => Err("has no apiVersion and kind: every document must be a Kubernetes resource"),
    }
}

/// The items of a `List`; `None` for another resource.
fn list_items(value: &mut Value) -> Result<Option<Vec<Value>>, &'static str> {
    let (api_version, kind) = type_of(value)?;
    let is_list = is_meant_for_us(&api_version, &kind) || api_version == "v1";
    let Some(item_kind) = kind.strip_suffix("List").filter(|_| is_list) else { return Ok(None) };
    let Value::Array(mut items) = value["items"].take() else { return Err("is a List without items") };
    // The items of a typed list, such as a SecretList, may leave their type out.
    for fields in items.iter_mut().filter_map(Value::as_object_mut).filter(|_| !item_kind.is_empty()) {
        for (field, default) in [("apiVersion", api_version.as_str()), ("kind", item_kind)] {
            let written = fields.entry(field).or_insert(Value::Null);
            if written.is_null() {
                *written = default.into();
            }
        }
    }
    Ok(Some(items))
}

fn read_single(mut value: Value) -> Result<Document, &'static str> {
    let (api_version, kind) = type_of(&value)?;
    match (api_version.as_str(), kind.as_str()) {
        (crd::API_VERSION, crd::KIND) => Ok(Document::Policy(manifest(&mut value)?)),
        _ if is_meant_for_us(&api_version, &kind) => {
            let field = if kind == crd::KIND { "apiVersion" } else { "kind" };
            let message = format!(
                "this version of the service does not know {kind} of {api_version}: write apiVersion: {} and kind: {}",
                crd::API_VERSION,
                crd::KIND
            );
            Ok(Document::UnknownType(manifest(&mut value)?, SpecError { field: field.to_owned(), message }))
        }
        ("v1", "Secret") => Ok(Document::Secret(SecretManifest {
            name: name(&value)?,
            kind: text(&value, "type").unwrap_or_else(|| "Opaque".to_owned()),
            data: secret_data(&value),
        })),
        _ => Ok(Document::Other { api_version, kind }),
    }
}

/// Whether somebody who writes this type means a resource of this service: the group or the kind is right, apart from its
/// case and signs. A version or kind that nobody knows must not look like the absence of a policy.
fn is_meant_for_us(api_version: &str, kind: &str) -> bool {
    let letters = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
    };
    let group = api_version.split('/').next().unwrap_or_default();
    letters(group) == letters(crd::GROUP) || letters(kind) == letters(crd::KIND)
}

fn manifest(value: &mut Value) -> Result<Manifest, &'static str> {
    Ok(Manifest {
        name: name(value)?,
        generation: value["metadata"]["generation"].as_i64().unwrap_or_default(),
        created_at: value["metadata"]["creationTimestamp"].as_str().and_then(parse_rfc3339),
        spec: value["spec"].take(),
    })
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
