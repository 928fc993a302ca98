//! The page of the documentation: what each fault led to.

use std::fmt::Write as _;

use session_checker::auth0::Operation;

use super::Reasons;
use super::table::Fault;
use super::tenant::Protocol;

const HEAD: &str = "\
# Faults

What a check answers when Auth0, or something on the way to it, fails. A test tries each fault over
HTTP/1.1 and HTTP/2, in each of the three operations, with `failurePolicy: Allow` and with `Deny`, and
writes this page (`UPDATE=1 cargo test --test it faults::`). Every answer is HTTP 200, comes within
the policy's `timeout` and 100 ms, and leaves no connection, task or memory behind.

The check of the test finds one session that it evicts: without a fault it is `evicted`. A table
shows the reason of the answer for a fault that lasts. `Allow` lets every login of this page go on.
`Deny` blocks it, except where the reason is `evicted`, `within_limit` or `unknown_user`: these are no
failures. A dash means that the fault cannot occur there. The rules are contract 3.10 to 3.19.

The two requests of `explainEvictions` (decision 4.11) are no operations of this page: after each
fault of them but 429, the check answers `evicted`. Their 429 holds for all requests to the tenant, so
the check can answer `rate_limited`. Another test tries that.
";

/// The page.
pub fn page(faults: &[Fault], reasons: &[Reasons]) -> String {
    let mut page = HEAD.to_owned();
    let mut section = "";
    let mut rows: Vec<(Vec<&str>, String)> = Vec::new();
    let mut tried = faults.iter().zip(reasons).peekable();
    while let Some((fault, reasons)) = tried.next() {
        let mut reasons = reasons.clone();
        // A fault that differs from operation to operation is tried in one at a time.
        while let Some((_, more)) =
            tried.next_if(|(next, _)| (next.section, &next.name) == (fault.section, &fault.name))
        {
            reasons.extend(more.clone());
        }
        if fault.section != section {
            close(&mut page, &mut rows);
            section = fault.section;
            write!(page, "\n## {section}\n\n| fault | over | token | list | revoke |\n|---|---|---|---|---|\n")
                .unwrap();
        }
        let cells = cells(fault, &reasons);
        match rows.last_mut() {
            // Neighbours with the same result share a row.
            Some((names, last)) if *last == cells => names.push(&fault.name),
            _ => rows.push((vec![&fault.name], cells)),
        }
    }
    close(&mut page, &mut rows);
    page
}

fn close(page: &mut String, rows: &mut Vec<(Vec<&str>, String)>) {
    for (names, cells) in rows.drain(..) {
        writeln!(page, "| {} | {cells} |", names.join("; ")).unwrap();
    }
}

fn cells(fault: &Fault, reasons: &Reasons) -> String {
    let over: Vec<&str> = fault.protocols().iter().map(|protocol| protocol.as_str()).collect();
    let operations = Operation::OF_CHECKS.map(|operation| {
        let of_protocol = |protocol: &Protocol| reasons.get(&(*protocol, operation.as_str())).map(String::as_str);
        let mut found: Vec<&str> = Protocol::ALL.iter().filter_map(of_protocol).collect();
        found.dedup();
        match &found[..] {
            [] => "—".to_owned(),
            reasons => {
                reasons.iter().chain(&fault.or).map(|reason| format!("`{reason}`")).collect::<Vec<_>>().join(" or ")
            }
        }
    });
    let over = if over.len() == 2 { "both" } else { over[0] };
    format!("{over} | {}", operations.join(" | "))
}
