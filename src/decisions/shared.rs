//! The records that replicas share in Redis: two lists, the latest record first, each with a bound and a time to live.
//!
//! Records are written off the path of the check. A failure here does not degrade Redis for the ledger.

use std::time::Duration;

use prometheus::IntCounter;
use redis::Script;
use tokio::sync::{Mutex, mpsc};

use super::{DecisionRecord, RETENTION};
use crate::redis::{Redis, script};

/// The most records that wait to be written: those of some seconds of an outage.
const MAX_QUEUE: usize = 1_000;
/// How many records are written at once.
const BATCH: usize = 100;
/// The most records of each list: about 7 MB.
const MAX_RECORDS: usize = 10_000;
/// How many records are read at once.
const PAGE: usize = 500;
/// The time limit of an operation. No check waits for it.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(1);

/// Adds records, and keeps the list within its bound. A key of another type is replaced.
const WRITE_SCRIPT: &str = r"
for i = 3, #ARGV do
  if typed('LPUSH', KEYS[1], ARGV[i]) == nil then
    redis.call('DEL', KEYS[1])
    redis.call('LPUSH', KEYS[1], ARGV[i])
  end
end
redis.call('LTRIM', KEYS[1], 0, ARGV[1] - 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
";
/// Reads a page of records. A key of another type has none.
const READ_SCRIPT: &str = r"return typed('LRANGE', KEYS[1], ARGV[1], ARGV[2]) or {}";

/// The lists: logins that were blocked, or would have been; and all others.
const LISTS: [&str; 2] = ["/decisions/blocked", "/decisions/others"];

pub(super) struct SharedRecords {
    redis: Redis,
    write: Script,
    read: Script,
    sender: mpsc::Sender<(String, usize)>,
    /// Only the task that writes takes it.
    receiver: Mutex<mpsc::Receiver<(String, usize)>>,
    unshared: IntCounter,
}

impl SharedRecords {
    pub fn new(redis: Redis, unshared: IntCounter) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUE);
        let (write, read) = (script(WRITE_SCRIPT), script(READ_SCRIPT));
        Self { redis, write, read, sender, receiver: Mutex::new(receiver), unshared }
    }

    /// Queues a record; one that finds no place is counted.
    pub fn enqueue(&self, text: String, is_blocked: bool) {
        if self.sender.try_send((text, usize::from(!is_blocked))).is_err() {
            self.unshared.inc();
        }
    }

    /// Writes records while the process runs.
    pub async fn write(&self) {
        let mut receiver = self.receiver.lock().await;
        let mut batch = Vec::with_capacity(BATCH);
        while receiver.recv_many(&mut batch, BATCH).await > 0 {
            for (list, name) in LISTS.iter().enumerate() {
                let texts: Vec<&str> =
                    batch.iter().filter(|(_, of)| *of == list).map(|(text, _)| text.as_str()).collect();
                if texts.is_empty() {
                    continue;
                }
                let mut invocation = self.write.key(self.key(name));
                invocation.arg(MAX_RECORDS).arg(RETENTION.as_millis() as u64).arg(&texts[..]);
                let written: Option<u8> = self.redis.run_apart(&invocation, OPERATION_TIMEOUT).await;
                if written.is_none() {
                    self.unshared.inc_by(texts.len() as u64);
                }
            }
            batch.clear();
        }
    }

    /// The first `limit` records of each list that `take` takes. `None` when Redis does not answer.
    pub async fn find(
        &self,
        take: impl Fn(&str) -> Option<DecisionRecord>,
        limit: usize,
    ) -> Option<Vec<DecisionRecord>> {
        let mut found = Vec::new();
        for name in LISTS {
            let before = found.len();
            for start in (0..MAX_RECORDS).step_by(PAGE) {
                let mut invocation = self.read.key(self.key(name));
                invocation.arg(start).arg(start + PAGE - 1);
                let page: Vec<String> = self.redis.run_apart(&invocation, OPERATION_TIMEOUT).await?;
                found.extend(page.iter().filter_map(|text| take(text)));
                if page.len() < PAGE || found.len() - before >= limit {
                    break;
                }
            }
        }
        Some(found)
    }

    fn key(&self, name: &str) -> String {
        self.redis.key("decisions:", name)
    }
}
