//! How many lists a check needs, for three populations that share a ledger over three replicas. The table is in docs/performance.md, and in
//! short in README.md.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::{Ledger, Memory, SessionKey, Terms, listing_kept_for};
use super::policies::{compiled, login};
use super::store::{OracleStore, SharedServer, TrueTime};
use crate::policy::{LimitInputs, ListedSession, SessionList};

const USERS: u64 = 200;
const REPLICAS: usize = 3;
const HOUR: u64 = 3_600;

/// The second, the session and the application of each login of a user.
type Logins = Vec<(u64, usize, &'static str)>;

struct Population {
    name: &'static str,
    limits: Value,
    logins: fn(&mut StdRng) -> Logins,
}

/// A working day with three applications behind one sign-on, on a laptop and for some on a telephone, too.
fn business(random: &mut StdRng) -> Logins {
    let mut logins = Logins::new();
    for device in 0..random.random_range(1..=2) {
        let mut at = random.random_range(0..HOUR);
        for client in ["a", "b", "c"] {
            logins.push((at, device, client));
            at += random.random_range(60..1_800);
        }
        while at < 9 * HOUR {
            logins.push((at, device, ["a", "b", "c"].choose(random).unwrap()));
            at += random.random_range(600..2_400);
        }
    }
    logins
}

/// A browser application that renews its tokens every ten minutes of a working day.
fn browser(random: &mut StdRng) -> Logins {
    let begin = random.random_range(0..HOUR);
    (0..48).map(|renewal| (begin + 600 * renewal, 0, "a")).collect()
}

/// A week of five devices, each used once or twice a day.
fn consumers(random: &mut StdRng) -> Logins {
    let mut logins = Logins::new();
    for device in 0..5 {
        let mut at = random.random_range(0..24 * HOUR);
        while at < 7 * 24 * HOUR {
            logins.push((at, device, "a"));
            at += random.random_range(8 * HOUR..24 * HOUR);
        }
    }
    logins
}

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
    };
    let mut logins = (population.logins)(random);
    logins.sort_unstable();
    let mut sessions: BTreeMap<usize, (Timestamp, BTreeSet<&str>)> = BTreeMap::new();
    let mut confirmed: HashMap<(usize, usize, &str), u64> = HashMap::new();
    let ([mut lists, mut lists_before], mut passed) = ([0; 2], 0);
    for (at, device, client) in &logins {
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
        let mut attempt = replicas[replica].begin(SessionKey::new(super::user(), &pair.0, client), terms).await;
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
    let populations = [
        Population { name: "business web applications", limits: json!({ "perUser": 3 }), logins: business },
        Population {
            name: "browser applications, renewal every ten minutes",
            limits: json!({ "perClient": 1 }),
            logins: browser,
        },
        Population { name: "consumers with five devices", limits: json!({ "perUser": 5 }), logins: consumers },
    ];
    for population in populations {
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
