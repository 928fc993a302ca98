//! Faults on command: what goes wrong, for which requests, and how often.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http_body_util::BodyExt;
use rand::distr::{Alphanumeric, SampleString};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::answer::{management, management_error, management_error_body};
use super::management;
use super::operation::{Operation, Target};
use super::tenant::Tenant;
use super::wire::Line;

/// What goes wrong. Unless it says otherwise, the request is not carried out.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This answer is given.
    Answer(StatusCode, HeaderMap, Bytes),
    /// The answer comes this much later. The request is carried out then.
    Delay(Duration),
    /// No answer comes until the fault is cleared. The request is carried out then.
    Hang,
    /// The connection is reset before the answer.
    Reset,
    /// The request is carried out; of its answer all headers come and half of the body, then the connection ends.
    CutShort,
    /// What comes is not HTTP.
    NotHttp,
    /// Every page of a list is the first, and each promises another under a new cursor.
    EndlessPages,
    /// Every page of a list is the first, and each names the same cursor.
    RepeatedCursor,
    /// A page of a list is empty, and promises another.
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

    /// An answer with this body, which need not be JSON.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let content_type = HeaderValue::from_static("application/json; charset=utf-8");
        Self::Answer(status, HeaderMap::from_iter([(CONTENT_TYPE, content_type)]), body.into())
    }

    /// A redirect to this address.
    pub fn redirect(location: HeaderValue) -> Self {
        Self::Answer(StatusCode::FOUND, HeaderMap::from_iter([(LOCATION, location)]), Bytes::new())
    }

    /// A list without entries that takes at least this many bytes, all of it JSON.
    pub fn huge(bytes: usize) -> Self {
        Self::json(StatusCode::OK, format!(r#"{{"sessions":[],"padding":"{}"}}"#, " ".repeat(bytes)))
    }

    /// Adds a header to an answer; other faults have none.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if let Self::Answer(_, headers, _) = &mut self {
            headers.insert(name, value);
        }
        self
    }
}

/// Which requests a fault strikes: all of an operation, those about one user or session, so many times.
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
    /// Only the next `times` of them.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Only those about one user id or session id.
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

/// The faults in force. Of several that match, the one that was injected first strikes until it is used up, so that
/// faults injected one after the other make a script.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<Arc<Rule>>>);

#[derive(Debug)]
struct Rule {
    when: When,
    fault: Fault,
    strikes: watch::Sender<u64>,
    cleared: CancellationToken,
}

/// A fault in force. Dropping it changes nothing; the fault stays until it is used up or cleared.
#[derive(Clone, Debug)]
pub struct InjectedFault(Arc<Rule>);

impl InjectedFault {
    /// Ends the fault, and lets go the requests that hang on it.
    pub fn clear(&self) {
        self.0.cleared.cancel();
    }

    /// How many requests it has struck.
    pub fn strikes(&self) -> u64 {
        *self.0.strikes.borrow()
    }

    /// Waits until it has struck `count` requests.
    pub async fn struck(&self, count: u64) {
        let mut strikes = self.0.strikes.subscribe();
        strikes.wait_for(|strikes| *strikes >= count).await.expect("the sender lives as long as this rule");
    }
}

impl Faults {
    pub fn inject(&self, when: When, fault: Fault) -> InjectedFault {
        let rule = Rule { when, fault, strikes: watch::Sender::new(0), cleared: CancellationToken::new() };
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

    /// The fault that strikes a request, which counts as a strike.
    pub fn strike(&self, target: &Target) -> Option<InjectedFault> {
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

impl InjectedFault {
    /// Answers a request as the fault has it; `perform` carries the request out.
    pub(super) async fn answer(
        &self,
        tenant: &Tenant,
        target: &Target,
        line: Option<Line>,
        perform: impl FnOnce() -> Response,
    ) -> Response {
        match &self.0.fault {
            Fault::Answer(status, headers, body) => (*status, headers.clone(), body.clone()).into_response(),
            Fault::Delay(delay) => {
                tokio::time::sleep(*delay).await;
                perform()
            }
            Fault::Hang => {
                self.0.cleared.cancelled().await;
                perform()
            }
            Fault::Reset => spoil(line, Line::reset),
            Fault::NotHttp => spoil(line, Line::babble),
            Fault::CutShort => cut_short(perform()).await,
            Fault::EndlessPages => first_page(tenant, target, &Alphanumeric.sample_string(&mut rand::rng(), 16)),
            Fault::RepeatedCursor => first_page(tenant, target, "again"),
            Fault::EmptyPageWithNext => management(StatusCode::OK, r#"{"sessions":[],"next":"more"}"#),
        }
    }
}

/// Spoils the connection; the answer is what makes it write, and is never seen.
fn spoil(line: Option<Line>, how: impl FnOnce(&Line)) -> Response {
    match line {
        Some(line) => {
            how(&line);
            StatusCode::OK.into_response()
        }
        None => management_error(StatusCode::INTERNAL_SERVER_ERROR, "this connection has no line to spoil", None),
    }
}

fn first_page(tenant: &Tenant, target: &Target, next: &str) -> Response {
    let mut page = management::page(tenant, &target.subject, None).ok().flatten().unwrap_or_default();
    page.next = Some(next.to_owned());
    management(StatusCode::OK, page.to_json())
}

async fn cut_short(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let whole = body.collect().await.expect("the tenant's own answers are in memory").to_bytes();
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let half = whole.slice(..whole.len() / 2);
    let halves = stream::unfold(Some(half), |half| async move {
        match half {
            Some(half) => Some((Ok(half), None)),
            None => {
                // Gives the server the time to send the first half before it learns that there is no other.
                tokio::task::yield_now().await;
                Some((Err(io::Error::from(io::ErrorKind::UnexpectedEof)), None))
            }
        }
    });
    Response::from_parts(parts, Body::from_stream(halves))
}
