//! The fault matrix: each fault of a tenant, over each protocol, in each operation, under each failure policy.
//!
//! `table` lists the faults with the reason that the specification demands (contract 3.10 to 3.19). Each is tried in a service
//! without sockets of its own, against tenants with real ones. The result is a page of the documentation.
//!
//! The clock is driven: see [`drive`]. What a check may take is measured by that clock.

mod certificate;
mod http2;
mod page;
mod service;
mod table;
mod tenant;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use session_checker::auth0::Operation;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use service::{Cell, Service};
use table::Fault;
use tenant::{Protocol, Tenant};

use crate::clock::drive;

const APP: &str = "app-1";
const USER: &str = "auth0|5f7c8ec7c33c6c004bbafe82";

/// The time of a check under the policies here: the default.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What a check may take beyond its time.
const MARGIN: Duration = Duration::from_millis(100);

/// Longer than anything that may outlive a check: the fetch of a token takes at most 10 s.
const AFTERMATH: Duration = Duration::from_secs(60);

/// How far the clock goes on at once. For each step the kernel has a millisecond. At the end of a flood it needs several hundred:
/// it asks a client that reads nothing again and again, and learns that it is gone.
const STEP: Duration = Duration::from_millis(50);

/// How many faults are tried at the same time. The bounds on memory hold for all of them together.
const AT_ONCE: usize = 12;

const PAGE: &str = "docs/design/faults.md";

/// The reason of every check under a fault, by protocol and operation.
type Reasons = BTreeMap<(Protocol, &'static str), String>;

/// A check of the matrix: the place of its fault, its tenant, and the policy that answers.
struct Check {
    fault: usize,
    tenant: Arc<Tenant>,
    cell: Cell,
}

/// Tries faults in every cell, all at the same time. Returns the reasons by fault, and what is not as specified, late or left
/// behind.
async fn attempt(faults: &[Fault]) -> (Vec<Reasons>, Vec<String>) {
    let tasks_before = Handle::current().metrics().num_alive_tasks();
    let mut tasks = JoinSet::new();
    let mut checks = Vec::new();
    for (number, fault) in faults.iter().enumerate() {
        for protocol in fault.protocols() {
            for operation in Operation::OF_CHECKS.into_iter().filter(|operation| fault.reason(*operation).is_some()) {
                for blocks in [false, true] {
                    let (tenant, url) = Tenant::start(*protocol, operation, fault.act.clone(), &mut tasks).await;
                    checks.push(Check { fault: number, tenant, cell: Cell { blocks, url } });
                }
            }
        }
    }
    let service = Service::new(checks.iter().map(|check| &check.cell));
    let answered = async |number| {
        let began = Instant::now();
        (service.check(number).await, began.elapsed())
    };
    let answers = join_all((0..checks.len()).map(answered)).await;
    let mut reasons = vec![Reasons::new(); faults.len()];
    let mut wrong = Vec::new();
    for (check, ((status, answer), took)) in checks.iter().zip(answers) {
        let Check { fault: number, tenant, cell } = check;
        let fault = &faults[*number];
        let reason = answer["reason"].as_str().unwrap_or_default();
        let expected = fault.reason(tenant.operation).unwrap();
        let block = cell.blocks && !table::ALLOWED.contains(&expected);
        let is_right = reason == expected || fault.or == Some(reason);
        if status != 200 || !is_right || answer["block"] != block || took > TIMEOUT + MARGIN {
            let case = case(fault, tenant);
            wrong.push(format!(
                "{case}: not {expected} but {status} {reason}, block {} after {took:?}",
                answer["block"]
            ));
        }
        reasons[*number].insert((tenant.protocol, tenant.operation.as_str()), expected.to_owned());
    }
    drop(service);
    let is_open = |check: &&Check| check.tenant.open.load(Ordering::Relaxed) > 0;
    let closed = eventually(|| !checks.iter().any(|check| is_open(&check))).await;
    if !closed {
        let open = checks.iter().filter(is_open);
        wrong.extend(
            open.map(|check| format!("{}: a connection stays open", case(&faults[check.fault], &check.tenant))),
        );
    }
    tasks.shutdown().await;
    let left = || Handle::current().metrics().num_alive_tasks() - tasks_before;
    if !eventually(|| left() == 0).await {
        wrong.push(format!("{} tasks stay after {} to {}", left(), faults[0].name, faults.last().unwrap().name));
    }
    (reasons, wrong)
}

fn case(fault: &Fault, tenant: &Tenant) -> String {
    format!("{} / {}, {}, {}", fault.section, fault.name, tenant.protocol.as_str(), tenant.operation.as_str())
}

/// Waits on the driven clock, and says whether the condition came to hold.
async fn eventually(holds: impl Fn() -> bool) -> bool {
    let waited = async {
        while !holds() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(AFTERMATH, waited).await.is_ok()
}

/// Tries faults under a driven clock, some at a time.
fn attempt_in_turn<'a>(chunks: impl Iterator<Item = &'a [Fault]>) -> Vec<(Vec<Reasons>, Vec<String>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let clock = drive(STEP);
        let mut tried = Vec::new();
        for faults in chunks {
            tried.push(attempt(faults).await);
        }
        clock.abort();
        tried
    })
}

/// Tries faults on two threads, each with its clock.
fn attempt_all(faults: &[Fault]) -> (Vec<Reasons>, Vec<String>) {
    let (even, odd) = (faults.chunks(AT_ONCE).step_by(2), faults.chunks(AT_ONCE).skip(1).step_by(2));
    let (even, odd) = std::thread::scope(|scope| {
        let odd = scope.spawn(|| attempt_in_turn(odd));
        (attempt_in_turn(even), odd.join().unwrap())
    });
    let (mut reasons, mut wrong) = (Vec::new(), Vec::new());
    let mut odd = odd.into_iter();
    for (of_chunk, wrong_of_chunk) in even.into_iter().flat_map(|chunk| [Some(chunk), odd.next()]).flatten() {
        reasons.extend(of_chunk);
        wrong.extend(wrong_of_chunk);
    }
    (reasons, wrong)
}

#[test]
fn faults_of_a_tenant_are_answered_as_specified() {
    let faults = table::all();
    assert!(faults.len() >= 60);
    let (reasons, wrong) = attempt_all(&faults);
    assert!(wrong.is_empty(), "{} cells:\n{}", wrong.len(), wrong.join("\n"));
    let page = page::page(&faults, &reasons);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == page, "{PAGE} is out of date: run the tests with UPDATE=1");
}

/// How often the faults are tried. What is held after the second time must not grow: the first ones fill what is made once.
const ROUNDS: usize = 4;

/// What the memory of the process may grow by between the rounds: a place that the allocator keeps free, and no more.
const MAX_GROWTH: u64 = 8 << 20;

/// Other tests open files and take memory, so this one runs in a process of its own.
#[test]
fn faults_leave_neither_files_nor_memory_behind() {
    let name = format!("{}::faults_again_and_again", module_path!().split_once("::").unwrap().1);
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    let output = alone.args(["--ignored", "--exact", &name]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "run by the test above"]
fn faults_again_and_again() {
    // Statuses differ in nothing that is held.
    let mut number = 0;
    let mut faults = table::all();
    faults.retain(|fault| {
        number += 1;
        !fault.section.starts_with("Statuses") && number % 31 == 0
    });
    let held = || {
        let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
        (files, pages * 4096)
    };
    let rounds: Vec<(usize, u64)> = (0..ROUNDS)
        .map(|_| {
            let (_, wrong) = attempt_all(&faults);
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
            held()
        })
        .collect();
    let ((files, bytes), (last_files, last_bytes)) = (rounds[1], rounds[ROUNDS - 1]);
    assert_eq!(files, last_files, "{rounds:?}");
    assert!(last_bytes <= bytes + MAX_GROWTH, "{rounds:?}");
}
