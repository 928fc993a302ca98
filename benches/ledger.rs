//! What the ledger adds to a check when it is kept in memory: opening it, and admitting the login.

use std::collections::HashSet;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use futures::FutureExt;
use session_checker::ledger::{Attempt, Ledger, Listed, Memory, Terms, User};
use session_checker::policy::{Admission, Count, Decision, Scope, SessionList};
use tokio::time::Instant;

fn within(_: &[Admission], _: &HashSet<String>) -> Decision {
    Decision::Within { count: Count { scope: Scope::Client, limit: 1, active: 0 }, holder: false }
}

fn admit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _guard = runtime.enter();
    let ledger = Ledger::new(Memory::default());
    let users: Vec<User> = (0..10_000).map(|user| User::new("acme.eu.auth0.com", &format!("auth0|{user}"))).collect();
    let terms = Terms { window: Duration::from_secs(10), longest_check: Duration::from_secs(3) };
    let nothing = SessionList::default();
    let deadline = Instant::now() + Duration::from_secs(3_600);

    let mut turn = 0usize;
    criterion.bench_function("ledger/memory/open and admit", |bencher| {
        bencher.iter(|| {
            turn += 1;
            let user = &users[turn % users.len()];
            let sid = format!("{turn}");
            let attempt = Attempt { user, sid: &sid, client_id: "application", terms, enforced: true };
            let opened = ledger.open(user, Some(&sid)).now_or_never().expect("memory answers at once");
            let list = Listed { sessions: &nothing, since: opened.since };
            let decision = ledger.admit(&attempt, list, deadline, within).now_or_never();
            // As the simplest end of a login, so that records stay as short as they are in life.
            ledger.withdraw(&attempt).now_or_never();
            black_box(decision)
        });
    });
}

criterion_group!(benches, admit);
criterion_main!(benches);
