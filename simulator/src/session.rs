//! A session, as a test or the demo adds it and as the tenant shows it.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// The idle lifetime of a session: Auth0's default for self-service plans.
pub(super) const IDLE_LIFETIME: SignedDuration = SignedDuration::from_hours(3 * 24);

/// The absolute lifetime of a session: Auth0's default for self-service plans.
const LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A session: an id and its entry in a list. Every field of the entry can be set to any value, or left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    pub(super) id: String,
    pub(super) entry: Value,
    /// Whether the tenant writes the owner into the entry.
    pub(super) names_owner: bool,
}

impl Session {
    /// A session in which the user authenticated at `began_at` and completed no login.
    pub fn new(id: impl Into<String>, began_at: Timestamp) -> Self {
        let id = id.into();
        let began = date(began_at);
        let entry = json!({
            "id": id,
            "created_at": began,
            "updated_at": began,
            "authenticated_at": began,
            "idle_expires_at": date(began_at + IDLE_LIFETIME),
            "expires_at": date(began_at + LIFETIME),
            "last_interacted_at": began,
            "device": {
                "initial_user_agent": "Mozilla/5.0",
                "initial_ip": "192.0.2.7",
                "initial_asn": "64496",
                "last_user_agent": "Mozilla/5.0",
                "last_ip": "192.0.2.7",
                "last_asn": "64496",
            },
            "clients": [],
            "authentication": { "methods": [{ "name": "pwd", "timestamp": began }] },
            "cookie": { "mode": "non-persistent" },
        });
        Self { id, entry, names_owner: true }
    }

    /// An entry that a list shows exactly as given. `id` identifies it for a revocation.
    pub fn raw(id: impl Into<String>, entry: Value) -> Self {
        Self { id: id.into(), entry, names_owner: false }
    }

    /// Adds an application that completed a login.
    #[must_use]
    pub fn client(mut self, client_id: &str) -> Self {
        push_client(&mut self.entry, client_id);
        self
    }

    /// Sets a date, for example `expires_at`.
    #[must_use]
    pub fn at(self, field: &str, time: Timestamp) -> Self {
        self.field(field, date(time).into())
    }

    /// Sets a field to any JSON.
    #[must_use]
    pub fn field(mut self, name: &str, value: Value) -> Self {
        set_field(&mut self.entry, name, value);
        self
    }

    /// Leaves a field out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.names_owner &= name != "user_id";
        if let Some(entry) = self.entry.as_object_mut() {
            entry.remove(name);
        }
        self
    }

    /// The session id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The entry, as JSON.
    pub fn entry(&self) -> &Value {
        &self.entry
    }

    /// The applications that completed a login, in that order.
    pub fn clients(&self) -> Vec<&str> {
        let clients = self.entry["clients"].as_array().map(Vec::as_slice).unwrap_or_default();
        clients.iter().filter_map(|client| client["client_id"].as_str()).collect()
    }

    /// A date of the entry. `None` when the field is no date.
    pub fn date(&self, field: &str) -> Option<Timestamp> {
        self.entry[field].as_str()?.parse().ok()
    }

    /// Whether a browser can use it: it has not expired.
    pub(super) fn is_alive(&self, now: Timestamp) -> bool {
        ["expires_at", "idle_expires_at"].into_iter().all(|field| self.date(field).is_none_or(|end| end > now))
    }
}

/// A date as Auth0 writes it: UTC with milliseconds.
pub(super) fn date(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// Sets a field of an entry. An entry that is no object does not change.
pub(super) fn set_field(entry: &mut Value, name: &str, value: Value) {
    if let Some(entry) = entry.as_object_mut() {
        entry.insert(name.to_owned(), value);
    }
}

/// Adds an application to the `clients` of an entry.
pub(super) fn push_client(entry: &mut Value, client_id: &str) {
    let Some(entry) = entry.as_object_mut() else { return };
    let clients = entry.entry("clients").or_insert_with(|| json!([]));
    if let Some(clients) = clients.as_array_mut()
        && !clients.iter().any(|known| known["client_id"] == client_id)
    {
        clients.push(json!({ "client_id": client_id }));
    }
}
