//! Any number of logins at the same moment: exactly as many as the limit says get in.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use session_checker::ledger::{Ledger, Memory, Store};
use session_checker::policy::Decision;
use tokio::time::Instant;

use super::world::{Case, TIMEOUT, Tenant, policy, replicas};

/// Lets `logins` sessions log in at once, spread over the replicas, each listing when it comes to it and completing some
/// time after it was let in. Says how many were let in.
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
            let opened = case.open(ledger).await;
            pause(between).await;
            let list = tenant.borrow().list();
            pause(after).await;
            let decision = case.admit(ledger, opened.since, &list, Instant::now() + TIMEOUT * 10).await;
            let within = matches!(decision, Ok(Decision::Within { .. }));
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
async fn of_any_number_of_logins_at_once_exactly_as_many_as_the_limit_get_in() {
    for (logins, repetitions) in [(2, 200), (10, 200), (100, 200)] {
        for limit in [1, 2, 5] {
            for seed in 0..repetitions {
                let replicas = replicas(3, Memory::default());
                let inside = race(&replicas, logins, limit, seed).await;
                assert_eq!(inside, limit.min(logins), "{logins} logins, limit {limit}, seed {seed}");
            }
        }
    }
}
