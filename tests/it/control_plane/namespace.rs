//! A namespace for one test, with a service account that has the RBAC of the chart.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::ControlPlane;

/// The name of the service account in the chart.
const ACCOUNT: &str = "session-checker";

/// The RBAC mode of the chart: what the service may read.
#[derive(Clone, Copy, Debug)]
pub enum Rbac {
    /// Policies and Secrets of the configured namespaces.
    Namespaced,
    /// Policies of the configured namespaces, and of their Secrets only the listed ones.
    Named,
    /// Policies and Secrets of every namespace.
    Cluster,
}

impl fmt::Display for Rbac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespaced => "namespaced",
            Self::Named => "named",
            Self::Cluster => "cluster",
        })
    }
}

impl Rbac {
    /// The rendered RBAC documents of the chart.
    fn documents(self) -> Vec<Value> {
        let path = format!("{}/tests/control-plane/rbac/{self}.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        serde_saphyr::from_multiple(&text).unwrap()
    }
}

/// A namespace with a service account.
pub struct Namespace<'a> {
    /// The control plane of the namespace.
    pub plane: &'a ControlPlane,
    /// The name of the namespace.
    pub name: String,
    admin: Client,
    token: String,
}

impl<'a> Namespace<'a> {
    pub(super) async fn create(plane: &'a ControlPlane, rbac: Rbac) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let admin = plane.admin().await;
        apply(&admin, json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })).await;
        let metadata = json!({ "name": ACCOUNT, "namespace": name });
        apply(&admin, json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata })).await;
        for document in rbac.documents() {
            apply(&admin, in_namespace(document, &name)).await;
        }
        let mut namespace = Self { plane, name, admin, token: String::new() };
        namespace.token = namespace.token(3600).await;
        namespace
    }

    /// A new token of the service account that is valid for this time. The API server requires at least 600 seconds.
    pub async fn token(&self, seconds: i64) -> String {
        self.request_token(TokenRequestSpec { expiration_seconds: Some(seconds), ..TokenRequestSpec::default() }).await
    }

    /// A token that is valid for as long as a Secret exists.
    pub async fn token_bound_to(&self, secret: &str) -> String {
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            name: Some(secret.to_owned()),
            uid: None,
        };
        self.request_token(TokenRequestSpec { bound_object_ref: Some(bound), ..TokenRequestSpec::default() }).await
    }

    async fn request_token(&self, spec: TokenRequestSpec) -> String {
        let accounts: Api<ServiceAccount> = self.admin();
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let issued = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await.unwrap();
        issued.status.unwrap().token
    }

    /// A client with a token of the service account.
    pub async fn client_with(&self, token: &str) -> Client {
        self.plane.client(token, &self.name).await
    }

    /// The resources of one kind in this namespace, as the administrator.
    pub fn admin<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.admin.clone(), &self.name)
    }

    /// A client with the rights of the service account.
    pub async fn client(&self) -> Client {
        self.client_with(&self.token).await
    }

    /// A kubeconfig of the service account, for another process. It is deleted with the control plane.
    pub fn kubeconfig(&self) -> PathBuf {
        self.plane.write_kubeconfig(&self.name, &self.token, &self.name)
    }

    /// Creates or updates a resource in this namespace, as the administrator.
    pub async fn apply(&self, mut resource: Value) {
        resource["metadata"]["namespace"] = json!(self.name);
        apply(&self.admin, resource).await;
    }

    /// The requests of the service account so far (see [`ControlPlane::audited`]).
    pub fn audited(&self) -> Vec<Value> {
        self.plane.audited(&format!("system:serviceaccount:{}:{ACCOUNT}", self.name))
    }
}

/// A document of the chart as rendered for a release in this namespace. The name of a cluster-scoped document contains the
/// namespace, so that tests do not share rights.
fn in_namespace(mut document: Value, namespace: &str) -> Value {
    let unique = |name: &Value| json!(format!("{}-{namespace}", name.as_str().unwrap()));
    if document["kind"].as_str().unwrap().starts_with("Cluster") {
        document["metadata"]["name"] = unique(&document["metadata"]["name"]);
    } else {
        document["metadata"]["namespace"] = json!(namespace);
    }
    if document["roleRef"]["kind"] == "ClusterRole" {
        document["roleRef"]["name"] = unique(&document["roleRef"]["name"]);
    }
    for subject in document.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        subject["namespace"] = json!(namespace);
    }
    document
}

async fn apply(client: &Client, resource: Value) {
    let object: DynamicObject = serde_json::from_value(resource).unwrap();
    let types = object.types.as_ref().unwrap();
    let kind = GroupVersionKind::try_from(types).unwrap();
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let name = object.metadata.name.as_deref().unwrap();
    let apply = kube::api::PatchParams::apply("administrator").force();
    api.patch(name, &apply, &kube::api::Patch::Apply(&object)).await.unwrap();
}
