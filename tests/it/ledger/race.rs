//! Any number of logins at the same time: exactly as many as the limit are allowed.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use session_checker::ledger::{Eviction, Ledger, Memory, Store};
use session_checker::policy::Decision;
use tokio::time::Instant;

use super::world::{Case, TIMEOUT, Tenant, policy, replicas};

/// Logs `logins` sessions in at the same time, spread over the replicas. Each lists the sessions at a random step, and completes
/// some steps after it was allowed. Returns how many were allowed.
pub async fn race<S: Store>(replicas: &[Arc<Ledger<S>>], logins: usize, limit: usize, seed: u64) -> usize {
    let policy = policy(&json!({"limits": {"perClient": limit}}));
    let tenant = Rc::new(RefCell::new(Tenant::default()));
    let sids: Vec<String> = (0..logins).map(|login| format!("{seed}-{login}")).collect();
    let all = sids.iter().enumerate().map(|(login, sid)| {
        let ledger = &replicas[login % replicas.len()];
        let tenant = Rc::clone(&tenant);
        let case = Case { policy: &policy, sid, client: "a" };
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(login as u64));
        async move {
            let yields = |upto| random.random_range(0..=upto);
            let [before, between, after, completing] = [4, 4, 4, 30].map(yields);
            tenant.borrow_mut().begin(sid);
            pause(before).await;
            let mut attempt = case.begin(ledger).await;
            pause(between).await;
            let list = tenant.borrow().list();
            pause(after).await;
            let (since, deadline) = (attempt.since(), Instant::now() + TIMEOUT * 10);
            let decision = case.admit(&mut attempt, since, &list, deadline).await;
            let within = matches!(decision, Ok(Decision::Within { .. }));
            attempt.finish(Eviction::default(), within, deadline).await;
            if within {
                pause(completing).await;
                tenant.borrow_mut().complete(sid, "a");
            }
            usize::from(within)
        }
    });
    join_all(all).await.into_iter().sum()
}

pub async fn pause(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn logins_at_once_are_allowed_up_to_exactly_the_limit() {
    races([(2, 200), (10, 200), (100, 20)]).await;
}

#[tokio::test(start_paused = true)]
#[ignore = "half a minute: make soak"]
async fn hundred_logins_at_once_are_allowed_up_to_exactly_the_limit() {
    races([(100, 200)]).await;
}

/// Races of these numbers of logins for each limit, each repeated this often.
async fn races<const N: usize>(races: [(usize, u64); N]) {
    for (logins, repetitions) in races {
        for limit in [1, 2, 5] {
            for seed in 0..repetitions {
                let replicas = replicas(3, Memory::default());
                let allowed = race(&replicas, logins, limit, seed).await;
                assert_eq!(allowed, limit.min(logins), "{logins} logins, limit {limit}, seed {seed}");
            }
        }
    }
}
