//! The connection below HTTP and TLS: where a fault can reset it, or send something that is not HTTP.

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

/// What is sent in place of an answer: the greeting of another protocol.
const NOT_HTTP: &[u8] = b"220 mail.example.com ESMTP ready\r\n";

/// The connection of a request, by which its handler can spoil it.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Arc<AtomicU8>);

const INTACT: u8 = 0;
const RESET: u8 = 1;
const NOT_HTTP_NEXT: u8 = 2;

impl Line {
    /// From now on the connection answers nothing and ends with a reset.
    pub fn reset(&self) {
        self.0.store(RESET, Ordering::Release);
    }

    /// From now on the connection answers with something that is not HTTP (and, under TLS, not TLS), and ends.
    pub fn babble(&self) {
        self.0.store(NOT_HTTP_NEXT, Ordering::Release);
    }
}

/// A TCP stream that obeys its [`Line`].
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    line: Line,
    babbled: usize,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.line.0.load(Ordering::Acquire) {
            INTACT => Pin::new(&mut self.stream).poll_write(cx, buf),
            RESET => {
                // Closing a socket that does not linger sends RST instead of FIN.
                self.stream.set_zero_linger()?;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            _ => {
                while self.babbled < NOT_HTTP.len() {
                    let rest = &NOT_HTTP[self.babbled..];
                    self.babbled += ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
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

/// Puts a [`Wire`] below `A` (plain or TLS), and its [`Line`] into every request of the connection.
#[derive(Clone, Debug)]
pub(super) struct WireAcceptor<A>(pub A);

impl<A, S> Accept<TcpStream, S> for WireAcceptor<A>
where
    A: Accept<Wire, S>,
    A::Future: Send + 'static,
{
    type Stream = A::Stream;
    type Service = AddExtension<A::Service, Line>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let undelayed = stream.set_nodelay(true);
        let line = Line::default();
        let accepted = self.0.accept(Wire { stream, line: line.clone(), babbled: 0 }, service);
        async move {
            undelayed?;
            let (stream, service) = accepted.await?;
            Ok((stream, Extension(line).layer(service)))
        }
        .boxed()
    }
}
