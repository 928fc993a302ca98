//! Log streams: what the tenant's logs report of logins, sent to a webhook as Auth0 sends it.
//!
//! Auth0 delivers an event at least once, in no certain order, some time after it happened, and gives up after three retries.
//! Each of these is a setting here. An event has the fields of Auth0's published schemas that are about the login; `user_id` is
//! there because a real event has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rand::RngExt;
use rand::distr::{Alphanumeric, SampleString};
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::sleep;

use super::login::Login;

/// How often a batch is sent again, as Auth0 documents it.
const RETRIES: usize = 3;
/// The largest batch.
const BATCH: usize = 100;

/// A log stream to a webhook.
#[derive(Clone, Debug)]
pub struct LogStream {
    /// The webhook.
    pub url: String,
    /// The header `Authorization`, as the stream's *Authorization Token*.
    pub authorization: String,
    /// How events are written.
    pub format: LogFormat,
    /// How long an event waits before it is sent.
    pub delay: Duration,
    /// The probability that an event is never sent.
    pub loss: f64,
    /// The probability that an event is sent twice.
    pub duplicates: f64,
    /// Whether events are sent in another order than they happened.
    pub disorder: bool,
    /// How long to wait before a batch is sent again.
    pub retry_pause: Duration,
}

/// The *Content Format* of a log stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One event on each line.
    JsonLines,
    /// An array of events.
    JsonArray,
    /// One event a request.
    JsonObject,
}

/// What became of the events of a stream.
#[derive(Clone, Debug, Default)]
pub struct StreamedLogs(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    lost: AtomicU64,
}

/// The streams of a tenant.
#[derive(Debug, Default)]
pub(super) struct LogStreams(Mutex<Vec<UnboundedSender<Value>>>);

impl LogStream {
    /// JSON lines that are sent at once, once, and in order.
    pub fn new(url: impl Into<String>, authorization: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            authorization: authorization.into(),
            format: LogFormat::JsonLines,
            delay: Duration::ZERO,
            loss: 0.0,
            duplicates: 0.0,
            disorder: false,
            retry_pause: Duration::from_millis(50),
        }
    }
}

impl StreamedLogs {
    /// How many events were taken by the webhook; an event that is sent twice counts once.
    pub fn delivered(&self) -> u64 {
        self.0.delivered.load(Ordering::SeqCst)
    }

    /// How many events were never sent, or never taken.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::SeqCst)
    }
}

impl LogStreams {
    /// Starts a stream. It ends with the tenant.
    pub fn start(&self, stream: LogStream) -> StreamedLogs {
        let (sender, events) = mpsc::unbounded_channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        let streamed = StreamedLogs::default();
        tokio::spawn(send(stream, events, streamed.clone()));
        streamed
    }

    /// Reports an event of a login.
    pub fn report(&self, kind: &str, login: &Login, at: Timestamp) {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.is_empty() {
            return;
        }
        let log_id = format!("900{}", Alphanumeric.sample_string(&mut rand::rng(), 53));
        let data = json!({
            "date": at.to_string(),
            "type": kind,
            "client_id": login.client_id(),
            "client_name": "",
            "connection": "Username-Password-Authentication",
            "user_id": login.user_id(),
            "log_id": log_id,
            "details": { "session_id": login.sid(), "prompts": [], "stats": { "loginsCount": 1 } },
        });
        for stream in streams.iter() {
            // A stream whose task ended loses its events.
            let _ = stream.send(json!({ "log_id": log_id, "data": data }));
        }
    }
}

/// Sends the events of a stream until the tenant ends.
async fn send(stream: LogStream, mut events: UnboundedReceiver<Value>, streamed: StreamedLogs) {
    // The webhook of a test has no proxy.
    let Ok(http) = reqwest::Client::builder().no_proxy().build() else { return };
    let counts = &streamed.0;
    while let Some(first) = events.recv().await {
        sleep(stream.delay).await;
        let mut batch = vec![first];
        let size = if stream.format == LogFormat::JsonObject { 1 } else { BATCH };
        while batch.len() < size
            && let Ok(event) = events.try_recv()
        {
            batch.push(event);
        }
        let sent = batch.len();
        batch.retain(|_| !rand::rng().random_bool(stream.loss));
        counts.lost.fetch_add((sent - batch.len()) as u64, Ordering::SeqCst);
        let events = batch.len() as u64;
        let again: Vec<Value> = batch.iter().filter(|_| rand::rng().random_bool(stream.duplicates)).cloned().collect();
        if stream.disorder {
            batch.shuffle(&mut rand::rng());
        }
        let is_delivered = deliver(&http, &stream, &batch).await;
        let count = if is_delivered { &counts.delivered } else { &counts.lost };
        count.fetch_add(events, Ordering::SeqCst);
        deliver(&http, &stream, &again).await;
    }
}

/// Sends a batch until it is taken, or the retries are used up.
async fn deliver(http: &reqwest::Client, stream: &LogStream, batch: &[Value]) -> bool {
    if batch.is_empty() {
        return true;
    }
    let body = match stream.format {
        LogFormat::JsonArray => Value::from(batch.to_vec()).to_string(),
        LogFormat::JsonLines | LogFormat::JsonObject => batch.iter().map(|event| format!("{event}\n")).collect(),
    };
    for _ in 0..=RETRIES {
        let request = http.post(&stream.url).header("authorization", &stream.authorization);
        let answer = request.header("content-type", "application/json").body(body.clone()).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return true;
        }
        sleep(stream.retry_pause).await;
    }
    false
}
