//! The latest records of this process, within a bound of bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// The most bytes of records of logins that were blocked, or would have been: about 6,000 of them.
const MAX_BLOCKED_BYTES: usize = 4 << 20;
/// The most bytes of the other records.
const MAX_OTHER_BYTES: usize = 2 << 20;
/// What a record takes beside its text.
const RECORD_OVERHEAD: usize = 64;

/// Records as JSON, the oldest first.
#[derive(Default)]
pub(super) struct RecordMemory {
    blocked: Mutex<Ring>,
    others: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    records: VecDeque<(Timestamp, Box<str>)>,
    bytes: usize,
}

impl RecordMemory {
    /// Adds a record. The oldest ones of its kind make room.
    pub fn push(&self, at: Timestamp, text: String, is_blocked: bool) {
        let (ring, bound) =
            if is_blocked { (&self.blocked, MAX_BLOCKED_BYTES) } else { (&self.others, MAX_OTHER_BYTES) };
        lock(ring).push(at, text.into_boxed_str(), bound);
    }

    /// All records.
    pub fn texts(&self) -> Vec<Box<str>> {
        let mut texts = lock(&self.blocked).texts();
        texts.extend(lock(&self.others).texts());
        texts
    }

    /// The bytes that they take.
    pub fn bytes(&self) -> usize {
        lock(&self.blocked).bytes + lock(&self.others).bytes
    }

    /// Forgets those from before a time.
    pub fn sweep(&self, oldest: Timestamp) {
        for ring in [&self.blocked, &self.others] {
            let mut ring = lock(ring);
            while ring.records.front().is_some_and(|(at, _)| *at < oldest) {
                ring.pop();
            }
        }
    }
}

impl Ring {
    fn push(&mut self, at: Timestamp, text: Box<str>, bound: usize) {
        self.bytes += text.len() + RECORD_OVERHEAD;
        self.records.push_back((at, text));
        while self.bytes > bound {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((_, text)) = self.records.pop_front() {
            self.bytes -= text.len() + RECORD_OVERHEAD;
        }
    }

    fn texts(&self) -> Vec<Box<str>> {
        self.records.iter().map(|(_, text)| text.clone()).collect()
    }
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn oldest_records_make_room_within_the_bound() {
        let memory = RecordMemory::default();
        for number in 0..10_000 {
            memory.push(at(number), format!("{number:01000}"), true);
        }
        assert!(memory.bytes() <= MAX_BLOCKED_BYTES);
        let texts = memory.texts();
        assert_eq!(texts.last().unwrap().parse(), Ok(9_999));
        assert_eq!(texts.len(), MAX_BLOCKED_BYTES / (1_000 + RECORD_OVERHEAD));
    }

    #[test]
    fn flood_of_failures_leaves_the_blocked_logins() {
        let memory = RecordMemory::default();
        memory.push(at(0), "blocked".to_owned(), true);
        for number in 0..10_000 {
            memory.push(at(number), "x".repeat(1_000), false);
        }
        assert_eq!(&*memory.texts()[0], "blocked");
        memory.sweep(at(9_999));
        assert_eq!(memory.texts().len(), 1);
        memory.sweep(at(10_000));
        assert_eq!(memory.bytes(), 0);
    }
}
