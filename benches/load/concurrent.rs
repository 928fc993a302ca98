//! Many concurrent checks: what each of them, and its connection, takes in memory while the tenant does not answer.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Result,
    caller::{Caller, Question},
    service::{REASONS, Service},
    tenant::Tenant,
};

/// The argument that makes this program measure the memory of concurrent checks and nothing else.
pub const ARGUMENT: &str = "concurrent";

/// The gauge of requests that are not answered yet.
const IN_PROGRESS: &str = "session_checker_http_requests_in_flight";
/// How long the checks may take to arrive: half of the default `timeout` of a policy.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(2);

/// The memory of the service.
pub struct ConcurrentMemory {
    /// How many checks waited at the same time.
    pub checks: u32,
    /// Anonymous memory in bytes before their connections opened.
    pub before: u64,
    /// Bytes of a connection that answered a request and waits for the next.
    pub connection: f64,
    /// Bytes of a check, in addition to those of its connection.
    pub check: f64,
    /// Resident memory in bytes while all checks waited.
    pub resident: u64,
    /// Anonymous memory in bytes after the answers, without the connections.
    pub after: u64,
}

/// Lets this many checks wait for the tenant.
pub fn measure(directory: &Path, tenant: &mut Tenant, checks: u32) -> Result<ConcurrentMemory> {
    let (connections, bound) = (format!("{}", checks + 16), checks.to_string());
    let options = ["--max-connections", &connections, "--max-connections-per-source", &connections];
    let options = [&options[..], &["--max-in-flight", &bound]].concat();
    let service = Service::start_at(directory, tenant, &tenant.url, &[], &options)?;
    service.answers_rightly()?;
    let memory = || service.process.anonymous_memory();

    let before = memory()?;
    let mut callers = (0..checks).map(|_| Caller::new(service.address)).collect::<Result<Vec<_>>>()?;
    callers.iter_mut().try_for_each(|caller| caller.ask(Question::Probe, 0).map(drop))?;
    let connected = memory()?;

    tenant.hold()?;
    for (user, caller) in (100..).zip(&mut callers) {
        caller.send(Question::Check, user)?;
    }
    let deadline = Instant::now() + ARRIVAL_TIMEOUT;
    while service.metric(IN_PROGRESS)? < checks.into() {
        if Instant::now() > deadline {
            return Err(format!("{} of {checks} checks wait after two seconds", service.metric(IN_PROGRESS)?).into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    let (waiting, resident) = (memory()?, service.process.memory()?);
    tenant.release()?;
    for caller in &mut callers {
        let answer = String::from_utf8_lossy(caller.answer()?);
        if !REASONS.iter().any(|reason| answer.contains(reason)) {
            return Err(format!("not a decision by a limit: {answer}").into());
        }
    }
    drop(callers);
    // The sweep gives back what is not needed any more.
    thread::sleep(Duration::from_secs(15));
    let each = |from: u64, to: u64| (to as f64 - from as f64) / f64::from(checks);
    let (connection, check) = (each(before, connected), each(connected, waiting));
    Ok(ConcurrentMemory { checks, before, connection, check, resident, after: memory()? })
}
