//! Rejects header lines that end in a bare line feed.
//!
//! hyper accepts them, and some proxies do not: what one takes for two headers is one for the other, so that a request can be
//! hidden in another. The bytes of a header are seen only here, before hyper. A bare line feed is replaced by a zero byte,
//! which hyper rejects with 400.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose headers have strict line ends.
pub(super) struct StrictLines<S> {
    stream: S,
    progress: Arc<HeaderProgress>,
    /// The last byte was a carriage return.
    after_return: bool,
    /// The line so far is empty.
    is_blank: bool,
    /// The header has a line. Empty lines before it are allowed.
    has_line: bool,
}

/// Where the reader of a connection is.
#[derive(Debug)]
pub(super) struct HeaderProgress {
    /// The next bytes belong to a header. HTTP/2 has one, of its preface.
    in_header: AtomicBool,
    /// How many bytes came after the header.
    after_header: AtomicU64,
}

impl HeaderProgress {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { in_header: AtomicBool::new(true), after_header: AtomicU64::new(0) })
    }

    /// The request is answered, and the next bytes belong to a header. Returns whether some of them may have come already, and so
    /// were not checked: more than a body of this length, or any after a header without one. Where a chunked body ends is not seen
    /// here.
    pub(super) fn answered(&self, body_length: Option<u64>) -> bool {
        let after = self.after_header.swap(0, Ordering::Relaxed);
        self.in_header.store(true, Ordering::Relaxed);
        body_length.is_none_or(|length| after > length)
    }
}

impl<S> StrictLines<S> {
    pub(super) fn new(stream: S, progress: Arc<HeaderProgress>) -> Self {
        Self { stream, progress, after_return: false, is_blank: true, has_line: false }
    }

    fn check(&mut self, data: &mut [u8]) {
        let mut rest = data.len() as u64;
        if self.progress.in_header.load(Ordering::Relaxed) {
            let mut bytes = data.iter_mut();
            loop {
                // Most bytes are within a line.
                let within = bytes.as_slice().iter().take_while(|byte| !matches!(byte, b'\r' | b'\n')).count();
                if within > 0 {
                    (self.after_return, self.is_blank) = (false, false);
                    rest -= within as u64;
                }
                let Some(byte) = bytes.nth(within) else { break };
                rest -= 1;
                let after_return = std::mem::replace(&mut self.after_return, *byte == b'\r');
                match *byte {
                    b'\n' if !after_return => *byte = 0,
                    b'\n' if self.is_blank && self.has_line => {
                        (self.is_blank, self.has_line) = (true, false);
                        self.progress.in_header.store(false, Ordering::Relaxed);
                        break;
                    }
                    b'\n' => (self.has_line, self.is_blank) = (self.has_line || !self.is_blank, true),
                    _ => {}
                }
            }
        }
        if !self.progress.in_header.load(Ordering::Relaxed) {
            self.progress.after_header.fetch_add(rest, Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictLines<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.check(&mut buffer.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StrictLines<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What hyper reads when these bytes arrive in parts of this size.
    fn read(bytes: &[u8], part: usize) -> (Vec<u8>, Arc<HeaderProgress>) {
        let progress = HeaderProgress::new();
        let mut stream = StrictLines::new((), Arc::clone(&progress));
        let mut data = bytes.to_vec();
        data.chunks_mut(part.max(1)).for_each(|part| stream.check(part));
        (data, progress)
    }

    #[test]
    fn bare_line_feed_in_a_header_is_replaced_and_in_a_body_is_not() {
        for part in [1, 2, 3, 5, 100] {
            let (data, progress) = read(b"\r\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n{\n}\n", part);
            assert_eq!(data, b"\r\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n{\n}\n");
            assert!(!progress.answered(Some(4)));
            for bare in [&b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..], b"GET / HTTP/1.1\r\nHost: a\n\r\n", b"\nGET /"] {
                assert!(read(bare, part).0.contains(&0), "{bare:?}");
            }
        }
    }

    #[test]
    fn bytes_after_the_body_were_not_checked() {
        let (_, progress) = read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", 100);
        assert!(progress.answered(Some(0)));
        assert!(!progress.answered(Some(0)), "they count once");
        assert!(progress.answered(None), "the end of a chunked body is not seen");
    }

    proptest! {
        #[test]
        fn no_header_ends_in_a_bare_line_feed(text in "[\r\nab]{0,40}", part in 1usize..10) {
            let (data, progress) = read(text.as_bytes(), part);
            let after = usize::try_from(progress.after_header.load(Ordering::Relaxed)).unwrap();
            let header = &data[..data.len() - after];
            for (index, _) in header.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
                prop_assert!(index > 0 && header[index - 1] == b'\r', "{text:?} {index}");
            }
            prop_assert_eq!(&data[data.len() - after..], &text.as_bytes()[data.len() - after..], "a body stays as it is");
        }
    }
}
