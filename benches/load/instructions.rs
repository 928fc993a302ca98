//! How many instructions a check takes: the service runs under callgrind, and a caller sends checks one after the other.
//!
//! Other work on the machine hardly changes the count, so a small loss shows in it long before it shows in microseconds, and a
//! run in CI can hold it. The kernel's work is not in it. The code does what it does on processors with AVX2 and AES, which
//! valgrind shows to the program; the compiler is that of `rust-toolchain.toml`.

use std::{collections::HashMap, fs, ops::Range, path::Path, process::Command};

use crate::{
    Result,
    caller::{Caller, Question},
    service::{REASONS, Service},
    tenant::Tenant,
};

/// The argument that makes this program count instructions and nothing else, and fail when they are too many.
pub const ARGUMENT: &str = "instructions";

/// The file with the committed figure: whoever makes a check cheaper lowers it (`BENCH_COMMIT=1 make instructions`), and whoever
/// makes it dearer says why.
const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/load/instructions.txt");
/// How much more than that a check may take. The counts of a quiet and of a busy machine differ by 1.7 %, those of one
/// machine by 0.6 %.
const TOLERANCE: f64 = 0.03;

/// Checks before the count: connections, tables and buffers have their sizes then.
const WARM_UP: u32 = 300;
/// Checks that are counted. What the service does by the clock is spread over them.
const COUNTED: u32 = 1_500;

/// The cost of a check.
pub struct Cost {
    /// Instructions outside of the kernel.
    pub instructions: f64,
    /// Calls of the allocator that ask for memory. `None` when the program has no names of functions.
    pub allocations: Option<f64>,
}

/// Counts. `None` when valgrind is not installed, and in a build that is not optimised.
pub fn count(directory: &Path, tenant: &Tenant) -> Result<Option<Cost>> {
    let is_optimised = !cfg!(debug_assertions) || std::env::var_os("BENCH_PROGRAM").is_some();
    if !is_optimised || Command::new("valgrind").arg("--version").output().is_err() {
        return Ok(None);
    }
    let (file, prefix) = (directory.join("callgrind.out"), directory.join("vgdb"));
    let (file, prefix) = (file.display(), prefix.display());
    let (output, pipes) = (format!("--callgrind-out-file={file}"), format!("--vgdb-prefix={prefix}"));
    // Under valgrind one thread runs at a time, and a thread that waits for work must not keep the others from it.
    let wrapper = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--fair-sched=try", "-q", &output, &pipes];
    let service = Service::start_at(directory, tenant, &tenant.url, &wrapper, &[])?;
    let mut caller = Caller::new(service.address)?;
    let mut check = |mut users: Range<u32>| {
        users.try_for_each(|user| {
            let answer = String::from_utf8_lossy(caller.ask(Question::Check, user)?.0);
            // Answers of the failure policy have status 200 as well. `/metrics` would say so, but not under valgrind.
            match REASONS.iter().any(|reason| answer.contains(reason)) {
                true => Result::Ok(()),
                false => Err(format!("not a decision by a limit: {answer}").into()),
            }
        })
    };
    check(0..WARM_UP)?;
    let control = |words: &[&str]| {
        let process = format!("--pid={}", service.process.id());
        let done = Command::new("vgdb").args([&pipes, &process]).args(words).output()?;
        match done.status.success() {
            true => Result::Ok(()),
            false => Err(format!("vgdb {words:?}: {}", String::from_utf8_lossy(&done.stderr)).into()),
        }
    };
    control(&["instrumentation", "on"])?;
    check(WARM_UP..WARM_UP + COUNTED)?;
    control(&["instrumentation", "off"])?;
    control(&["dump"])?;
    let profile = fs::read_to_string(format!("{file}.1"))?;
    if let Ok(kept) = std::env::var("BENCH_CALLGRIND_FILE") {
        fs::write(kept, &profile)?;
    }
    let totals = profile.lines().find_map(|line| line.strip_prefix("totals:")).ok_or("callgrind counted nothing")?;
    let instructions = totals.trim().parse::<f64>()? / f64::from(COUNTED);
    let allocations = allocations(&profile) as f64 / f64::from(COUNTED);
    Ok(Some(Cost { instructions, allocations: Some(allocations).filter(|count| *count >= 1.0) }))
}

/// Fails when a check takes more instructions than committed. With `BENCH_COMMIT` it writes the figure instead.
pub fn verify(cost: &Cost) -> Result<()> {
    if std::env::var_os("BENCH_COMMIT").is_some_and(|value| !value.is_empty()) {
        return Ok(fs::write(COMMITTED, format!("{:.0}\n", cost.instructions))?);
    }
    let committed: f64 = fs::read_to_string(COMMITTED)?.trim().parse()?;
    let ratio = cost.instructions / committed;
    let difference = (ratio - 1.0) * 100.0;
    println!("{:.0} instructions a check, {difference:+.2} % of the committed {committed}", cost.instructions);
    if ratio > 1.0 + TOLERANCE {
        return Err(format!("a check takes too many instructions: see {COMMITTED}").into());
    }
    Ok(())
}

/// How often other code asks an allocator for memory, in a file of callgrind: `fn=` begins what a function does, and `calls=` follows
/// the `cfn=` of the function that it calls. A name is written once, with a number in parentheses.
fn allocations(profile: &str) -> u64 {
    let is_allocator = |name: &str| name.starts_with("_rjem_");
    let asks = |name: &str| {
        let name = name.split('\'').next().unwrap_or(name);
        let of_jemalloc = ["_rjem_malloc", "_rjem_mallocx", "_rjem_calloc", "_rjem_realloc", "_rjem_rallocx"];
        of_jemalloc.contains(&name) || ["malloc", "calloc", "realloc"].contains(&name)
    };
    let mut names = HashMap::new();
    let mut name_of = |text: &str| {
        let (number, name) = text.split_once(')').unwrap_or((text, ""));
        let known = names.entry(number.to_owned()).or_insert_with(String::new);
        if !name.trim().is_empty() {
            name.trim().clone_into(known);
        }
        known.clone()
    };
    let (mut counted, mut caller_allocates, mut callee_asks) = (0, false, false);
    for line in profile.lines() {
        if let Some(text) = line.strip_prefix("fn=") {
            caller_allocates = is_allocator(&name_of(text));
        } else if let Some(text) = line.strip_prefix("cfn=") {
            callee_asks = asks(&name_of(text));
        } else if let Some(text) = line.strip_prefix("calls=")
            && callee_asks
            && !caller_allocates
        {
            counted += text.split_whitespace().next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    counted
}
