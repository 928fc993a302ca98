//! What a connection, its requests and the task that drives it share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::InspectReader;

use crate::auth0::observer::ConnectionEnd;

/// A byte stream to a tenant.
pub(in crate::auth0) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What is known of a connection, and counted on it.
pub(super) struct ConnectionState {
    /// The requests that use it.
    pub open: AtomicUsize,
    /// How many requests it takes at once.
    pub limit: AtomicUsize,
    /// How many requests it took.
    pub requests: AtomicU64,
    /// How often something arrived.
    pub reads: AtomicU64,
    /// Whether a request was answered on it.
    pub has_answered: AtomicBool,
    pub ended: OnceLock<ConnectionEnd>,
    /// Is called when it ends, and when the peer permits more or fewer requests.
    pub on_change: Box<dyn Fn() + Send + Sync>,
}

impl ConnectionState {
    pub fn new(limit: usize, on_change: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            open: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            requests: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            has_answered: AtomicBool::new(false),
            ended: OnceLock::new(),
            on_change,
        }
    }

    /// Lets no further request use the connection. The first reason stays.
    pub fn end(&self, why: ConnectionEnd) {
        if self.ended.set(why).is_ok() {
            (self.on_change)();
        }
    }
}

/// A byte stream that counts in the state what arrives.
pub(super) type WatchedIo = InspectReader<Box<dyn Io>, Box<dyn FnMut(&[u8]) + Send>>;

/// Counts what arrives.
pub(super) fn watch(io: Box<dyn Io>, state: Arc<ConnectionState>) -> WatchedIo {
    let count = move |bytes: &[u8]| {
        if !bytes.is_empty() {
            state.reads.fetch_add(1, Ordering::Relaxed);
        }
    };
    InspectReader::new(io, Box::new(count))
}
