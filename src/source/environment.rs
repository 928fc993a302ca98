//! The variables of the Node demo as a source: they make one policy, `env/auth0`, that decides as the Node demo did.

use std::path::Path;
use std::{fs, io};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::policy::{CallerAccess, Index, Manifest, ObjectName, SecretManifest};
use crate::secret::CREDENTIALS_TYPE;

/// The values of `AUTH0_DOMAIN`, `AUTH0_CLIENT_ID` and `AUTH0_CLIENT_SECRET`.
#[derive(Clone, Debug)]
pub struct Environment {
    domain: String,
    client_id: String,
    client_secret: SecretString,
}

/// An error in the variables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// Some variables are set, and these are not.
    #[error(
        "{} {} not set: set AUTH0_DOMAIN, AUTH0_CLIENT_ID and AUTH0_CLIENT_SECRET together",
        .0.join(" and "),
        if .0.len() == 1 { "is" } else { "are" }
    )]
    Missing(Vec<&'static str>),
    /// The policy made from the variables does not compile.
    #[error("AUTH0_DOMAIN: {0}")]
    Domain(String),
}

impl Environment {
    /// Takes the three variables; returns `None` when none is set. An empty variable counts as not set.
    ///
    /// # Errors
    /// Names the missing variables when only some are set.
    pub fn new(
        domain: Option<String>,
        client_id: Option<String>,
        client_secret: Option<SecretString>,
    ) -> Result<Option<Self>, EnvironmentError> {
        let domain = domain.filter(|text| !text.is_empty());
        let client_id = client_id.filter(|text| !text.is_empty());
        let client_secret = client_secret.filter(|text| !text.expose_secret().is_empty());
        let missing: Vec<&str> = [
            ("AUTH0_DOMAIN", domain.is_none()),
            ("AUTH0_CLIENT_ID", client_id.is_none()),
            ("AUTH0_CLIENT_SECRET", client_secret.is_none()),
        ]
        .into_iter()
        .filter_map(|(name, is_missing)| is_missing.then_some(name))
        .collect();
        match (domain, client_id, client_secret) {
            (Some(domain), Some(client_id), Some(client_secret)) => Ok(Some(Self { domain, client_id, client_secret })),
            (None, None, None) => Ok(None),
            _ => Err(EnvironmentError::Missing(missing)),
        }
    }

    /// Adds the policy and the credential to an index.
    ///
    /// # Errors
    /// When `AUTH0_DOMAIN` is not a domain.
    pub fn feed(&self, index: &mut Index) -> Result<(), EnvironmentError> {
        let name = ObjectName::new("env", "auth0");
        index.apply_secret(&SecretManifest {
            name: name.clone(),
            kind: CREDENTIALS_TYPE.to_owned(),
            data: Ok([
                ("domain", self.domain.as_str()),
                ("clientId", &self.client_id),
                ("clientSecret", self.client_secret.expose_secret()),
            ]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
            .collect()),
        });
        index.apply_policy(&Manifest {
            name: name.clone(),
            generation: 0,
            created_at: None::<Timestamp>,
            spec: json!({
                "tenant": { "domain": self.domain, "credentialsSecretRef": { "name": name.name() } },
                "limits": { "perClient": 1 },
                "reentry": "CountOthers",
                "failurePolicy": "Allow",
            }),
        });
        let report = index.publish(&CallerAccess::default()).1.into_iter().find(|report| report.name == name);
        match report.and_then(|report| report.errors.into_iter().next()) {
            Some(error) => Err(EnvironmentError::Domain(error.message)),
            None => Ok(()),
        }
    }
}

/// Sets the environment variables of a `.env` file as the Node demo did: a variable that is set already keeps its value,
/// an invalid line is skipped, and nothing is expanded. Returns the numbers of the skipped lines. A missing file sets
/// nothing.
///
/// Call it before anything that could read the environment runs.
///
/// # Errors
/// When the file exists and cannot be read.
pub fn load_dotenv(path: &Path) -> io::Result<Vec<usize>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut skipped = Vec::new();
    for (position, line) in text.lines().enumerate() {
        if dotenvy::from_read(without_expansion(line).as_bytes()).is_err() {
            skipped.push(position + 1);
        }
    }
    Ok(skipped)
}

/// Escapes `$`: the library would replace it by a variable, except inside single quotes.
fn without_expansion(line: &str) -> String {
    let is_quoted = line.split_once('=').is_some_and(|(_, value)| value.trim_start().starts_with('\''));
    if is_quoted { line.to_owned() } else { line.replace('$', "\\$") }
}
