//! The received requests: a count for each operation, and the latest requests themselves.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use tokio::sync::Notify;

use super::operation::Operation;

/// A request as it arrived. Its `Debug` shows neither headers nor body, because they contain secrets and tokens.
#[derive(Clone)]
pub struct RecordedRequest {
    /// Its operation. `None` when there is no such path or method.
    pub operation: Option<Operation>,
    /// The method.
    pub method: Method,
    /// Path and query as they were sent, not decoded.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl RecordedRequest {
    /// The value of a header, when it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The fields of the form in the body.
    pub fn form(&self) -> HashMap<String, String> {
        form(&String::from_utf8_lossy(&self.body))
    }
}

impl fmt::Debug for RecordedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordedRequest")
            .field("operation", &self.operation)
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Parses `application/x-www-form-urlencoded`, which a query is too.
pub(super) fn form(text: &str) -> HashMap<String, String> {
    let decode = |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// The counts and the latest requests.
#[derive(Debug)]
pub(super) struct Requests {
    counts: [AtomicU64; Operation::ALL.len()],
    kept: usize,
    latest: Mutex<VecDeque<RecordedRequest>>,
    arrived: Notify,
}

impl Requests {
    /// Keeps the latest `kept` requests.
    pub fn new(kept: usize) -> Self {
        Self { counts: Default::default(), kept, latest: Mutex::default(), arrived: Notify::new() }
    }

    pub fn record(&self, operation: Option<Operation>, parts: &Parts, body: &Bytes) {
        if self.kept > 0 {
            let request = RecordedRequest {
                operation,
                method: parts.method.clone(),
                path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
                headers: parts.headers.clone(),
                body: body.clone(),
            };
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            if latest.len() == self.kept {
                latest.pop_front();
            }
            latest.push_back(request);
        }
        if let Some(operation) = operation {
            self.counts[operation as usize].fetch_add(1, Ordering::SeqCst);
            self.arrived.notify_waiters();
        }
    }

    pub fn count(&self, operation: Operation) -> u64 {
        self.counts[operation as usize].load(Ordering::SeqCst)
    }

    pub async fn reached(&self, operation: Operation, count: u64) {
        loop {
            let arrival = self.arrived.notified();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            if self.count(operation) >= count {
                return;
            }
            arrival.await;
        }
    }

    pub fn latest(&self) -> Vec<RecordedRequest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
