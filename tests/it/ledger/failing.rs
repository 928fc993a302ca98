//! Random interleavings in which lists and revocations fail, checks are dropped, and ends are recorded after the answer.
//!
//! The user starts with as many sessions as the limit and every allowed login completes, so each eviction replaces one session by
//! one login. Under `Deny` the user then has never more and at the end never fewer sessions than the limit; under `Allow` one more
//! for each login that the failure policy allowed, and never fewer.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use futures::future::LocalBoxFuture;
use futures::poll;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use session_checker::ledger::{Eviction, Ledger, Memory, Store};
use session_checker::policy::{Decision, Policy};
use tokio::time::{Duration, Instant, advance};

use super::race::pause;
use super::world::{Case, TIMEOUT, Tenant, WINDOW, policy, replicas, soon};

/// The rounds of each failure policy.
const GAMES: u64 = 300;
/// How far a game moves the time at most, so that every login completes within its window.
const GAME_SPAN: Duration = Duration::from_secs(8);

struct World {
    tenant: Tenant,
    random: StdRng,
    /// Allowed logins that have not completed.
    under_way: BTreeSet<String>,
    /// Logins that the failure policy allowed.
    allowed_by_failure: usize,
    revoked: usize,
    failed_revocations: usize,
}

impl World {
    /// How many sessions the user has in the application, with the logins under way.
    fn held(&self) -> usize {
        let completed = self.tenant.clients().filter(|(_, clients)| clients.contains("a")).map(|(sid, _)| sid);
        completed.chain(self.under_way.iter().map(String::as_str)).collect::<BTreeSet<&str>>().len()
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }
}

type SharedWorld = Rc<RefCell<World>>;

async fn wait(world: &SharedWorld, most: usize) {
    let times = world.borrow_mut().random.random_range(0..=most);
    pause(times).await;
}

async fn login<S: Store>(world: SharedWorld, ledger: Arc<Ledger<S>>, policy: Arc<Policy>, sid: String, allow: bool) {
    wait(&world, 20).await;
    world.borrow_mut().tenant.begin(&sid);
    let case = Case { policy: &policy, sid: &sid, client: "a" };
    let mut attempt = case.begin(&ledger).await;
    wait(&world, 4).await;
    let listed = !world.borrow_mut().chance(10);
    let mut eviction = Eviction::default();
    // `None` = the failure policy answers.
    let mut allows = None;
    if listed {
        let list = world.borrow().tenant.list();
        wait(&world, 8).await;
        let since = attempt.since();
        let decision = case.admit(&mut attempt, since, &list, Instant::now() + TIMEOUT * 10).await;
        if world.borrow_mut().chance(5) {
            // The check is dropped.
            return;
        }
        allows = match decision {
            Ok(Decision::Within { .. }) => Some(true),
            Ok(Decision::Evict { victims, .. }) => {
                for victim in victims {
                    wait(&world, 4).await;
                    if world.borrow_mut().chance(30) {
                        world.borrow_mut().failed_revocations += 1;
                        eviction.not_revoked.push(victim);
                    } else {
                        world.borrow_mut().tenant.end(&victim);
                        world.borrow_mut().revoked += 1;
                        eviction.revoked.push(victim);
                    }
                }
                eviction.not_revoked.is_empty().then_some(true)
            }
            Ok(_) => Some(false),
            Err(_) => None,
        };
    }
    let answer = allows.unwrap_or(allow);
    // Some ends are recorded after the answer.
    let deadline = if world.borrow_mut().chance(30) { Instant::now() } else { soon() };
    attempt.finish(eviction, answer, deadline).await;
    if !answer {
        return;
    }
    world.borrow_mut().allowed_by_failure += usize::from(allows.is_none());
    world.borrow_mut().under_way.insert(sid.clone());
    wait(&world, 60).await;
    world.borrow_mut().under_way.remove(&sid);
    world.borrow_mut().tenant.complete(&sid, "a");
}

/// How a game ended.
#[derive(Default)]
struct Outcome {
    /// It once had more sessions than the limit and the failure policy allow.
    over: bool,
    /// It ended with fewer than the limit: more were revoked than the surplus.
    under: bool,
    revoked: usize,
    failed_revocations: usize,
}

/// Plays one game on three replicas.
async fn play(seed: u64, allow: bool) -> Outcome {
    let mut random = StdRng::seed_from_u64(seed);
    let limit = random.random_range(1..=3);
    let policy = Arc::new(policy(&json!({
        "limits": {"perClient": limit}, "strategy": "RevokeOldest", "admissionWindow": "10s",
    })));
    let replicas = replicas(3, Memory::default());
    let mut tenant = Tenant::default();
    for number in 0..limit {
        let sid = format!("old-{number}");
        tenant.begin(&sid);
        tenant.complete(&sid, "a");
    }
    let world = Rc::new(RefCell::new(World {
        tenant,
        random: StdRng::seed_from_u64(seed ^ 0xfeed),
        under_way: BTreeSet::new(),
        allowed_by_failure: 0,
        revoked: 0,
        failed_revocations: 0,
    }));
    let mut logins: Vec<LocalBoxFuture<'_, ()>> = Vec::new();
    for number in 0..random.random_range(2..=16) {
        let ledger = Arc::clone(&replicas[random.random_range(0..replicas.len())]);
        let (world, policy) = (Rc::clone(&world), Arc::clone(&policy));
        logins.push(Box::pin(login(world, ledger, policy, format!("new-{number}"), allow)));
    }
    let (began, mut outcome) = (Instant::now(), Outcome::default());
    while !logins.is_empty() {
        let next = random.random_range(0..logins.len());
        if poll!(logins[next].as_mut()).is_ready() {
            drop(logins.swap_remove(next));
        }
        {
            let world = world.borrow();
            outcome.over |= world.held() > limit + world.allowed_by_failure;
        }
        if random.random_ratio(1, 20) && began.elapsed() < GAME_SPAN.min(WINDOW) {
            advance(Duration::from_millis(random.random_range(0..100))).await;
        } else if random.random_ratio(1, 4) {
            // The ends that are recorded in the background go on.
            tokio::task::yield_now().await;
        }
    }
    let world = world.borrow();
    outcome.under = world.held() < limit;
    (outcome.revoked, outcome.failed_revocations) = (world.revoked, world.failed_revocations);
    outcome
}

#[tokio::test(start_paused = true)]
async fn failed_revocation_neither_exceeds_nor_undercuts_the_limit() {
    for allow in [false, true] {
        let (mut over, mut under, mut revoked, mut failed) = (0, 0, 0, 0);
        for seed in 0..GAMES {
            let outcome = play(seed, allow).await;
            (over, under) = (over + u64::from(outcome.over), under + u64::from(outcome.under));
            (revoked, failed) = (revoked + outcome.revoked, failed + outcome.failed_revocations);
        }
        // The games reached both outcomes of revocations often enough.
        assert!(revoked > 100 && failed > 100, "{revoked} {failed}");
        assert_eq!((over, under), (0, 0), "games over and under the limit, of {GAMES}; Allow: {allow}");
    }
}
