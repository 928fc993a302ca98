//! Random interleavings of logins, logouts, blocks, evictions and failures, against a model of what a user may hold.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use futures::future::LocalBoxFuture;
use futures::poll;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use session_checker::ledger::{Eviction, Ledger, MAX_LIST_AGE, Memory, Store, StoreTime};
use session_checker::policy::{Decision, Policy, SessionList};
use tokio::time::{Duration, Instant, advance};

use super::race::pause;
use super::world::{Case, TIMEOUT, Tenant, WINDOW, policy, replicas};

const CLIENTS: [&str; 3] = ["a", "b", "c"];

/// The tenant, and the allowed logins that have not completed.
struct World {
    tenant: Tenant,
    random: StdRng,
    /// With the time of the check: a login that takes longer than the window does not count and never completes.
    under_way: BTreeMap<(String, String), Instant>,
    /// Sessions that an allowed login evicts, until they are revoked.
    doomed: BTreeSet<String>,
    /// The sessions that a decision evicts which is on its way to the store. It may have arrived: then another login counts without
    /// them before this one goes on.
    committing: BTreeMap<(String, String), Vec<String>>,
    /// Failed revocations: the failure policy answered, and each may exceed the limit by one.
    failed: usize,
    last_list: Option<(Rc<SessionList>, StoreTime, Instant)>,
    last_begun: Option<(StoreTime, Instant)>,
    per_client: usize,
    per_user: usize,
    allowed: usize,
    blocked: usize,
    evicted: usize,
}

type SharedWorld = Rc<RefCell<World>>;

impl World {
    /// The promise: with the logins under way, the user holds no more than the limits.
    fn check(&self) {
        let mut held: BTreeSet<(&str, &str)> = self
            .under_way
            .iter()
            .filter(|((sid, _), asked_at)| self.tenant.alive(sid) && asked_at.elapsed() < WINDOW)
            .map(|((sid, client), _)| (sid.as_str(), client.as_str()))
            .collect();
        for (sid, clients) in self.tenant.clients() {
            held.extend(clients.iter().map(|client| (sid, client.as_str())));
        }
        held.retain(|(sid, _)| {
            !self.doomed.contains(*sid) && !self.committing.values().flatten().any(|victim| victim == sid)
        });
        for client in CLIENTS {
            let sessions = held.iter().filter(|(_, held)| *held == client).count();
            assert!(sessions <= self.per_client + self.failed, "{sessions} sessions hold {client}: {held:?}");
        }
        let sessions: BTreeSet<&str> = held.iter().map(|(sid, _)| *sid).collect();
        assert!(sessions.len() <= self.per_user + self.failed, "{} sessions: {held:?}", sessions.len());
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }
}

async fn wait(world: &SharedWorld, most: usize) {
    let times = world.borrow_mut().random.random_range(0..=most);
    pause(times).await;
}

/// The list that a check gets: its own; sometimes one that another check requested, which it joined before the request was sent;
/// sometimes the last one, if it is young enough. Each with the time that belongs to it.
async fn list(world: &SharedWorld, mut since: StoreTime) -> (Rc<SessionList>, StoreTime) {
    if world.borrow_mut().chance(25)
        && let Some((list, since, at)) = &world.borrow().last_list
        && at.elapsed() < MAX_LIST_AGE.min(WINDOW)
    {
        return (list.clone(), *since);
    }
    let mut asked_at = Instant::now();
    let joins = world.borrow_mut().chance(25);
    match world.borrow().last_begun {
        Some((begun, at)) if joins && at.elapsed() < TIMEOUT => (since, asked_at) = (begun, at),
        _ => {}
    }
    world.borrow_mut().last_begun = Some((since, asked_at));
    wait(world, 4).await;
    let list = world.borrow().tenant.list();
    world.borrow_mut().last_list = Some((list.clone(), since, asked_at));
    wait(world, 8).await;
    (list, since)
}

async fn login<S: Store>(
    world: SharedWorld,
    ledger: Arc<Ledger<S>>,
    policy: Arc<Policy>,
    sid: String,
    client: &'static str,
) {
    wait(&world, 20).await;
    let case = Case { policy: &policy, sid: &sid, client };
    world.borrow_mut().tenant.begin(&sid);
    if !world.borrow().tenant.alive(&sid) {
        return;
    }
    let asked_at = Instant::now();
    let mut attempt = case.begin(&ledger).await;
    if attempt.was_revoked() {
        return;
    }
    let (list, since) = list(&world, attempt.since()).await;
    let way = (sid.clone(), client.to_owned());
    let committing = |decision: &Decision| {
        let victims = if let Decision::Evict { victims, .. } = decision { victims.clone() } else { Vec::new() };
        world.borrow_mut().committing.insert(way.clone(), victims);
    };
    let decision = case.admit_between(&mut attempt, since, &list, asked_at + TIMEOUT, committing).await;
    world.borrow_mut().committing.remove(&way);
    let (allows, eviction) = match decision {
        Ok(Decision::Within { .. } | Decision::UnknownUser { .. }) => (true, Eviction::default()),
        Ok(Decision::Evict { victims, .. }) => {
            world.borrow_mut().doomed.extend(victims.iter().cloned());
            wait(&world, 4).await;
            if world.borrow_mut().chance(10) {
                // The failure policy denies.
                world.borrow_mut().failed += victims.len();
                world.borrow_mut().doomed.retain(|sid| !victims.contains(sid));
                (false, Eviction { revoked: Vec::new(), not_revoked: victims })
            } else {
                for victim in &victims {
                    world.borrow_mut().tenant.end(victim);
                }
                world.borrow_mut().evicted += victims.len();
                (true, Eviction { revoked: victims, not_revoked: Vec::new() })
            }
        }
        Ok(Decision::Exceeded { .. } | Decision::Ask { .. } | Decision::Undecided) => {
            world.borrow_mut().blocked += 1;
            (false, Eviction::default())
        }
        Err(_) => (false, Eviction::default()),
    };
    // What the ledger records is awaited, however late: the model is about the order of its steps.
    attempt.finish(eviction, allows, Instant::now() + TIMEOUT * 1_000).await;
    if !allows || !world.borrow().tenant.alive(&sid) {
        return;
    }
    world.borrow_mut().allowed += 1;
    world.borrow_mut().under_way.insert(way.clone(), asked_at);
    wait(&world, 30).await;
    world.borrow_mut().under_way.remove(&way);
    let given_up = world.borrow_mut().chance(20) || asked_at.elapsed() >= WINDOW;
    if given_up || !world.borrow().tenant.alive(&sid) {
        return;
    }
    world.borrow_mut().tenant.complete(&sid, client);
    wait(&world, 60).await;
    if world.borrow_mut().chance(50) {
        world.borrow_mut().tenant.end(&sid);
    }
}

/// Plays one game. With `jumps`, time is paused and advances in jumps; without, it is real.
pub async fn play<S: Store>(
    replicas: &[Arc<Ledger<S>>],
    strategy: &str,
    seed: u64,
    jumps: bool,
) -> (usize, usize, usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let (per_client, per_user) = (random.random_range(1..=3), random.random_range(2..=5));
    let policy = Arc::new(policy(&json!({
        "limits": {"perClient": per_client, "perUser": per_user}, "strategy": strategy, "admissionWindow": "10s",
    })));
    let world = Rc::new(RefCell::new(World {
        tenant: Tenant::default(),
        random: StdRng::seed_from_u64(seed ^ 0xfeed),
        under_way: BTreeMap::new(),
        doomed: BTreeSet::new(),
        committing: BTreeMap::new(),
        failed: 0,
        last_list: None,
        last_begun: None,
        per_client,
        per_user,
        allowed: 0,
        blocked: 0,
        evicted: 0,
    }));
    let mut logins: Vec<LocalBoxFuture<'_, ()>> = Vec::new();
    let mut asked = BTreeSet::new();
    for number in 0..random.random_range(2..=24) {
        let client = CLIENTS[random.random_range(0..CLIENTS.len())];
        // Some sessions serve several applications.
        let sid = if random.random_ratio(1, 4) { format!("{seed}-{}", number / 2) } else { format!("{seed}-{number}") };
        // The same login twice at once has one entry, which the first block withdraws: that is the rule, not the promise.
        if !asked.insert((sid.clone(), client)) {
            continue;
        }
        let ledger = Arc::clone(&replicas[random.random_range(0..replicas.len())]);
        logins.push(Box::pin(login(Rc::clone(&world), ledger, Arc::clone(&policy), sid, client)));
    }
    while !logins.is_empty() {
        let next = random.random_range(0..logins.len());
        if poll!(logins[next].as_mut()).is_ready() {
            drop(logins.swap_remove(next));
        }
        world.borrow().check();
        if jumps && random.random_ratio(1, 50) {
            advance(Duration::from_millis(random.random_range(0..1_000))).await;
        } else if !jumps {
            tokio::task::yield_now().await;
        }
    }
    let world = world.borrow();
    (world.allowed, world.blocked, world.evicted)
}

#[tokio::test(start_paused = true)]
async fn no_interleaving_allows_more_than_the_limit() {
    games(100).await;
}

#[tokio::test(start_paused = true)]
#[ignore = "a minute: make soak"]
async fn none_of_many_interleavings_allows_more_than_the_limit() {
    games(500).await;
}

/// Plays this many games of each strategy.
async fn games(count: u64) {
    for strategy in ["Deny", "RevokeOldest", "RevokeLeastRecentlyUsed"] {
        let (mut allowed, mut blocked, mut evicted, mut conflicts) = (0, 0, 0, 0);
        for seed in 0..count {
            let replicas = replicas(3, Memory::default());
            let game = play(&replicas, strategy, seed, true).await;
            (allowed, blocked, evicted) = (allowed + game.0, blocked + game.1, evicted + game.2);
            conflicts += replicas.iter().map(|replica| replica.stats().conflicts).sum::<u64>();
        }
        // The games reached all outcomes often enough.
        let (count, conflicts) = (count as usize, conflicts as usize);
        assert!(allowed > count * 2, "{allowed} allowed in {count} games");
        assert!(
            5 * blocked > count && 5 * conflicts > count,
            "{blocked} blocked, {conflicts} conflicts in {count} games"
        );
        assert_eq!(5 * evicted > count, strategy != "Deny", "{evicted}");
    }
}
