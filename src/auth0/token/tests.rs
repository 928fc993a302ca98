//! The life of a token, on a clock that the tests drive.

use std::collections::VecDeque;

use reqwest::header::HeaderValue;
use tokio::time::{advance, sleep};

use super::*;

/// One flight: how long it takes, and a token of this life or a failure.
type Step = (u64, Result<u64, Failure>);

/// A token endpoint that follows a script; the tokens are named by the flight that brought them.
#[derive(Default)]
struct Script {
    steps: Mutex<VecDeque<Step>>,
    flights: Mutex<Vec<Instant>>,
}

impl Script {
    fn cache(steps: impl IntoIterator<Item = Step>) -> (Arc<Self>, Arc<TokenCache>) {
        let script = Arc::new(Self { steps: Mutex::new(steps.into_iter().collect()), ..Self::default() });
        let endpoint = Arc::clone(&script);
        let fetch: Fetch = Box::new(move |_| {
            let endpoint = Arc::clone(&endpoint);
            Box::pin(async move { endpoint.answer().await })
        });
        (script, Arc::new(TokenCache::new(fetch)))
    }

    async fn answer(&self) -> Result<Token, Error> {
        let issued_at = Instant::now();
        let number = {
            let mut flights = self.flights.lock().unwrap();
            flights.push(issued_at);
            flights.len()
        };
        let step = self.steps.lock().unwrap().pop_front();
        let (takes, result) = step.expect("one flight more than the script has");
        sleep(Duration::from_secs(takes)).await;
        let lifetime = Duration::from_secs(result.map_err(|failure| Error::new(failure, "scripted"))?);
        Ok(Token { authorization: HeaderValue::from(number), scopes: None, issued_at, lifetime })
    }

    fn flights(&self) -> usize {
        self.flights.lock().unwrap().len()
    }
}

fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

async fn get(cache: &Arc<TokenCache>) -> Result<u64, Failure> {
    let token = cache.get(within(3)).await.map_err(|error| error.failure)?;
    Ok(token.authorization.to_str().unwrap().parse().unwrap())
}

async fn pass(seconds: u64) {
    advance(Duration::from_secs(seconds)).await;
}

/// Lets the tasks that were started come to rest.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_is_asked_for_once_and_kept() {
    let (script, cache) = Script::cache([(1, Ok(1000))]);
    for _ in 0..5 {
        assert_eq!(get(&cache).await, Ok(1));
        pass(100).await;
    }
    assert_eq!(script.flights(), 1);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_share_one_flight() {
    let (script, cache) = Script::cache([(2, Ok(1000))]);
    let waiters = (0..50).map(|_| get(&cache));
    let all = futures::future::join_all(waiters).await;
    assert!(all.iter().all(|token| *token == Ok(1)), "{all:?}");
    assert_eq!(script.flights(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_waiter_keeps_its_own_deadline_and_leaves_the_flight_to_the_others() {
    let (script, cache) = Script::cache([(2, Ok(1000))]);
    let hurried = cache.get(within(1));
    let patient = get(&cache);
    let (hurried, patient) = futures::join!(hurried, patient);
    assert_eq!(hurried.map(|_| ()).unwrap_err().failure, Failure::UpstreamTimeout);
    assert_eq!(patient, Ok(1));
    assert_eq!(script.flights(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flight_goes_on_when_all_who_waited_have_left() {
    let (script, cache) = Script::cache([(2, Ok(1000))]);
    let nobody = timeout_at(within(1), cache.get(within(5))).await;
    assert!(nobody.is_err());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(get(&cache).await, Ok(1));
    assert_eq!(script.flights(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_never_lands_is_given_up_after_its_own_bound() {
    let (script, cache) = Script::cache([(3600, Ok(1)), (0, Ok(1000))]);
    let failure = cache.get(within(60)).await.map(|_| ()).unwrap_err().failure;
    assert_eq!(failure, Failure::UpstreamTimeout);
    assert_eq!(get(&cache).await, Ok(2));
    assert_eq!(script.flights(), 2);
}

#[tokio::test(start_paused = true)]
async fn it_is_refreshed_at_about_four_fifths_of_its_life_while_the_old_one_serves() {
    let (script, cache) = Script::cache([(0, Ok(1000)), (2, Ok(1000))]);
    get(&cache).await.unwrap();
    pass(749).await;
    assert_eq!(get(&cache).await, Ok(1));
    settle().await;
    assert_eq!(script.flights(), 1);
    pass(102).await;
    for _ in 0..20 {
        assert_eq!(get(&cache).await, Ok(1), "nobody waits for a refresh");
    }
    sleep(Duration::from_secs(3)).await;
    assert_eq!(get(&cache).await, Ok(2));
    assert_eq!(script.flights(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_moment_of_the_refresh_differs_between_tokens() {
    let token = || {
        Arc::new(Token {
            authorization: HeaderValue::from(1),
            scopes: None,
            issued_at: Instant::now(),
            lifetime: EXPIRY_MARGIN * 100,
        })
    };
    let moments: std::collections::HashSet<_> = (0..20).map(|_| Held::new(token()).refresh_at).collect();
    assert!(moments.len() > 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_under_load_fails_nobody_and_costs_one_refresh() {
    let (script, cache) = Script::cache([(0, Ok(100)), (1, Ok(100_000))]);
    let mut checks = Vec::new();
    for _ in 0..2000 {
        let cache = Arc::clone(&cache);
        checks.push(tokio::spawn(async move { get(&cache).await }));
        sleep(Duration::from_millis(100)).await;
    }
    for check in checks {
        assert!(check.await.unwrap().is_ok());
    }
    assert_eq!(script.flights(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_old_one_is_kept_while_refreshes_fail_and_they_are_spaced() {
    let failures =
        [Failure::UpstreamError, Failure::UpstreamTimeout, Failure::RateLimited, Failure::UpstreamUnreachable];
    let steps = std::iter::once((0, Ok(1000))).chain(failures.into_iter().cycle().take(100).map(|f| (0, Err(f))));
    let (script, cache) = Script::cache(steps);
    for second in 0..990 {
        assert_eq!(get(&cache).await, Ok(1), "second {second}");
        settle().await;
        pass(1).await;
    }
    let flights = script.flights() - 1;
    assert!((8..30).contains(&flights), "{flights} refreshes in the last fifth of 1000 s");
    assert!(get(&cache).await.is_err(), "there is nothing left that is good");
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_not_shown_again_for_half_a_minute() {
    let (script, cache) = Script::cache([(0, Err(Failure::CredentialsRejected)), (0, Ok(1000))]);
    for _ in 0..29 {
        assert_eq!(get(&cache).await, Err(Failure::CredentialsRejected));
        pass(1).await;
    }
    assert_eq!(script.flights(), 1);
    pass(1).await;
    assert_eq!(get(&cache).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_is_refused_keeps_the_old_one_and_waits_as_well() {
    let (script, cache) = Script::cache([(0, Ok(1000)), (0, Err(Failure::CredentialsRejected)), (0, Ok(1000))]);
    get(&cache).await.unwrap();
    pass(860).await;
    for _ in 0..29 {
        assert_eq!(get(&cache).await, Ok(1));
        settle().await;
        pass(1).await;
    }
    assert_eq!(script.flights(), 2);
    pass(5).await;
    assert_eq!(get(&cache).await, Ok(1));
    settle().await;
    assert_eq!(get(&cache).await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn other_failures_are_tried_again_by_the_next_check() {
    let (script, cache) = Script::cache([(0, Err(Failure::UpstreamError)), (0, Ok(1000))]);
    assert_eq!(get(&cache).await, Err(Failure::UpstreamError));
    assert_eq!(get(&cache).await, Ok(2));
    assert_eq!(script.flights(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_given_up_once_however_many_report_it() {
    let (script, cache) = Script::cache([(0, Ok(1000)), (0, Ok(1000))]);
    let first = cache.get(within(3)).await.unwrap();
    for _ in 0..10 {
        cache.reject(&first);
        assert_eq!(get(&cache).await, Ok(2), "a late report does not end the new token");
    }
    assert_eq!(script.flights(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_short_life_is_lived_without_a_storm() {
    let (script, cache) = Script::cache(std::iter::repeat_n((0, Ok(1)), 100));
    for _ in 0..200 {
        assert!(get(&cache).await.is_ok());
        advance(Duration::from_millis(50)).await;
        settle().await;
    }
    assert!(script.flights() <= 15, "{} flights in ten seconds", script.flights());
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_panics_does_not_keep_the_next_from_starting() {
    let (script, cache) = Script::cache([]);
    assert_eq!(get(&cache).await, Err(Failure::UpstreamError));
    script.steps.lock().unwrap().push_back((0, Ok(1000)));
    assert!(get(&cache).await.is_ok());
}
