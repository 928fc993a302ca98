//! Writes log lines without waiting for standard error: what nobody reads must not stop the service.
//!
//! A line is written at once, by the task that logs it, where standard error takes it at once: that costs two system calls. Where
//! it does not, the line waits for a thread, which may block. A wake-up of that thread for each line would cost more than the line.

use std::io::{self, IsTerminal, Stderr, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

/// How many log lines wait for standard error. A line takes less than 1 KiB, so they take less than 4 MiB.
pub(super) const MAX_WAITING_LINES: usize = 4096;

/// The longest line that is written at once: what a pipe that is ready takes without blocking (`PIPE_BUF` of Linux).
const MAX_DIRECT_BYTES: usize = 4096;

/// Where lines go.
pub(super) trait Sink: Write + Send + 'static {
    /// Whether a line of at most [`MAX_DIRECT_BYTES`] is taken at once.
    fn is_ready(&self) -> bool;
}

/// Standard error.
pub(super) struct StandardError {
    stderr: Stderr,
    /// Whether `poll` knows when it takes a line. A file is always ready, also when its disk is not.
    can_poll: bool,
}

/// Writes lines at once, or through a thread. A line is dropped, and counted, when too many wait for the thread.
pub(super) struct LineWriter<S> {
    sink: Arc<Mutex<S>>,
    queue: NonBlocking,
}

/// The thread's way to the sink.
struct Locked<S>(Arc<Mutex<S>>);

impl StandardError {
    pub(super) fn new() -> Self {
        let stderr = io::stderr();
        let kind = fstat(&stderr).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let can_poll = stderr.is_terminal() || matches!(kind, Ok(FileType::Fifo | FileType::Socket));
        Self { stderr, can_poll }
    }
}

impl Sink for StandardError {
    fn is_ready(&self) -> bool {
        self.can_poll && is_writable(&self.stderr)
    }
}

/// Whether a pipe, a socket or a terminal takes bytes now.
fn is_writable(descriptor: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(descriptor, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::OUT)
}

impl Write for StandardError {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.stderr.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stderr.flush()
    }
}

impl<S: Sink> LineWriter<S> {
    /// Starts the thread. Dropping the guard writes the lines that wait.
    pub(super) fn new(sink: S) -> (Self, WorkerGuard) {
        let sink = Arc::new(Mutex::new(sink));
        let thread =
            NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MAX_WAITING_LINES).thread_name("log");
        let (queue, guard) = thread.finish(Locked(Arc::clone(&sink)));
        (Self { sink, queue }, guard)
    }

    /// Counts the lines that were dropped.
    pub(super) fn dropped(&self) -> ErrorCounter {
        self.queue.error_counter()
    }

    /// Writes a line if the sink takes it at once. The lock is held by the thread while it waits for the sink, and by another task
    /// while it writes a line, so that nothing comes between the answer of the sink and the line.
    fn write_at_once(&self, line: &[u8]) -> bool {
        let Ok(mut sink) = self.sink.try_lock() else { return false };
        let is_taken = line.len() <= MAX_DIRECT_BYTES && sink.is_ready();
        if is_taken {
            // A line that cannot be written has nowhere else to go.
            let _ = sink.write_all(line);
        }
        is_taken
    }
}

impl<S: Sink> Write for &LineWriter<S> {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.write_at_once(line) { Ok(line.len()) } else { self.queue.clone().write(line) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, S: Sink> MakeWriter<'a> for LineWriter<S> {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl<S: Sink> Write for Locked<S> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // All of it under the lock: no other line may come into the middle.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Standard error that nobody reads, until the sender is dropped.
    struct Stuck(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl Write for Stuck {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(data.to_vec());
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Stuck {
        fn is_ready(&self) -> bool {
            false
        }
    }

    #[test]
    fn lines_that_nobody_reads_are_dropped_and_counted() {
        let (release, stuck) = mpsc::channel();
        let (written, read) = mpsc::channel();
        let (writer, guard) = LineWriter::new(Stuck(stuck, written));
        for _ in 0..2 * MAX_WAITING_LINES {
            (&writer).write_all(b"line\n").unwrap();
        }
        let dropped = writer.dropped().dropped_lines();
        // The thread holds one more that it has taken, or not yet.
        assert!((MAX_WAITING_LINES - 1..=MAX_WAITING_LINES).contains(&dropped), "{dropped}");
        drop(release);
        assert_eq!(read.iter().take(2 * MAX_WAITING_LINES - dropped).count(), 2 * MAX_WAITING_LINES - dropped);
        drop(guard);
    }

    /// A real pipe, of which the writer's end is the sink.
    struct Pipe(io::PipeWriter);

    impl Write for Pipe {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.write(data)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Pipe {
        fn is_ready(&self) -> bool {
            is_writable(&self.0)
        }
    }

    #[test]
    fn full_pipe_never_stops_the_writer_and_loses_nothing_that_waits() {
        use std::io::Read;
        let (mut reader, pipe) = io::pipe().unwrap();
        let (writer, guard) = LineWriter::new(Pipe(pipe));
        // A pipe takes 64 KiB, and these are 1 MiB: this would never end if a line waited for the reader.
        let line = format!("{:0>1023}\n", 7);
        for _ in 0..1024 {
            (&writer).write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(writer.dropped().dropped_lines(), 0);
        let mut read = vec![0; 1024 * line.len()];
        reader.read_exact(&mut read).unwrap();
        assert!(read.chunks(line.len()).all(|read| read == line.as_bytes()), "no line is cut");
        drop(guard);
    }

    #[test]
    fn line_is_written_before_the_call_returns_where_the_reader_keeps_up() {
        use std::io::Read;
        let (mut reader, pipe) = io::pipe().unwrap();
        let (writer, guard) = LineWriter::new(Pipe(pipe));
        assert!(writer.write_at_once(b"line\n"));
        let mut read = [0; 5];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"line\n");
        assert!(!writer.write_at_once(&[b'x'; MAX_DIRECT_BYTES + 1]), "a pipe may take a part of it");
        drop(guard);
    }
}
