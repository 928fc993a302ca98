//! How sessions began, where that changes whether they count.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

/// How a session began. Auth0's list does not say all of it, so the ledger remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Somebody else acts as the user in it, such as a support agent (`event.session.actor`).
    Delegated,
    /// An application of the user's device opened it (Native to Web, `event.session_transfer_token`).
    WebView {
        /// The client id of that application.
        opened_by: String,
    },
}

/// The origins of a user's sessions, as far as they are known and the list does not say them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// The sessions in which somebody else acts as the user.
    pub delegated: HashSet<String>,
    /// The web views, each with the client id of the application that opened it.
    pub web_views: HashMap<String, String>,
}

impl Origins {
    /// Adds the origin of a session.
    pub fn add(&mut self, sid: String, origin: &Origin) {
        match origin {
            Origin::Delegated => drop(self.delegated.insert(sid)),
            Origin::WebView { opened_by } => drop(self.web_views.insert(sid, opened_by.clone())),
        }
    }
}
