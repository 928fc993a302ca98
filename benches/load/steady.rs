//! A steady load far below saturation: what a server costs when it is mostly idle, as a Pod in a cluster is. A saturated server
//! sleeps seldom, which hides how often its threads have to be woken for a request.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Result,
    caller::{Caller, Question, sleep_until},
    process::Process,
    tenant::USERS,
};

/// How many requests a second are sent: as many logins as a large tenant has at its busiest time.
pub const REQUESTS_PER_SECOND: u32 = 300;
/// How many connections share them.
const CONNECTIONS: u32 = 8;

/// The figures of one server.
pub struct Steady {
    /// How many requests were answered.
    pub requests: usize,
    /// Context switches for a request, of all threads.
    pub switches: f64,
    /// CPU time for a request.
    pub cpu: Duration,
    /// Median latency.
    pub p50: Duration,
    /// 99th percentile of the latency.
    pub p99: Duration,
    /// Resident memory in bytes at the end.
    pub memory: u64,
}

/// Sends requests for this many seconds.
pub fn measure(question: Question, address: SocketAddr, server: &Process, seconds: u32) -> Result<Steady> {
    let (switches, cpu) = (server.context_switches()?, server.cpu_time()?);
    let callers = (0..CONNECTIONS).map(|number| {
        thread::spawn(move || call(question, address, number, seconds).map_err(|error| error.to_string()))
    });
    let mut latencies = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        latencies.extend(caller.join().map_err(|_| "a caller panicked")??);
    }
    let requests = latencies.len();
    latencies.sort_unstable();
    Ok(Steady {
        requests,
        switches: (server.context_switches()? - switches) as f64 / requests as f64,
        cpu: (server.cpu_time()? - cpu).div_f64(requests as f64),
        p50: latencies[requests / 2],
        p99: latencies[requests * 99 / 100],
        memory: server.memory()?,
    })
}

fn call(question: Question, address: SocketAddr, number: u32, seconds: u32) -> Result<Vec<Duration>> {
    let mut caller = Caller::new(address)?;
    let interval = Duration::from_secs(1) * CONNECTIONS / REQUESTS_PER_SECOND;
    let begun = Instant::now() + interval * number / CONNECTIONS;
    let mut latencies = Vec::new();
    for request in 0..seconds * REQUESTS_PER_SECOND / CONNECTIONS {
        sleep_until(begun + interval * request);
        latencies.push(caller.ask(question, (request * CONNECTIONS + number) % USERS)?.1);
    }
    Ok(latencies)
}
