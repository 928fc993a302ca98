//! Injected faults: what goes wrong, for which requests, and how often.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::answer::management_error_body;
use super::operation::{Operation, Target};

/// What goes wrong. The request has no effect unless the fault says that it is carried out.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The answer is this one.
    Answer(StatusCode, HeaderMap, Bytes),
    /// The request is carried out and answered after this time.
    Delay(Duration),
    /// The request is carried out and answered when the fault is cleared.
    Hang,
    /// The connection is reset before the answer.
    Reset,
    /// The request is carried out. Of its answer, the headers and half of the body are sent, then the connection ends.
    CutShort,
    /// The answer is not HTTP.
    NotHttp,
    /// Every page of a list is the first one, each with a new cursor for the next.
    EndlessPages,
    /// Every page of a list is the first one, each with the same cursor for the next.
    RepeatedCursor,
    /// A page of a list is empty and has a cursor for the next.
    EmptyPageWithNext,
}

impl Fault {
    /// An error of the Management API with this status, in its usual shape.
    pub fn status(status: StatusCode) -> Self {
        let message = status.canonical_reason().unwrap_or("Unknown");
        Self::error(status, message, None)
    }

    /// An error of the Management API in its usual shape, with a message and an `errorCode`.
    pub fn error(status: StatusCode, message: &str, code: Option<&str>) -> Self {
        Self::json(status, management_error_body(status, message, code))
    }

    /// The 403 of a tenant whose plan lacks the endpoint.
    pub fn not_entitled() -> Self {
        Self::error(StatusCode::FORBIDDEN, "This feature is not enabled for this tenant.", None)
    }

    /// An answer with this body as `application/json`. The body may be anything.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let content_type = HeaderValue::from_static("application/json; charset=utf-8");
        Self::Answer(status, HeaderMap::from_iter([(CONTENT_TYPE, content_type)]), body.into())
    }

    /// A redirect to this address.
    pub fn redirect(location: HeaderValue) -> Self {
        Self::Answer(StatusCode::FOUND, HeaderMap::from_iter([(LOCATION, location)]), Bytes::new())
    }

    /// An empty list as valid JSON of at least this many bytes.
    pub fn huge(bytes: usize) -> Self {
        Self::json(StatusCode::OK, format!(r#"{{"sessions":[],"padding":"{}"}}"#, " ".repeat(bytes)))
    }

    /// Adds a header to an answer. Other faults do not change.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if let Self::Answer(_, headers, _) = &mut self {
            headers.insert(name, value);
        }
        self
    }
}

/// Which requests a fault applies to: an operation, optionally one user or session, and how many times.
#[derive(Clone, Debug)]
pub struct When {
    operation: Operation,
    subject: Option<String>,
    times: Option<u64>,
}

impl Operation {
    /// The next `times` requests of this operation.
    pub fn times(self, times: u64) -> When {
        When::from(self).times(times)
    }

    /// The requests of this operation about one user id or session id.
    pub fn of(self, subject: impl Into<String>) -> When {
        When::from(self).of(subject)
    }
}

impl When {
    /// Limits the fault to the next `times` requests.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Limits the fault to one user id or session id.
    #[must_use]
    pub fn of(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    fn matches(&self, target: &Target) -> bool {
        self.operation == target.operation && self.subject.as_ref().is_none_or(|subject| *subject == target.subject)
    }
}

impl From<Operation> for When {
    fn from(operation: Operation) -> Self {
        Self { operation, subject: None, times: None }
    }
}

/// The active faults. Of several that match, the one that was injected first applies until it is used up, so that faults
/// injected one after the other make a script.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<Arc<FaultRule>>>);

#[derive(Debug)]
struct FaultRule {
    when: When,
    fault: Fault,
    strikes: watch::Sender<u64>,
    cleared: CancellationToken,
}

/// An active fault. It stays until it is used up or cleared, also when this handle is dropped.
#[derive(Clone, Debug)]
pub struct InjectedFault(Arc<FaultRule>);

impl InjectedFault {
    /// Ends the fault. Requests that hang because of it continue.
    pub fn clear(&self) {
        self.0.cleared.cancel();
    }

    /// How many requests it has applied to.
    pub fn strikes(&self) -> u64 {
        *self.0.strikes.borrow()
    }

    /// Waits until it has applied to `count` requests.
    pub async fn struck(&self, count: u64) {
        let mut strikes = self.0.strikes.subscribe();
        strikes.wait_for(|strikes| *strikes >= count).await.expect("the sender lives as long as this rule");
    }

    pub(super) fn fault(&self) -> &Fault {
        &self.0.fault
    }

    /// Waits until the fault is cleared.
    pub(super) async fn cleared(&self) {
        self.0.cleared.cancelled().await;
    }
}

impl Faults {
    pub fn inject(&self, when: When, fault: Fault) -> InjectedFault {
        let rule = FaultRule { when, fault, strikes: watch::Sender::new(0), cleared: CancellationToken::new() };
        let rule = Arc::new(rule);
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rules.retain(|rule| !rule.cleared.is_cancelled());
        rules.push(Arc::clone(&rule));
        InjectedFault(rule)
    }

    pub fn clear(&self) {
        for rule in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            rule.cleared.cancel();
        }
    }

    /// The fault that applies to a request. The request is counted.
    pub fn apply(&self, target: &Target) -> Option<InjectedFault> {
        let rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = rules.iter().find(|rule| {
            rule.when.matches(target)
                && !rule.cleared.is_cancelled()
                && rule.when.times.is_none_or(|times| *rule.strikes.borrow() < times)
        })?;
        rule.strikes.send_modify(|strikes| *strikes += 1);
        Some(InjectedFault(Arc::clone(rule)))
    }
}
