//! The rules of the ledger, one by one.

use std::time::Duration;

use futures::FutureExt;
use serde_json::json;
use session_checker::ledger::{Eviction, MAX_BYTES, MAX_LIST_AGE, Memory, PENDING_FOR, REVOKED_FOR, Terms, UserKey};
use session_checker::policy::{Count, Decision, Failure, LimitScope, Policy, SessionList, Verdict};
use tokio::time::advance;

use super::world::{
    Case, Direct, Repeated, Stuck, TIMEOUT, Tenant, WINDOW, ledger, memory, policy, replicas, soon, user,
};

fn one() -> Policy {
    policy(&json!({"limits": {"perClient": 1}}))
}

fn evicting() -> Policy {
    policy(&json!({"limits": {"perClient": 1}, "strategy": "RevokeOldest"}))
}

fn login<'a>(policy: &'a Policy, sid: &'a str) -> Case<'a> {
    Case { policy, sid, client: "a" }
}

/// A tenant in which these sessions have completed a login to the application.
fn with(sids: &[&str]) -> Tenant {
    let mut tenant = Tenant::default();
    for sid in sids {
        tenant.begin(sid);
        tenant.complete(sid, "a");
    }
    tenant
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn repeated_check_does_not_extend_the_window() {
    let (ledger, policy, nothing) = (memory(), one(), Tenant::default());
    assert!(login(&policy, "s1").check(&ledger, &nothing).await);
    advance(WINDOW - SECOND).await;
    assert!(login(&policy, "s1").check(&ledger, &nothing).await, "its own entry does not count against it");
    assert!(!login(&policy, "s2").check(&ledger, &nothing).await);
    advance(SECOND).await;
    assert!(login(&policy, "s2").check(&ledger, &nothing).await);
}

#[tokio::test(start_paused = true)]
async fn blocked_login_is_withdrawn_and_no_other() {
    let (ledger, policy) = (memory(), policy(&json!({"limits": {"perClient": 2}})));
    let nothing = Tenant::default();
    let (first, second) = (login(&policy, "s1"), login(&policy, "s2"));
    assert!(first.check(&ledger, &nothing).await);
    assert!(second.check(&ledger, &nothing).await);
    assert!(!login(&policy, "s3").check(&ledger, &nothing).await);
    first.fail(&ledger, user(), false).await;
    assert!(login(&policy, "s3").check(&ledger, &nothing).await, "the place that was given back");
    assert!(!login(&policy, "s4").check(&ledger, &nothing).await, "the other one was kept");
    assert!(!first.check(&ledger, &nothing).await);
}

#[tokio::test(start_paused = true)]
async fn login_blocked_at_its_second_check_is_withdrawn() {
    let (ledger, policy) = (memory(), one());
    assert!(login(&policy, "s1").check(&ledger, &Tenant::default()).await);
    assert!(!login(&policy, "s1").check(&ledger, &with(&["s0"])).await);
    assert!(login(&policy, "s2").check(&ledger, &Tenant::default()).await);
}

#[tokio::test(start_paused = true)]
async fn logout_counts_at_once_after_a_list_showed_the_login() {
    let (ledger, policy, nothing) = (memory(), one(), Tenant::default());
    let (second, third) = (login(&policy, "s2"), login(&policy, "s3"));
    assert!(login(&policy, "s1").check(&ledger, &nothing).await);
    let mut early = third.begin(&ledger).await;
    advance(SECOND).await;
    assert!(!second.check(&ledger, &with(&["s1"])).await, "marks the entry");
    let since = early.since();
    let decision = third.admit(&mut early, since, &nothing.list(), soon()).await;
    assert!(matches!(decision, Ok(Decision::Exceeded { .. })), "this list may be older than the login's end");
    advance(SECOND).await;
    assert!(second.check(&ledger, &nothing).await, "this one is not");
}

#[tokio::test(start_paused = true)]
async fn unlisted_login_counts_until_the_window_ends() {
    let (ledger, policy, nothing) = (memory(), one(), Tenant::default());
    assert!(login(&policy, "s1").check(&ledger, &nothing).await);
    advance(SECOND).await;
    assert!(!login(&policy, "s2").check(&ledger, &nothing).await);
}

#[tokio::test(start_paused = true)]
async fn slow_list_does_not_outlast_its_entries() {
    let (ledger, policy, nothing) = (memory(), one(), Tenant::default());
    let slow = login(&policy, "slow");
    assert!(login(&policy, "s1").check(&ledger, &nothing).await);
    advance(WINDOW - SECOND).await;
    let (mut attempt, list) = (slow.begin(&ledger).await, nothing.list());
    let since = attempt.since();
    // It completes just after the list was made, at the end of its window.
    advance(TIMEOUT).await;
    assert!(ledger.stats().size > 0, "kept, whatever is swept");
    let decision = slow.admit(&mut attempt, since, &list, soon()).await;
    assert!(matches!(decision, Ok(Decision::Exceeded { .. })), "{decision:?}");
    // And the same for a list that is shared as long as one may be.
    advance(MAX_LIST_AGE - SECOND).await;
    assert!(ledger.stats().size > 0);
    let decision = slow.admit(&mut attempt, since, &list, soon()).await;
    assert!(matches!(decision, Ok(Decision::Exceeded { .. })), "{decision:?}");
}

#[tokio::test(start_paused = true)]
async fn window_lasts_at_least_as_long_as_a_check() {
    let (ledger, nothing) = (memory(), Tenant::default());
    let policy = policy(&json!({"limits": {"perClient": 1}, "admissionWindow": "1s"}));
    assert!(login(&policy, "s1").check(&ledger, &nothing).await);
    advance(TIMEOUT - SECOND).await;
    assert!(!login(&policy, "s2").check(&ledger, &nothing).await);
    advance(SECOND).await;
    assert!(login(&policy, "s2").check(&ledger, &nothing).await);
}

#[tokio::test(start_paused = true)]
async fn policy_without_a_window_writes_nothing_that_counts() {
    let (ledger, nothing) = (memory(), Tenant::default());
    let off = policy(&json!({"limits": {"perClient": 1}, "admissionWindow": "0s"}));
    assert!(login(&off, "s1").check(&ledger, &nothing).await);
    assert!(login(&one(), "s2").check(&ledger, &nothing).await, "what is remembered of the first does not count");
    assert!(!login(&off, "s3").check(&ledger, &nothing).await);
}

#[tokio::test(start_paused = true)]
async fn listed_login_gets_no_entry() {
    let (ledger, policy) = (memory(), one());
    assert!(login(&policy, "s1").check(&ledger, &with(&["s1"])).await);
    assert_eq!(ledger.stats().size, 1, "the listing");
    assert!(login(&policy, "s2").check(&ledger, &Tenant::default()).await, "it has logged out");
}

#[tokio::test(start_paused = true)]
async fn auditing_policy_records_every_login_and_reserves_nothing() {
    let (ledger, policy) = (memory(), evicting());
    let list = with(&["s1"]).list();
    let login = login(&policy, "s2");
    let terms = Terms { enforced: false, ..login.terms() };
    let mut attempt = ledger.begin(login.key(user()), terms, soon()).await;
    let since = attempt.since();
    let evict = |_: &[_], _: &_, _: &_| Decision::Evict {
        count: Count { limit_scope: LimitScope::Client, limit: 1, active: 1, at_least: false },
        victims: vec!["s1".to_owned()],
    };
    attempt.admit(&list, since, soon(), evict).await.unwrap();
    attempt.finish(Eviction::default(), true, soon()).await;
    assert_eq!(ledger.stats().size, 2, "the login and the listing");
    assert!(!self::login(&policy, "s1").begin(&ledger).await.was_revoked());
}

#[tokio::test(start_paused = true)]
async fn users_and_tenants_are_separate() {
    let (ledger, policy) = (memory(), one());
    assert!(login(&policy, "s1").check(&ledger, &Tenant::default()).await);
    for other in [UserKey::new("acme.eu.auth0.com", "v"), UserKey::new("other.eu.auth0.com", "u")] {
        let login = login(&policy, "s1");
        login.fail(&ledger, other.clone(), true).await;
        login.fail(&ledger, other, false).await;
    }
    assert!(!login(&policy, "s2").check(&ledger, &Tenant::default()).await);
}

#[tokio::test(start_paused = true)]
async fn login_allowed_by_the_failure_policy_counts() {
    let (ledger, policy) = (memory(), one());
    login(&policy, "s1").fail(&ledger, user(), true).await;
    assert!(!login(&policy, "s2").check(&ledger, &Tenant::default()).await);
}

#[tokio::test(start_paused = true)]
async fn evicting_logins_at_once_do_not_share_a_victim() {
    let policy = policy(&json!({"limits": {"perClient": 2}, "strategy": "RevokeOldest"}));
    let list = with(&["s0", "s1"]).list();
    let replicas = replicas(2, Memory::default());
    let (first, second) = (login(&policy, "s2"), login(&policy, "s3"));
    let (mut attempt1, mut attempt2) = (first.begin(&replicas[0]).await, second.begin(&replicas[1]).await);
    let (since1, since2) = (attempt1.since(), attempt2.since());
    let (one, other) = futures::join!(
        first.admit(&mut attempt1, since1, &list, soon()),
        second.admit(&mut attempt2, since2, &list, soon()),
    );
    let mut victims: Vec<String> = [one, other]
        .into_iter()
        .flat_map(|decision| match decision {
            Ok(Decision::Evict { victims, .. }) => victims,
            other => panic!("{other:?}"),
        })
        .collect();
    victims.sort();
    assert_eq!(victims, ["s0", "s1"]);
}

#[tokio::test(start_paused = true)]
async fn one_of_two_evicting_logins_for_one_place_is_blocked() {
    let policy = evicting();
    let list = with(&["s0"]).list();
    let replicas = replicas(2, Memory::default());
    let (first, second) = (login(&policy, "s1"), login(&policy, "s2"));
    let (mut attempt1, mut attempt2) = (first.begin(&replicas[0]).await, second.begin(&replicas[1]).await);
    let (since1, since2) = (attempt1.since(), attempt2.since());
    let decisions = futures::join!(
        first.admit(&mut attempt1, since1, &list, soon()),
        second.admit(&mut attempt2, since2, &list, soon()),
    );
    let evicts = |decision: &Result<Decision, Verdict>| matches!(decision, Ok(Decision::Evict { .. }));
    let blocked = |decision: &Result<Decision, Verdict>| matches!(decision, Ok(Decision::Exceeded { .. }));
    let (one, other) = &decisions;
    assert!(evicts(one) && blocked(other) || blocked(one) && evicts(other), "{decisions:?}");
}

#[tokio::test(start_paused = true)]
async fn revoked_session_is_dead_on_all_replicas_for_a_minute() {
    let replicas = replicas(2, Memory::default());
    let (policy, tenant) = (evicting(), with(&["s0"]));
    let victim = login(&policy, "s0");
    assert!(login(&policy, "s1").check(&replicas[0], &tenant).await);
    for replica in &replicas {
        assert!(victim.begin(replica).await.was_revoked());
    }
    // The newcomer went away, and the tenant still lists the victim.
    login(&policy, "s1").fail(&replicas[0], user(), false).await;
    advance(REVOKED_FOR - SECOND).await;
    let deny = one();
    assert!(login(&deny, "s2").check(&replicas[1], &tenant).await);
    login(&deny, "s2").fail(&replicas[1], user(), false).await;
    advance(SECOND * 2).await;
    assert!(!victim.begin(&replicas[1]).await.was_revoked());
    assert!(!login(&deny, "s2").check(&replicas[1], &tenant).await, "it is alive after all");
}

#[tokio::test(start_paused = true)]
async fn revoked_session_loses_its_entries() {
    let (ledger, policy) = (memory(), policy(&json!({"limits": {"perClient": 1}, "admissionWindow": "10m"})));
    assert!(login(&policy, "s1").check(&ledger, &Tenant::default()).await);
    let evicting = login(&policy, "s9").begin(&ledger).await;
    let eviction = Eviction { revoked: vec!["s1".to_owned()], not_revoked: Vec::new() };
    evicting.finish(eviction, false, soon()).await;
    assert!(login(&policy, "s2").check(&ledger, &Tenant::default()).await);
    login(&policy, "s2").fail(&ledger, user(), false).await;
    advance(REVOKED_FOR * 2).await;
    assert!(login(&policy, "s3").check(&ledger, &Tenant::default()).await, "also after its minute");
}

#[tokio::test(start_paused = true)]
async fn victim_that_was_not_revoked_counts_again_with_its_entries() {
    let (ledger, evicting) = (memory(), evicting());
    let elsewhere = policy(&json!({"limits": {"perClient": 1}}));
    // The victim also logs in to another application.
    assert!(Case { policy: &elsewhere, sid: "s0", client: "b" }.check(&ledger, &with(&["s0"])).await);
    let (attempt, decision) = login(&evicting, "s1").decide(&ledger, &with(&["s0"])).await;
    assert!(matches!(decision, Ok(Decision::Evict { .. })), "{decision:?}");
    attempt.finish(Eviction { revoked: Vec::new(), not_revoked: vec!["s0".to_owned()] }, false, soon()).await;
    assert!(!login(&evicting, "s0").begin(&ledger).await.was_revoked());
    assert!(!Case { policy: &elsewhere, sid: "s2", client: "b" }.check(&ledger, &with(&["s0"])).await);
    assert!(!login(&elsewhere, "s3").check(&ledger, &with(&["s0"])).await);
    let size = ledger.stats().size;
    assert_eq!(size, 5, "the listing, the victim's entry, and the logins that were blocked, which do not count");
}

#[tokio::test(start_paused = true)]
async fn victim_that_no_eviction_names_counts_again() {
    let (ledger, evicting) = (memory(), evicting());
    let (attempt, _) = login(&evicting, "s1").decide(&ledger, &with(&["s0"])).await;
    attempt.finish(Eviction::default(), false, soon()).await;
    assert!(!login(&evicting, "s0").begin(&ledger).await.was_revoked());
    assert!(!login(&one(), "s2").check(&ledger, &with(&["s0"])).await);
    assert!(login(&one(), "s2").check(&ledger, &Tenant::default()).await, "the login that was blocked does not count");
}

#[tokio::test(start_paused = true)]
async fn session_chosen_for_eviction_during_its_check_is_blocked() {
    let (ledger, policy, tenant) = (memory(), evicting(), with(&["s0"]));
    let dying = Case { policy: &policy, sid: "s0", client: "b" };
    let mut attempt = dying.begin(&ledger).await;
    assert!(!attempt.was_revoked());
    let (_evicting, decision) = login(&policy, "s1").decide(&ledger, &tenant).await;
    assert!(matches!(decision, Ok(Decision::Evict { .. })), "{decision:?}");
    let since = attempt.since();
    let verdict = dying.admit(&mut attempt, since, &tenant.list(), soon()).await;
    assert_eq!(verdict, Err(Verdict::SessionRevoked));
}

#[tokio::test(start_paused = true)]
async fn dropped_attempt_undoes_what_it_wrote() {
    let (ledger, policy, tenant) = (memory(), evicting(), with(&["s0"]));
    let (attempt, decision) = login(&policy, "s1").decide(&ledger, &tenant).await;
    assert!(matches!(decision, Ok(Decision::Evict { .. })), "{decision:?}");
    assert_eq!(ledger.stats().size, 3, "the login, its victim and the listing");
    assert!(login(&policy, "s0").begin(&ledger).await.was_revoked());
    drop(attempt);
    tokio::task::yield_now().await;
    assert!(!login(&policy, "s0").begin(&ledger).await.was_revoked());
    assert!(login(&one(), "s2").check(&ledger, &Tenant::default()).await, "what is left of the login does not count");
}

#[tokio::test(start_paused = true)]
async fn dropped_attempt_keeps_the_entry_of_an_earlier_one() {
    let (ledger, policy, nothing) = (memory(), one(), Tenant::default());
    assert!(login(&policy, "s1").check(&ledger, &nothing).await);
    drop(login(&policy, "s1").decide(&ledger, &nothing).await);
    tokio::task::yield_now().await;
    assert!(!login(&policy, "s2").check(&ledger, &nothing).await);
}

#[tokio::test(start_paused = true)]
async fn attempt_is_undone_without_a_runtime_by_time_alone() {
    let (ledger, policy, nothing) = (memory(), one(), Tenant::default());
    let attempt = login(&policy, "s1").decide(&ledger, &nothing).await;
    std::thread::spawn(move || drop(attempt)).join().unwrap();
    tokio::task::yield_now().await;
    assert!(!login(&policy, "s2").check(&ledger, &nothing).await);
    advance(WINDOW + TIMEOUT + MAX_LIST_AGE).await;
    assert!(login(&policy, "s3").check(&ledger, &nothing).await);
    advance(PENDING_FOR).await;
    assert_eq!(ledger.stats().size, 0);
}

#[tokio::test(start_paused = true)]
async fn end_is_recorded_though_its_check_is_dropped() {
    let replicas = replicas(1, Memory::default());
    let (policy, tenant) = (evicting(), with(&["s0"]));
    let victim = login(&policy, "s0");
    let (attempt, _) = login(&policy, "s1").decide(&replicas[0], &tenant).await;
    let mut end = Box::pin(attempt.finish(Eviction::default(), false, soon()));
    assert!(end.as_mut().now_or_never().is_none(), "the store lets others go first");
    drop(end);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!victim.begin(&replicas[0]).await.was_revoked());
    assert!(login(&one(), "s2").check(&replicas[0], &Tenant::default()).await, "the login does not count");
}

#[tokio::test(start_paused = true)]
async fn end_is_recorded_after_the_deadline() {
    let replicas = replicas(1, Memory::default());
    let (policy, tenant) = (evicting(), with(&["s0"]));
    let (attempt, _) = login(&policy, "s1").decide(&replicas[0], &tenant).await;
    let passed = soon();
    advance(TIMEOUT * 2).await;
    attempt.finish(Eviction::default(), false, passed).now_or_never().expect("the deadline has passed");
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!login(&policy, "s0").begin(&replicas[0]).await.was_revoked());
    assert!(login(&one(), "s2").check(&replicas[0], &Tenant::default()).await, "the login does not count");
}

#[tokio::test(start_paused = true)]
async fn check_that_loses_to_another_replica_decides_again() {
    let store = std::sync::Arc::new(Memory::default());
    let (here, there) = (ledger(Direct(store.clone())), ledger(Direct(store)));
    let (policy, nothing) = (one(), Tenant::default());
    let (first, second) = (login(&policy, "s1"), login(&policy, "s2"));
    let mut attempt = first.begin(&here).await;
    let since = attempt.since();
    let mut times = 0;
    let faster = |_: &Decision| {
        times += 1;
        if times == 1 {
            assert!(second.check(&there, &nothing).now_or_never().unwrap());
        }
    };
    let decision = first.admit_between(&mut attempt, since, &nothing.list(), soon(), faster).await;
    assert!(matches!(decision, Ok(Decision::Exceeded { .. })), "{decision:?}");
    assert_eq!((times, here.stats().conflicts, there.stats().conflicts), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn check_recognizes_its_own_repeated_exchange() {
    let (ledger, policy, tenant) = (ledger(Repeated(Memory::default())), evicting(), with(&["s0"]));
    let (_attempt, decision) = login(&policy, "s1").decide(&ledger, &tenant).await;
    assert!(matches!(&decision, Ok(Decision::Evict { victims, .. }) if *victims == ["s0"]), "{decision:?}");
    assert_eq!(ledger.stats().conflicts, 0);
}

#[tokio::test(start_paused = true)]
async fn check_without_the_lock_by_its_deadline_is_overloaded() {
    let (ledger, policy, list) = (ledger(Stuck(Memory::default())), one(), SessionList::default());
    let (first, second) = (login(&policy, "s1"), login(&policy, "s2"));
    let (mut attempt1, mut attempt2) = (first.begin(&ledger).await, second.begin(&ledger).await);
    let (since, deadline) = (attempt1.since(), soon());
    let decisions = futures::join!(
        first.admit(&mut attempt1, since, &list, deadline),
        second.admit(&mut attempt2, since, &list, deadline),
    );
    let overloaded = Err(Verdict::Failed { failure: Failure::Overloaded, count: None, revoked: None });
    assert_eq!(decisions, (overloaded.clone(), overloaded));
    assert_eq!(ledger.stats().size, 0);
}

#[tokio::test(start_paused = true)]
async fn memory_forgets_the_oldest_and_counts_them() {
    let (ledger, policy) = (ledger(Memory::new(3)), one());
    let users: Vec<UserKey> = (0..5).map(|user| UserKey::new("t", &user.to_string())).collect();
    for user in &users {
        login(&policy, "s").fail(&ledger, user.clone(), true).await;
    }
    let stats = ledger.stats();
    assert_eq!((stats.size, stats.forgotten), (3, 2));
    let (s2, nothing) = (login(&policy, "s2"), Tenant::default().list());
    for (user, was_there) in [(&users[4], true), (&users[0], false)] {
        let mut attempt = s2.begin_as(user.clone(), &ledger).await;
        let since = attempt.since();
        let decision = s2.admit(&mut attempt, since, &nothing, soon()).await;
        assert_eq!(matches!(decision, Ok(Decision::Exceeded { .. })), was_there, "{decision:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_in_bytes_whatever_the_ids() {
    let (ledger, policy) = (ledger(Memory::default()), one());
    let long = "i".repeat(1_024);
    // With ids of a kilobyte the entries reach the bound of bytes long before that of their number.
    for user in 0..20_000 {
        let (sid, client) = (format!("{user}{long}"), long.as_str());
        let case = Case { policy: &policy, sid: &sid, client };
        case.fail(&ledger, UserKey::new("t", &format!("{user}{}", long.repeat(4))), true).await;
    }
    let stats = ledger.stats();
    assert!(stats.bytes <= MAX_BYTES && stats.bytes > MAX_BYTES / 2, "{stats:?}");
    assert!(stats.bytes >= stats.size * 2 * long.len(), "{stats:?}");
    assert_eq!(stats.size as u64 + stats.forgotten, 20_000);
    advance(PENDING_FOR).await;
    assert_eq!((ledger.stats().size, ledger.stats().bytes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_for_a_single_user() {
    let (ledger, policy) = (ledger(Memory::default()), one());
    for login in 0..1_000 {
        let sid = format!("{login}{}", "i".repeat(1_024));
        let case = Case { policy: &policy, sid: &sid, client: "a" };
        case.fail(&ledger, user(), true).await;
    }
    let stats = ledger.stats();
    assert!(stats.bytes <= MAX_BYTES / 64 && stats.size > 100, "{stats:?}");
    assert_eq!(stats.size as u64 + stats.forgotten, 1_000);
}

#[tokio::test(start_paused = true)]
async fn length_of_a_users_id_does_not_change_the_bytes() {
    let policy = one();
    let mut bytes = Vec::new();
    for length in [1, 4_096] {
        let ledger = memory();
        login(&policy, "s").fail(&ledger, UserKey::new("t", &"u".repeat(length)), true).await;
        bytes.push(ledger.stats().bytes);
    }
    assert_eq!(bytes[0], bytes[1]);
}

#[tokio::test(start_paused = true)]
async fn bound_holds_for_a_single_user() {
    let (ledger, policy) = (ledger(Memory::new(3)), one());
    for sid in ["s1", "s2", "s3", "s4", "s5"] {
        login(&policy, sid).fail(&ledger, user(), true).await;
    }
    assert_eq!((ledger.stats().size, ledger.stats().forgotten), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn expired_entries_leave_nothing() {
    let (ledger, policy) = (memory(), one());
    for user in 0..1_000 {
        login(&policy, "s").fail(&ledger, UserKey::new("t", &user.to_string()), true).await;
    }
    assert_eq!(ledger.stats().size, 1_000);
    advance(PENDING_FOR).await;
    assert_eq!((ledger.stats().size, ledger.stats().forgotten), (0, 0));
}

#[test]
fn user_is_not_printed() {
    assert_eq!(format!("{:?}", user()), "UserKey");
}
