//! The life of a token, on a clock that the tests control.

use std::collections::VecDeque;

use reqwest::header::HeaderValue;
use tokio::time::{advance, sleep};

use super::*;

/// One fetch: how many seconds it takes, and the lifetime of its token or a failure.
type Step = (u64, Result<u64, Failure>);

/// How long the token endpoint takes no request after a fetch that is rate limited.
const RATE_LIMITED_FOR: Duration = Duration::from_secs(5);

/// A token endpoint that follows a script. Each token is the number of its fetch.
#[derive(Default)]
struct Script {
    steps: Mutex<VecDeque<Step>>,
    fetches: Mutex<u64>,
}

impl Script {
    fn cache(steps: impl IntoIterator<Item = Step>) -> (Arc<Self>, Arc<TokenCache>) {
        let script = Arc::new(Self { steps: Mutex::new(steps.into_iter().collect()), ..Self::default() });
        let endpoint = Arc::clone(&script);
        let fetch: Fetch = Box::new(move |_| {
            let endpoint = Arc::clone(&endpoint);
            Box::pin(async move { endpoint.answer().await })
        });
        (script, Arc::new(TokenCache::new(fetch, ServiceClock::default())))
    }

    async fn answer(&self) -> Result<AccessToken, Error> {
        let issued_at = Instant::now();
        let number = {
            let mut fetches = self.fetches.lock().unwrap();
            *fetches += 1;
            *fetches
        };
        let step = self.steps.lock().unwrap().pop_front();
        let (takes, result) = step.expect("the script has no such fetch");
        sleep(Duration::from_secs(takes)).await;
        let lifetime = Duration::from_secs(result.map_err(|failure| match failure {
            Failure::RateLimited => Error::no_token_before(Instant::now() + RATE_LIMITED_FOR),
            failure => Error::new(failure, "scripted"),
        })?);
        Ok(AccessToken { authorization: HeaderValue::from(number), scopes: None, issued_at, lifetime })
    }

    fn fetches(&self) -> u64 {
        *self.fetches.lock().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn rate_limit_is_waited_out_only_before_the_deadline() {
    let (script, cache) = Script::cache([(1, Err(Failure::RateLimited)), (0, Ok(60))]);
    let begun = Instant::now();
    let (hasty, patient) = tokio::join!(cache.get(within(3)), async {
        let token = cache.get(within(8)).await;
        (token.is_ok(), begun.elapsed())
    });
    assert_eq!(hasty.err().unwrap().failure, Failure::RateLimited);
    assert_eq!(patient, (true, Duration::from_secs(6)));
    assert_eq!(script.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn known_rate_limit_is_answered_at_once_without_a_fetch() {
    let (script, cache) = Script::cache([(1, Err(Failure::RateLimited))]);
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(get(&cache).await, Err(Failure::RateLimited));
        assert_eq!(begun.elapsed(), Duration::from_secs(1), "at once");
    }
    assert_eq!(script.fetches(), 1);
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

/// Lets the started tasks run until they wait.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn token_is_fetched_once_and_kept() {
    let (script, cache) = Script::cache([(1, Ok(1000))]);
    for _ in 0..5 {
        assert_eq!(get(&cache).await, Ok(1));
        pass(100).await;
    }
    assert_eq!(script.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_checks_share_one_fetch() {
    let (script, cache) = Script::cache([(2, Ok(1000))]);
    let waiters = (0..50).map(|_| get(&cache));
    let all = futures::future::join_all(waiters).await;
    assert!(all.iter().all(|token| *token == Ok(1)), "{all:?}");
    assert_eq!(script.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_check_keeps_its_own_deadline() {
    let (script, cache) = Script::cache([(2, Ok(1000))]);
    let short = cache.get(within(1));
    let long = get(&cache);
    let (short, long) = futures::join!(short, long);
    assert_eq!(short.map(|_| ()).unwrap_err().failure, Failure::UpstreamTimeout);
    assert_eq!(long, Ok(1));
    assert_eq!(script.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn fetch_continues_when_all_waiting_checks_are_cancelled() {
    let (script, cache) = Script::cache([(2, Ok(1000))]);
    let cancelled = timeout_at(within(1), cache.get(within(5))).await;
    assert!(cancelled.is_err());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(get(&cache).await, Ok(1));
    assert_eq!(script.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn endless_fetch_ends_after_its_timeout() {
    let (script, cache) = Script::cache([(3600, Ok(1)), (0, Ok(1000))]);
    let failure = cache.get(within(60)).await.map(|_| ()).unwrap_err().failure;
    assert_eq!(failure, Failure::UpstreamTimeout);
    assert_eq!(get(&cache).await, Ok(2));
    assert_eq!(script.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn token_is_refreshed_at_four_fifths_of_its_lifetime() {
    let (script, cache) = Script::cache([(0, Ok(1000)), (2, Ok(1000))]);
    get(&cache).await.unwrap();
    pass(749).await;
    assert_eq!(get(&cache).await, Ok(1));
    settle().await;
    assert_eq!(script.fetches(), 1);
    pass(102).await;
    for _ in 0..20 {
        assert_eq!(get(&cache).await, Ok(1), "no check waits for a refresh");
    }
    sleep(Duration::from_secs(3)).await;
    assert_eq!(get(&cache).await, Ok(2));
    assert_eq!(script.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn refresh_time_differs_between_tokens() {
    let token = || {
        Arc::new(AccessToken {
            authorization: HeaderValue::from(1),
            scopes: None,
            issued_at: Instant::now(),
            lifetime: EXPIRY_MARGIN * 100,
        })
    };
    let times: std::collections::HashSet<_> = (0..20).map(|_| CachedToken::new(token()).refresh_at).collect();
    assert!(times.len() > 1);
}

#[tokio::test(start_paused = true)]
async fn token_that_expires_under_load_costs_one_fetch() {
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
    assert_eq!(script.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn failed_refreshes_are_spaced_and_keep_the_old_token() {
    let failures =
        [Failure::UpstreamError, Failure::UpstreamTimeout, Failure::RateLimited, Failure::UpstreamUnreachable];
    let steps = std::iter::once((0, Ok(1000))).chain(failures.into_iter().cycle().take(100).map(|f| (0, Err(f))));
    let (script, cache) = Script::cache(steps);
    for second in 0..990 {
        assert_eq!(get(&cache).await, Ok(1), "second {second}");
        settle().await;
        pass(1).await;
    }
    let fetches = script.fetches() - 1;
    assert!((8..30).contains(&fetches), "{fetches} refreshes in the last fifth of 1000 s");
    assert!(get(&cache).await.is_err(), "no usable token is left");
}

#[tokio::test(start_paused = true)]
async fn rejected_credential_is_not_sent_again_for_half_a_minute() {
    let (script, cache) = Script::cache([(0, Err(Failure::CredentialsRejected)), (0, Ok(1000))]);
    for _ in 0..29 {
        assert_eq!(get(&cache).await, Err(Failure::CredentialsRejected));
        pass(1).await;
    }
    assert_eq!(script.fetches(), 1);
    pass(1).await;
    assert_eq!(get(&cache).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn rejected_refresh_keeps_the_old_token_and_pauses_too() {
    let (script, cache) = Script::cache([(0, Ok(1000)), (0, Err(Failure::CredentialsRejected)), (0, Ok(1000))]);
    get(&cache).await.unwrap();
    pass(860).await;
    for _ in 0..29 {
        assert_eq!(get(&cache).await, Ok(1));
        settle().await;
        pass(1).await;
    }
    assert_eq!(script.fetches(), 2);
    pass(5).await;
    assert_eq!(get(&cache).await, Ok(1));
    settle().await;
    assert_eq!(get(&cache).await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn next_check_fetches_again_after_another_failure() {
    let (script, cache) = Script::cache([(0, Err(Failure::UpstreamError)), (0, Ok(1000))]);
    assert_eq!(get(&cache).await, Err(Failure::UpstreamError));
    assert_eq!(get(&cache).await, Ok(2));
    assert_eq!(script.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn token_is_discarded_once_for_many_reports() {
    let (script, cache) = Script::cache([(0, Ok(1000)), (0, Ok(1000))]);
    let first = cache.get(within(3)).await.unwrap();
    for _ in 0..10 {
        cache.discard(&first);
        assert_eq!(get(&cache).await, Ok(2), "a late report does not discard the new token");
    }
    assert_eq!(script.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn short_lifetime_causes_no_burst_of_fetches() {
    let (script, cache) = Script::cache(std::iter::repeat_n((0, Ok(1)), 100));
    for _ in 0..200 {
        assert!(get(&cache).await.is_ok());
        advance(Duration::from_millis(50)).await;
        settle().await;
    }
    assert!(script.fetches() <= 15, "{} fetches in ten seconds", script.fetches());
}

#[tokio::test(start_paused = true)]
async fn fetch_that_panics_does_not_block_the_next() {
    let (script, cache) = Script::cache([]);
    assert_eq!(get(&cache).await, Err(Failure::InternalError));
    script.steps.lock().unwrap().push_back((0, Ok(1000)));
    assert!(get(&cache).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn kept_token_is_refreshed_before_its_end_without_a_check() {
    let (script, cache) = Script::cache((0..100).map(|_| (1, Ok(60))));
    cache.get(within(3)).await.unwrap();
    cache.keep_fresh();
    cache.keep_fresh();
    for minute in 1..=10 {
        sleep(Duration::from_secs(60)).await;
        assert!(script.fetches() > minute, "{minute}");
        cache.get(Instant::now()).await.expect("a token is there at once");
    }
    let fetches = script.fetches();
    assert!((12..=16).contains(&fetches), "one fetch for each token: {fetches}");
    drop(cache);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(script.fetches(), fetches, "nobody needs it any more");
}

#[tokio::test(start_paused = true)]
async fn failed_refresh_is_repeated_while_the_token_is_usable() {
    // A refresh begins between 450 and 510 s at random, and the token is usable for 590 s.
    let steps = [Ok(600), Err(Failure::UpstreamTimeout), Err(Failure::UpstreamTimeout), Ok(600)];
    let (script, cache) = Script::cache(steps.map(|step| (1, step)));
    cache.get(within(3)).await.unwrap();
    cache.keep_fresh();
    sleep(Duration::from_secs(588)).await;
    assert_eq!(script.fetches(), 4);
    cache.get(Instant::now()).await.expect("a token is there at once");
}
