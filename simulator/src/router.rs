//! The way of a request through the tenant: it is recorded, meets a fault, or is carried out within the rate limit.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, DATE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http_body_util::BodyExt;
use jiff::fmt::rfc2822::DateTimePrinter;
use rand::distr::{Alphanumeric, SampleString};

use super::answer::{management_answer, management_error, token_error};
use super::connection::ConnectionFault;
use super::faults::{Fault, InjectedFault};
use super::operation::{Operation, Target};
use super::tenant::Tenant;
use super::{login_host, management, token_endpoint};

/// The longest body that is read, in bytes (Auth0 accepts 1 MB).
const MAX_BODY: usize = 1_000_000;

/// The error code of a 429 in both APIs.
const RATE_LIMITED: &str = "too_many_requests";

/// Answers a request, with the time of the tenant's clock.
pub(super) async fn answer(State(tenant): State<Arc<Tenant>>, request: Request) -> Response {
    let mut response = answer_request(&tenant, request).await;
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&tenant.now()).ok();
    if let Some(date) = date.and_then(|date| HeaderValue::try_from(date).ok()) {
        response.headers_mut().entry(DATE).or_insert(date);
    }
    response
}

async fn answer_request(tenant: &Arc<Tenant>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let connection = parts.extensions.remove::<ConnectionFault>();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return management_error(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large", None);
    };
    if let Some(response) = login_host::answer(tenant, &parts).await {
        return response;
    }
    let target = Target::of(&parts.method, parts.uri.path());
    tenant.requests.record(target.as_ref().ok().map(|target| target.operation), &parts, &body);
    let target = match target {
        Ok(target) => target,
        Err(error) => return error.into_response(),
    };
    let perform = || perform(tenant, &target, &parts, &body);
    match tenant.faults.apply(&target) {
        Some(fault) => answer_with(&fault, tenant, &target, connection, perform).await,
        None => perform(),
    }
}

/// Carries a request out, within the rate limit.
fn perform(tenant: &Tenant, target: &Target, parts: &Parts, body: &[u8]) -> Response {
    let is_token = target.operation == Operation::Token;
    let bucket = if is_token { &tenant.token_bucket } else { &tenant.management_bucket };
    let Some(level) = bucket.as_ref().map(|bucket| bucket.take(tenant.now())) else {
        return carry_out(tenant, target, parts, body);
    };
    let mut response = match level.allowed {
        true => carry_out(tenant, target, parts, body),
        false if is_token => token_error(StatusCode::TOO_MANY_REQUESTS, RATE_LIMITED, "Too many requests."),
        false => management_error(StatusCode::TOO_MANY_REQUESTS, "Global limit has been reached", Some(RATE_LIMITED)),
    };
    level.write_headers(response.headers_mut());
    response
}

fn carry_out(tenant: &Tenant, target: &Target, parts: &Parts, body: &[u8]) -> Response {
    if let Some(scopes) = target.operation.scopes()
        && let Err(error) = tenant.tokens.authorize(parts, scopes, tenant.now())
    {
        return error.into_response();
    }
    let id = target.subject.as_str();
    match target.operation {
        Operation::Token => token_endpoint::answer(tenant, parts, body),
        Operation::List => management::list(tenant, id, parts.uri.query()),
        Operation::DeleteAll => management::delete_all(tenant, id),
        Operation::Read => management::read(tenant, id),
        Operation::Update => management::update(tenant, id, body),
        Operation::Delete => management::delete(tenant, id),
        Operation::Revoke => management::revoke(tenant, id),
    }
}

/// Answers a request that meets a fault. `perform` carries the request out.
async fn answer_with(
    injected: &InjectedFault,
    tenant: &Tenant,
    target: &Target,
    connection: Option<ConnectionFault>,
    perform: impl FnOnce() -> Response,
) -> Response {
    match injected.fault() {
        Fault::Answer(status, headers, body) => (*status, headers.clone(), body.clone()).into_response(),
        Fault::Delay(delay) => {
            tokio::time::sleep(*delay).await;
            perform()
        }
        Fault::Hang => {
            injected.cleared().await;
            perform()
        }
        Fault::Reset => break_connection(connection, ConnectionFault::reset),
        Fault::NotHttp => break_connection(connection, ConnectionFault::send_garbage),
        Fault::CutShort => cut_short(perform()).await,
        Fault::EndlessPages => first_page(tenant, target, &Alphanumeric.sample_string(&mut rand::rng(), 16)),
        Fault::RepeatedCursor => first_page(tenant, target, "again"),
        Fault::EmptyPageWithNext => management_answer(StatusCode::OK, r#"{"sessions":[],"next":"more"}"#),
    }
}

/// Breaks the connection. The client never sees the answer: writing it is what triggers the fault.
fn break_connection(connection: Option<ConnectionFault>, fault: impl FnOnce(&ConnectionFault)) -> Response {
    match connection {
        Some(connection) => {
            fault(&connection);
            StatusCode::OK.into_response()
        }
        None => management_error(StatusCode::INTERNAL_SERVER_ERROR, "this connection cannot be broken", None),
    }
}

fn first_page(tenant: &Tenant, target: &Target, next: &str) -> Response {
    let mut page = management::page(tenant, &target.subject, None).ok().flatten().unwrap_or_default();
    page.next = Some(next.to_owned());
    management_answer(StatusCode::OK, page.to_json())
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
                // Lets the server send the first half before it gets the error.
                tokio::task::yield_now().await;
                Some((Err(io::Error::from(io::ErrorKind::UnexpectedEof)), None))
            }
        }
    });
    Response::from_parts(parts, Body::from_stream(halves))
}
