//! Rate limits: `Retry-After`, and Auth0's headers.

use session_checker::auth0::Operation;

use super::super::tenant::Answer;
use super::{EVICTED, Fault, LIMITED, first};

const LIMITS: &str = "Rate limits";

pub fn all() -> Vec<Fault> {
    let mut faults = Vec::new();
    let limited = |name: &'static str, value: &str| Answer::new(429, r#"{"statusCode":429}"#).header(name, value);
    // A limit that lasts.
    for (name, value) in [
        ("retry-after", "0"),
        ("retry-after", "1"),
        ("retry-after", "60"),
        ("retry-after", "99999999"),
        ("retry-after", "18446744073709551616"),
        ("retry-after", "-1"),
        ("retry-after", "soon"),
        ("retry-after", ""),
        ("retry-after", "1.5"),
        ("retry-after", "Wed, 01 May 2024 13:00:00 GMT"),
        ("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ("retry-after", "Wed, 01 Foo 2024 13:00:00 GMT"),
        ("x-ratelimit-reset", "0"),
        ("x-ratelimit-reset", "1714568407"),
        ("x-ratelimit-reset", "99999999999"),
        ("x-ratelimit-reset", "18446744073709551615"),
        ("x-ratelimit-reset", "soon"),
        ("x-ratelimit-remaining", "0"),
    ] {
        faults.push(Fault::answer(LIMITS, format!("429 with `{name}: {value}`"), limited(name, value), LIMITED));
    }
    let both = limited("retry-after", "5").header("retry-after", "1").header("x-ratelimit-reset", "0");
    faults.push(Fault::answer(LIMITS, "429 with two `retry-after`", both, LIMITED));
    let clock = limited("retry-after", "1").header("date", "Thu, 01 Jan 1970 00:00:00 GMT");
    faults.push(Fault::answer(LIMITS, "429 with a `date` of 1970", clock, LIMITED));
    let clock = limited("x-ratelimit-reset", "1714568407").header("date", "not a date");
    faults.push(Fault::answer(LIMITS, "429 with an unreadable `date`", clock, LIMITED));
    // Headers of a success: they may close the budget of the requests that follow.
    let reset = "99999999999";
    for (name, headers, follows) in [
        (
            "200 with `x-ratelimit-remaining: 0` for long",
            vec![("x-ratelimit-limit", "50"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset)],
            LIMITED,
        ),
        ("200 with `x-ratelimit-remaining: 0` alone", vec![("x-ratelimit-remaining", "0")], EVICTED),
        ("200 with `x-ratelimit-remaining: -1`", vec![("x-ratelimit-remaining", "-1")], EVICTED),
        ("200 with `x-ratelimit-remaining: many`", vec![("x-ratelimit-remaining", "many")], EVICTED),
        ("200 with `x-ratelimit-limit: 0`", vec![("x-ratelimit-limit", "0")], EVICTED),
        ("200 with `x-ratelimit-limit` of 2⁶⁴-1", vec![("x-ratelimit-limit", "18446744073709551615")], EVICTED),
        ("200 with `retry-after: 60`", vec![("retry-after", "60")], EVICTED),
    ] {
        for operation in Operation::OF_CHECKS {
            let answer =
                headers.iter().fold(Answer::usual(operation), |answer, (name, value)| answer.header(name, *value));
            let reason = if operation == Operation::List { follows } else { EVICTED };
            faults.push(Fault::answer(LIMITS, name, answer, reason).only(operation));
        }
    }
    // A limit that is over in time.
    for (name, answer) in [
        ("429 with `retry-after: 0`, then the usual answer", limited("retry-after", "0")),
        ("429 with `retry-after: 1`, then the usual answer", limited("retry-after", "1")),
        ("429 without a header, then the usual answer", Answer::new(429, "")),
    ] {
        for operation in Operation::OF_CHECKS {
            faults.push(Fault::new(LIMITS, name, first(vec![answer.clone()], operation), EVICTED).only(operation));
        }
    }
    faults
}
