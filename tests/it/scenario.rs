//! Scenarios, played with a real service and a simulated tenant on one clock.

use std::fs;
use std::path::PathBuf;

use session_checker::scenario::{Scenario, ScenarioRun};

use crate::common::provider;

/// Plays a scenario of one person with two devices. Each login is written as its outcome and reason, and the number of lists.
async fn play(policy: &str, steps: &[&str]) -> Vec<String> {
    provider();
    let steps: String = steps.iter().map(|step| format!("  - {step}\n")).collect();
    let text = format!(
        "policy:\n{policy}people:\n  - name: Carla\n    devices: [laptop, phone, tablet]\napplications: [shop, crm]\nsteps:\n{steps}"
    );
    let run = ScenarioRun::of(&Scenario::parse(&text).unwrap()).await.unwrap();
    let logins = run.records().iter().flat_map(|record| {
        record.logins.iter().map(move |login| {
            let outcome = if login.blocked { "blocked" } else { "allowed" };
            format!("{outcome} {} {}", login.reason, record.lists)
        })
    });
    let logins = logins.collect();
    run.stop().await;
    logins
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_comes_about_as_it_expects() {
    provider();
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/scenarios"));
    let mut played = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let scenario = Scenario::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        let run = ScenarioRun::of(&scenario).await.unwrap();
        for (step, record) in scenario.steps.iter().zip(run.records()) {
            let reasons: Vec<_> = record.logins.iter().map(|login| (login.blocked, login.reason.clone())).collect();
            assert_ne!(record.met, Some(false), "{}: {}: {reasons:?}", path.display(), record.sentence);
            assert_eq!(record.met.is_some(), step.expect.is_some());
            played += record.logins.len();
        }
        assert_eq!(Scenario::parse(&run.scenario().to_yaml()).unwrap(), scenario, "{}", path.display());
        run.stop().await;
    }
    assert!(played > 10, "{played}");
}

#[tokio::test(flavor = "multi_thread")]
async fn session_stops_counting_when_the_clock_passes_active_within() {
    let outcomes = play(
        "  limits: { perClient: 1 }\n  activeWithin: 2h\n",
        &["sign in: Carla on laptop", "sign in: Carla on phone", "pass: 2h", "sign in: Carla on phone"],
    )
    .await;
    assert_eq!(outcomes, ["allowed within_limit 1", "blocked limit_exceeded 1", "allowed within_limit 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn recent_holder_needs_a_list_again_after_recheck_after() {
    let again = "sign in: Carla on laptop";
    let outcomes = play(
        "  limits: { perClient: 1 }\n  recheckAfter: 10m\n",
        &[again, again, again, "pass: 9m", again, "pass: 2m", again],
    )
    .await;
    // The first login is not in a list yet, so the second one is listed too.
    let lists: Vec<_> = outcomes.iter().map(|outcome| outcome.chars().last().unwrap()).collect();
    assert_eq!(lists, ['1', '1', '0', '0', '1']);
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_notice_nothing_of_an_outage() {
    let (again, minute) = ("sign in: Carla on laptop", "pass: 1m");
    let mut steps = vec![again, again, "auth0: down"];
    steps.extend([minute, again].repeat(5));
    steps.extend(["sign in: Carla on phone", again]);
    // No list shows the phone's session, so it may come before: of one place it takes the laptop's, of two it does not.
    for (limit, afterwards) in [(1, "blocked upstream_error"), (2, "allowed within_limit 0")] {
        let policy = format!("  limits: {{ perClient: {limit} }}\n  failurePolicy: Deny\n");
        let outcomes = play(&policy, &steps).await;
        let holder = &outcomes[2..7];
        assert!(holder.iter().all(|outcome| outcome == "allowed within_limit 0"), "{outcomes:?}");
        assert!(outcomes[7].starts_with("blocked upstream_error"), "{outcomes:?}");
        assert!(outcomes[8].starts_with(afterwards), "{outcomes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn override_and_session_end_by_the_clock_of_the_scenario() {
    let expiring = "  limits: { perClient: 1 }\n  overrides:\n    - name: for-a-day\n      users: [auth0|carla]\n      \
                    limits: { perClient: 2 }\n      expiresAt: 2026-03-03T09:00:00Z\n";
    let steps = ["sign in: Carla on laptop", "sign in: Carla on phone", "pass: 1d", "sign in: Carla on tablet"];
    let outcomes = play(expiring, &steps).await;
    assert_eq!(outcomes, ["allowed within_limit 1", "allowed within_limit 1", "blocked limit_exceeded 1"]);
    let idle = ["sign in: Carla on laptop", "pass: 4d", "sign in: Carla on phone"];
    let outcomes = play("  limits: { perClient: 1 }\n", &idle).await;
    assert_eq!(outcomes, ["allowed within_limit 1", "allowed within_limit 1"], "idle for longer than three days");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_expires_by_the_clock_of_the_scenario() {
    let outcomes =
        play("  limits: { perClient: 1 }\n", &["sign in: Carla on laptop", "pass: 2d", "sign in: Carla on laptop"])
            .await;
    assert_eq!(outcomes.len(), 2, "the token of a day is replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn accidents_come_and_go() {
    let login = "sign in: Carla on phone";
    let policy = "  limits: { perClient: 1 }\n  failurePolicy: Deny\n  timeout: 1s\n";
    for (accident, reason) in [("slow", "upstream_timeout"), ("limited", "rate_limited"), ("down", "upstream_error")] {
        let accident = format!("auth0: {accident}");
        let outcomes = play(policy, &[&accident, login, "auth0: works", login]).await;
        assert_eq!(outcomes[0].split(' ').take(2).collect::<Vec<_>>(), ["blocked", reason], "{accident}");
        assert_eq!(outcomes[1], "allowed within_limit 1", "{accident}");
    }
    let outcomes = play(policy, &["service: down", login, "service: works", login]).await;
    assert_eq!(outcomes, ["allowed no_answer 0", "allowed within_limit 1"], "FAIL_MODE is allow");
}

#[tokio::test(flavor = "multi_thread")]
async fn breaker_closes_by_the_clock_of_the_scenario() {
    let login = "sign in: Carla on phone";
    let mut steps = vec!["auth0: down"];
    steps.extend([login; 6]);
    steps.extend(["auth0: works", login]);
    let outcomes = play("  limits: { perClient: 1 }\n  failurePolicy: Deny\n", &steps).await;
    assert!(outcomes[5].starts_with("blocked circuit_open 0"), "{outcomes:?}");
    assert_eq!(outcomes[6], "allowed within_limit 1", "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn same_scenario_shows_the_same_times() {
    provider();
    let text = include_str!("../../examples/scenarios/first.yaml");
    let mut times = Vec::new();
    for _ in 0..2 {
        let run = ScenarioRun::of(&Scenario::parse(text).unwrap()).await.unwrap();
        let state = run.state();
        times.push((state.now, state.steps.iter().map(|step| step.at).collect::<Vec<_>>(), state.sessions[0].began));
        run.stop().await;
    }
    assert_eq!(times[0], times[1]);
    assert_eq!(times[0].0.to_string(), "2026-03-02T10:00:02Z");
    assert_eq!(times[0].2, times[0].1[0], "a session begins with its step");
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_login_waits_for_a_choice_and_continues_after_it() {
    let policy = "  limits: { perUser: 1 }\n  strategy: Ask\n  ask: { requireMfa: false }\n";
    let steps = [
        "sign in: Carla on laptop",
        "sign in: Carla on phone",
        "choose: Carla on phone ends laptop",
        "sign in: Carla on laptop",
        "choose: Carla on laptop cancels",
        "sign in: Carla on laptop",
        "choose: Carla on laptop ends phone",
        "pass: 10m",
        "sign in: Carla on phone",
        // Of the three sessions that began on the laptop, the third is alive.
        "choose: Carla on phone ends laptop#3",
        "choose: Carla on tablet cancels",
    ];
    let outcomes = play(policy, &steps).await;
    let outcomes: Vec<&str> = outcomes.iter().map(|outcome| outcome.rsplit_once(' ').unwrap().0).collect();
    let (asked, ended) = ("blocked limit_exceeded", "allowed within_limit");
    assert_eq!(outcomes, [ended, asked, ended, asked, asked, asked, ended, asked, ended]);
}
