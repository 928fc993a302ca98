//! The page on which a person whose login is blocked chooses which sessions to end: tickets, texts and templates. The steps of a
//! choice are in [`check`](crate::check), its HTTP in [`server`](crate::server).

mod device;
mod metrics;
mod page;
mod texts;
mod ticket;
mod uses;

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;

pub use device::{Device, MAX_USER_AGENT_BYTES, prepare};
pub use metrics::{ChoiceOutcome, ChooseMetrics, PageRejection};
pub use page::{Links, Message, PageError, Pages, Problem, Visit};
pub use texts::Language;
pub use ticket::{OpenTicket, TICKET_SECONDS, Ticket, TicketError, TicketKeys, is_same_code, new_browser};
pub use uses::TicketUses;

/// The path of the page.
pub const PATH: &str = "/choose";

/// Makes and reads tickets, and has the pages. What a file holds is replaced while the service runs.
pub struct Chooser {
    /// The public origin of the page, such as `https://sessions.example.com`.
    origin: String,
    /// The origin at which logins continue, when it is not that of their own host.
    login_origin: Option<String>,
    keys: ArcSwap<TicketKeys>,
    pages: ArcSwap<Pages>,
    metrics: ChooseMetrics,
}

impl Chooser {
    /// A page at the origin, such as `https://sessions.example.com`.
    pub fn new(origin: String, keys: TicketKeys, pages: Pages, metrics: ChooseMetrics) -> Self {
        Self {
            origin,
            login_origin: None,
            keys: ArcSwap::from_pointee(keys),
            pages: ArcSwap::from_pointee(pages),
            metrics,
        }
    }

    /// The same, where logins continue at this origin and not at their own host.
    #[must_use]
    pub fn with_login_origin(self, login_origin: Option<String>) -> Self {
        Self { login_origin, ..self }
    }

    /// The public origin of the page.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether browsers come over HTTPS. Over HTTP they come from this machine alone.
    pub fn is_https(&self) -> bool {
        self.origin.starts_with("https://")
    }

    /// The address at which the login of a host continues.
    pub fn continue_url(&self, host: &str, state: &str) -> String {
        match &self.login_origin {
            Some(origin) => format!("{origin}/continue?state={state}"),
            None => format!("https://{host}/continue?state={state}"),
        }
    }

    /// The address of the page for a login that is blocked.
    pub fn url_for(&self, ticket: &Ticket) -> Option<String> {
        let sealed = self.keys.load().seal(ticket)?;
        self.metrics.outcome(&ticket.tenant, ChoiceOutcome::Asked);
        Some(format!("{}{PATH}?ticket={sealed}", self.origin))
    }

    /// Reads a ticket as of `now`.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn open(&self, ticket: &str, now: Timestamp) -> Result<OpenTicket, TicketError> {
        self.keys.load().open(ticket, now)
    }

    /// The pages in use.
    pub fn pages(&self) -> Arc<Pages> {
        self.pages.load_full()
    }

    /// Replaces the keys of tickets.
    pub fn set_keys(&self, keys: TicketKeys) {
        self.keys.store(Arc::new(keys));
    }

    /// Replaces the pages.
    pub fn set_pages(&self, pages: Pages) {
        self.pages.store(Arc::new(pages));
    }

    /// Counts what happens on the page.
    pub fn metrics(&self) -> &ChooseMetrics {
        &self.metrics
    }
}
