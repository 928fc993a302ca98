//! What a connection, its requests and the task that drives it share.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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

/// Counts what arrives.
pub(super) struct WatchedIo {
    io: Box<dyn Io>,
    state: Arc<ConnectionState>,
}

impl WatchedIo {
    pub fn new(io: Box<dyn Io>, state: Arc<ConnectionState>) -> Self {
        Self { io, state }
    }
}

impl AsyncRead for WatchedIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.state.reads.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for WatchedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
