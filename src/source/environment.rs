//! The variables of the Node demo: one policy that follows its rule, `env/auth0`.

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::policy::{CallerAccess, Index, Manifest, ObjectName, SecretManifest};
use crate::secret::CREDENTIALS_TYPE;

/// `AUTH0_DOMAIN`, `AUTH0_CLIENT_ID` and `AUTH0_CLIENT_SECRET`.
#[derive(Clone, Debug)]
pub struct Environment {
    domain: String,
    client_id: String,
    client_secret: SecretString,
}

/// What is wrong with the variables, in words for the person who starts the service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// Some are set and some are not.
    #[error("{} not set: AUTH0_DOMAIN, AUTH0_CLIENT_ID and AUTH0_CLIENT_SECRET are needed together", .0.join(" and "))]
    Missing(Vec<&'static str>),
    /// The policy that they make does not compile.
    #[error("AUTH0_DOMAIN: {0}")]
    Domain(String),
}

impl Environment {
    /// Takes the three variables; `None` when none is set. An empty one is not set.
    ///
    /// # Errors
    /// Names the missing ones when only some are set.
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

    /// Feeds an index with the policy and the credential that the variables stand for.
    ///
    /// # Errors
    /// When the domain is not one.
    pub fn feed(&self, index: &mut Index) -> Result<(), EnvironmentError> {
        let name = ObjectName::new("env", "auth0");
        index.apply_secret(&SecretManifest {
            uid: None,
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
                "tenant": { "domain": self.domain, "credentialsSecretRef": { "name": name.name } },
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
