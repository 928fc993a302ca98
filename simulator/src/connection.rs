//! The connection below HTTP and TLS, which a fault can reset or use to send something that is not HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower::Layer;

/// What is sent instead of an answer: the greeting of another protocol.
const NOT_HTTP: &[u8] = b"220 mail.example.com ESMTP ready\r\n";

/// Breaks the connection of a request. Each request has it as an extension.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionFault(Arc<AtomicU8>);

const INTACT: u8 = 0;
const RESET: u8 = 1;
const GARBAGE: u8 = 2;

impl ConnectionFault {
    /// Ends the connection with a reset at the next write.
    pub fn reset(&self) {
        self.0.store(RESET, Ordering::Release);
    }

    /// Sends something that is not HTTP (and, under TLS, not TLS) at the next write, and ends the connection.
    pub fn send_garbage(&self) {
        self.0.store(GARBAGE, Ordering::Release);
    }
}

/// A TCP stream that does what its [`ConnectionFault`] says.
#[derive(Debug)]
pub(super) struct FaultyStream {
    stream: TcpStream,
    fault: ConnectionFault,
    garbage_sent: usize,
}

impl AsyncRead for FaultyStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for FaultyStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.fault.0.load(Ordering::Acquire) {
            INTACT => Pin::new(&mut self.stream).poll_write(cx, buf),
            RESET => {
                // Closing a socket with zero linger sends RST instead of FIN.
                self.stream.set_zero_linger()?;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            _ => {
                while self.garbage_sent < NOT_HTTP.len() {
                    let rest = &NOT_HTTP[self.garbage_sent..];
                    self.garbage_sent += ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
                }
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Puts a [`FaultyStream`] below `A` (plain or TLS), and its [`ConnectionFault`] into every request of the connection.
#[derive(Clone, Debug)]
pub(super) struct FaultyAcceptor<A>(pub A);

impl<A, S> Accept<TcpStream, S> for FaultyAcceptor<A>
where
    A: Accept<FaultyStream, S>,
    A::Future: Send + 'static,
{
    type Stream = A::Stream;
    type Service = AddExtension<A::Service, ConnectionFault>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let no_delay = stream.set_nodelay(true);
        let fault = ConnectionFault::default();
        let accepted = self.0.accept(FaultyStream { stream, fault: fault.clone(), garbage_sent: 0 }, service);
        async move {
            no_delay?;
            let (stream, service) = accepted.await?;
            Ok((stream, Extension(fault).layer(service)))
        }
        .boxed()
    }
}
