//! Auth0's request budget: how many lists three populations need together, through a service and a simulated tenant that enforces
//! the published rate limit of an Enterprise tenant. Service and tenant have one clock, which the test moves; the sockets are real.

#[path = "../fixtures/populations.rs"]
mod fixture;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use fixture::{Population, populations};
use futures::future::join_all;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use session_checker::cli::service_config;
use session_checker::clock::ServiceClock;
use simulator::{Clock, Operation, Options, RateLimit, Session, Simulator};
use tempfile::TempDir;

use crate::common::{
    APP, DOMAIN, Running, callers, credentials, folder, options, policy, serve_args, strings, tenant_with,
};

const HOUR: i64 = 3_600_000;
/// How long a list is used, in milliseconds and as the policies say it.
const RECHECK_AFTER: (i64, &str) = (12 * HOUR, "12h");
/// How long before the measurement the history of a user is played. What is older can have left no list that is still used.
const HISTORY: i64 = 3 * RECHECK_AFTER.0;
/// How often the clock is moved.
const TICK: i64 = 100;

/// How many checks a second each population sends, and its applications.
const TRAFFIC: [(i64, &[&str]); 3] = [(25, &["crm", "mail", "wiki"]), (70, &["spa"]), (5, &["video"])];

/// The logins of a user: milliseconds, the device and the application.
type TimedLogins = Vec<(i64, usize, &'static str)>;

/// A check that is sent.
struct Check {
    population: usize,
    user: String,
    device: usize,
    client: &'static str,
}

/// What is sent, by when. The measurement begins at 0 and lasts for `span`.
struct Schedule {
    checks: BTreeMap<i64, Vec<Check>>,
    /// Sessions that are older than the history: user, device, beginning and applications.
    before: Vec<(String, usize, i64, BTreeSet<&'static str>)>,
}

impl Schedule {
    fn new(populations: &[Population], span: i64, random: &mut StdRng) -> Self {
        let mut schedule = Self { checks: BTreeMap::new(), before: Vec::new() };
        for (number, (population, (checks_per_second, clients))) in populations.iter().zip(TRAFFIC).enumerate() {
            let (mut user, mut measured) = (0, 0);
            while measured < checks_per_second * span / 1_000 {
                let logins = (population.logins)(random).into_iter();
                let in_milliseconds = |at| 1_000 * i64::try_from(at).unwrap();
                let mut logins: TimedLogins =
                    logins.map(|(at, device, client)| (in_milliseconds(at), device, clients[client])).collect();
                logins.sort_unstable();
                // One of the user's logins is at some time of the measurement.
                let shift = random.random_range(0..span) - logins.choose(random).unwrap().0;
                measured += schedule.add(number, &format!("{number}-{user}"), &logins, shift, span);
                user += 1;
            }
        }
        schedule
    }

    /// Adds a user. Before the measurement only those checks are sent that need a list: the others change nothing.
    fn add(&mut self, population: usize, user: &str, logins: &TimedLogins, shift: i64, span: i64) -> i64 {
        let mut sessions: BTreeMap<usize, (i64, BTreeSet<&'static str>)> = BTreeMap::new();
        let (mut listed, mut listed_at, mut measured) = (BTreeSet::new(), i64::MIN, 0);
        let mut is_begun = false;
        for (at, device, client) in logins.iter().map(|(at, device, client)| (at + shift, *device, *client)) {
            if at >= span {
                break;
            }
            if at >= -HISTORY && !std::mem::replace(&mut is_begun, true) {
                let before =
                    sessions.iter().map(|(device, (at, clients))| (user.to_owned(), *device, *at, clients.clone()));
                self.before.extend(before);
            }
            let needs_list = !listed.contains(&(device, client)) || at - listed_at >= RECHECK_AFTER.0;
            if at >= 0 || (needs_list && is_begun) {
                let check = Check { population, user: user.to_owned(), device, client };
                self.checks.entry(at.div_euclid(TICK) * TICK).or_default().push(check);
            }
            if needs_list && is_begun {
                let pairs =
                    sessions.iter().flat_map(|(device, (_, clients))| clients.iter().map(|client| (*device, *client)));
                (listed, listed_at) = (pairs.collect(), at);
            }
            measured += i64::from(at >= 0);
            sessions.entry(device).or_insert_with(|| (at, BTreeSet::new())).1.insert(client);
        }
        measured
    }
}

/// The service and the tenant, with one clock.
struct World {
    service: Running,
    tenant: Simulator,
    clock: Clock,
    _folder: TempDir,
    /// The sessions of the devices.
    sids: HashMap<(String, usize), String>,
}

impl World {
    async fn start(populations: &[Population]) -> Self {
        let clock = Clock::stopped_at(Timestamp::from_second(1_700_000_000).unwrap());
        let rate_limit = Some(RateLimit { burst: 50, per_second: 16 });
        let tenant = tenant_with(Options { clock: clock.clone(), rate_limit, ..Options::new(DOMAIN) }).await;
        let limited = populations.iter().zip(TRAFFIC).enumerate().map(|(number, (population, (_, clients)))| {
            let spec = json!({
                "selector": { "clientIds": clients },
                "limits": population.limits,
                "recheckAfter": RECHECK_AFTER.1,
            });
            policy(&format!("population-{number}"), spec)
        });
        let looping = policy("looping", json!({ "recheckAfter": RECHECK_AFTER.1 }));
        let documents: Vec<Value> = [credentials(), callers(), looping].into_iter().chain(limited).collect();
        let folder = folder(&documents);
        let mut config = service_config(serve_args(&strings(&options(&tenant, folder.path())))).unwrap();
        let shown = clock.clone();
        config.clock = ServiceClock::follow(move || shown.now());
        let service = Running::with(config).await.unwrap();
        Self { service, tenant, clock, _folder: folder, sids: HashMap::new() }
    }

    fn advance(&self, milliseconds: i64) {
        self.clock.advance(Duration::from_millis(u64::try_from(milliseconds).unwrap()));
    }

    /// Logs in. Returns the answer, and the session when the login completed.
    async fn login(&self, check: &Check) -> (Value, Option<String>) {
        let cookie = self.sids.get(&(check.user.clone(), check.device));
        let login = self.tenant.begin_login(&check.user, check.client, cookie.map(String::as_str));
        let answer = self.service.check(&check.user, check.client, login.sid()).await;
        (answer, login.complete())
    }

    /// Sends checks at the same time, and counts those that needed a list by population.
    async fn send(&mut self, checks: &[Check], counts: &mut [[u64; 2]]) {
        for (check, (answer, sid)) in checks.iter().zip(join_all(checks.iter().map(|check| self.login(check))).await) {
            assert_eq!(answer["reason"], "within_limit", "{} {answer}", check.user);
            let [checks, lists] = &mut counts[check.population];
            *checks += 1;
            *lists += u64::from(!answer["active_sessions"].is_null());
            self.sids.insert((check.user.clone(), check.device), sid.unwrap());
        }
    }
}

/// A hundred checks a second of all populations, and a client that tries ten times a second although its user is at the limit.
#[expect(clippy::print_stdout, reason = "the figures are for the documentation")]
async fn play(seconds: i64) {
    let populations = populations();
    let span = 1_000 * seconds;
    let Schedule { mut checks, before } = Schedule::new(&populations, span, &mut StdRng::seed_from_u64(1));
    let mut world = World::start(&populations).await;
    let began = before.iter().map(|(_, _, at, _)| -at).max().unwrap_or_default().max(HISTORY);
    let begin = world.clock.now();
    let at = |milliseconds: i64| begin + jiff::SignedDuration::from_millis(began + milliseconds);
    for (user, device, session_at, clients) in before {
        let sid = format!("before-{user}-{device}");
        let session = Session::new(&sid, at(session_at)).at("idle_expires_at", at(30 * 24 * HOUR));
        let session = session.at("expires_at", at(30 * 24 * HOUR));
        world.tenant.add_session(&user, clients.iter().fold(session, |session, client| session.client(client)));
        world.sids.insert((user, device), sid);
    }
    let measured = checks.split_off(&0);

    let (mut now, mut counts) = (-began, [[0; 2]; 3]);
    for (at, checks) in checks {
        world.advance(at - now);
        now = at;
        world.send(&checks, &mut counts).await;
    }
    assert!(counts.iter().all(|[checks, lists]| checks == lists), "only checks that need a list are sent: {counts:?}");

    world.tenant.add_session("looper", Session::new("holder", at(-HOUR)).client(APP));
    let (lists_before, mut counts) = (world.tenant.count(Operation::List), [[0; 2]; 3]);
    for tick in (0..span).step_by(usize::try_from(TICK).unwrap()) {
        world.advance(tick - now);
        now = tick;
        let answer = world.service.check("looper", APP, "looping").await;
        assert_eq!(answer["reason"], "limit_exceeded", "{answer}");
        world.send(measured.get(&tick).map_or(&[][..], Vec::as_slice), &mut counts).await;
    }
    let lists = i64::try_from(world.tenant.count(Operation::List) - lists_before).unwrap();
    let of_populations: u64 = counts.iter().map(|[_, lists]| lists).sum();
    let looping = lists - i64::try_from(of_populations).unwrap();
    for (population, [checks, lists]) in populations.iter().zip(counts) {
        println!("{}: {checks} checks, {:.2} lists per check", population.name, lists as f64 / checks as f64);
    }
    println!("{lists} lists in {seconds} s, {looping} of the looping client");
    assert!(looping <= seconds / 2 + 5, "{looping} lists of one client in {seconds} s");
    let limited = format!(
        "session_checker_auth0_requests_total{{operation=\"list\",outcome=\"rate_limited\",tenant=\"{DOMAIN}\"}}"
    );
    assert_eq!(world.service.metric(&limited).await, None, "the tenant accepted every request");
    world.service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hundred_checks_a_second_stay_within_the_rate_limit() {
    play(5).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make soak"]
async fn hundred_checks_a_second_stay_within_the_rate_limit_for_five_minutes() {
    let seconds = std::env::var("BUDGET_SECONDS").map_or(300, |seconds| seconds.parse().unwrap());
    play(seconds).await;
}
