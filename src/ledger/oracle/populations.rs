//! How many lists a check needs, for three populations that share a ledger over three replicas. The table is in
//! docs/performance.md, and in short in README.md.

#[path = "../../../tests/fixtures/populations.rs"]
mod fixture;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::time::Instant;

use fixture::{HOUR, Population, populations};

use super::super::{Ledger, Memory, SessionKey, Terms, listing_kept_for};
use super::CLIENTS;
use super::policies::{compiled, login};
use super::store::{OracleStore, SharedServer, TrueTime};
use crate::policy::{LimitInputs, ListedSession, SessionList};

const USERS: u64 = 200;
const REPLICAS: usize = 3;

/// The checks of a user, the lists that they need, and how many they needed before lists were remembered: each replica allowed a
/// holder again for five minutes after a list.
async fn play(population: &Population, recheck_after: Duration, random: &mut StdRng) -> [u64; 3] {
    let time = TrueTime::default();
    let server = Some(Arc::new(SharedServer::default()));
    let replica = |_| {
        let memory = Memory::with_clock(1_000, time.clock());
        let (server, time) = (server.clone(), time.clone());
        Arc::new(Ledger::new(OracleStore { weakness: None, server, cut_off: false.into(), time, memory }))
    };
    let replicas: Vec<_> = (0..REPLICAS).map(replica).collect();
    let policy = compiled(&json!({ "limits": population.limits }));
    let terms = Terms {
        window: Duration::from_secs(10),
        longest_check: Duration::from_secs(3),
        listing_kept_for: listing_kept_for(recheck_after),
        enforced: true,
        claims: true,
    };
    let mut logins = (population.logins)(random);
    logins.sort_unstable();
    let mut sessions: BTreeMap<usize, (Timestamp, BTreeSet<&str>)> = BTreeMap::new();
    let mut confirmed: HashMap<(usize, usize, &str), u64> = HashMap::new();
    let ([mut lists, mut lists_before], mut passed) = ([0; 2], 0);
    for (at, device, client) in logins.iter().map(|(at, device, client)| (at, device, &CLIENTS[*client])) {
        time.pass(i64::try_from(1_000 * (at - passed)).unwrap());
        passed = *at;
        let now = time.now();
        let (_, clients) = sessions.entry(*device).or_insert_with(|| (now, BTreeSet::new()));
        let is_holder = clients.contains(client);
        let replica = random.random_range(0..REPLICAS);
        let last = confirmed.get(&(replica, *device, *client));
        if last.is_none_or(|last| at - last >= 300) {
            lists_before += 1;
            if is_holder {
                confirmed.insert((replica, *device, *client), *at);
            }
        }
        let pair = (format!("s{device}"), *client);
        let mut attempt =
            replicas[replica].begin(SessionKey::new(super::user(), &pair.0, client), terms, Instant::now()).await;
        let login = login(&pair);
        let check = policy.pre_checks(&login, now).unwrap();
        if attempt.recall(&check, recheck_after).is_err() {
            lists += 1;
            let listed = sessions.iter().map(|(device, (created_at, clients))| ListedSession {
                id: format!("s{device}"),
                created_at: Some(*created_at),
                clients: Some(clients.iter().map(|client| (*client).to_owned()).collect()),
                ..ListedSession::default()
            });
            let list = SessionList::new("u", listed);
            let decide = |admissions: &[_], revoked: &_, origins: &_| {
                check.decide(LimitInputs { sessions: &list, admissions, revoked, origins, now })
            };
            let (since, deadline) = (attempt.since(), Instant::now() + Duration::from_secs(3));
            attempt.admit(&list, since, deadline, decide).await.unwrap();
            attempt.finish(Default::default(), true, deadline).await;
        }
        sessions.entry(*device).or_default().1.insert(client);
    }
    [logins.len() as u64, lists, lists_before]
}

#[tokio::test(start_paused = true)]
async fn populations_need_as_many_lists_as_documented() {
    let [documentation, readme] = ["docs/performance.md", "README.md"]
        .map(|path| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap());
    let mut missing = String::new();
    for population in populations() {
        let mut shares = Vec::new();
        for hours in [1, 12, 168] {
            let mut sums = [0; 3];
            for user in 0..USERS {
                let counts =
                    play(&population, Duration::from_secs(hours * HOUR), &mut StdRng::seed_from_u64(user)).await;
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
            let [checks, lists, before] = sums.map(|sum| sum as f64);
            if shares.is_empty() {
                shares.push(format!("{:.2}", before / checks));
            }
            shares.push(format!("{:.2}", lists / checks));
        }
        let row = |shares: &[String]| format!("| {} | {} |\n", population.name, shares.join(" | "));
        for (text, row) in [(&documentation, row(&shares)), (&readme, row(&shares[..3]))] {
            if !text.contains(&row) {
                missing += &row;
            }
        }
    }
    assert_eq!(missing, "", "docs/performance.md or README.md lacks these rows");
}
