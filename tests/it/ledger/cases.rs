//! The rules of the ledger, one by one.

use std::time::Duration;

use futures::FutureExt;
use serde_json::json;
use session_checker::ledger::{Attempt, Ledger, Listed, MAX_LIST_AGE, Memory, REVOKED_FOR, User};
use session_checker::policy::{Count, Decision, Failure, LimitScope, Policy, SessionList, Verdict};
use tokio::time::{Instant, advance};

use super::world::{Case, Direct, Repeated, Stuck, TIMEOUT, Tenant, WINDOW, memory, policy, replicas, user};

fn one() -> Policy {
    policy(&json!({"limits": {"perClient": 1}}))
}

fn evicting() -> Policy {
    policy(&json!({"limits": {"perClient": 1}, "strategy": "RevokeOldest"}))
}

fn login<'a>(policy: &'a Policy, sid: &'a str) -> Case<'a> {
    Case { policy, sid, client: "a" }
}

fn soon() -> Instant {
    Instant::now() + TIMEOUT
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
async fn a_login_counts_until_its_window_is_over_and_asking_again_does_not_extend_it() {
    let (ledger, policy, nothing) = (memory(), one(), Tenant::default());
    assert!(login(&policy, "s1").check(&ledger, &nothing).await);
    advance(WINDOW - SECOND).await;
    assert!(login(&policy, "s1").check(&ledger, &nothing).await, "its own entry does not count against it");
    assert!(!login(&policy, "s2").check(&ledger, &nothing).await);
    advance(SECOND).await;
    assert!(login(&policy, "s2").check(&ledger, &nothing).await);
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_is_taken_out_and_nothing_else_is() {
    let (ledger, policy) = (memory(), policy(&json!({"limits": {"perClient": 2}})));
    let nothing = Tenant::default();
    let (user, first, second) = (user(), login(&policy, "s1"), login(&policy, "s2"));
    assert!(first.check(&ledger, &nothing).await);
    assert!(second.check(&ledger, &nothing).await);
    assert!(!login(&policy, "s3").check(&ledger, &nothing).await);
    ledger.withdraw(&first.attempt(&user)).await;
    assert!(login(&policy, "s3").check(&ledger, &nothing).await, "the place that was given back");
    assert!(!login(&policy, "s4").check(&ledger, &nothing).await, "the other one was kept");
    assert!(!first.check(&ledger, &nothing).await);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_refused_when_it_asks_again_gives_its_place_back() {
    let (ledger, policy) = (memory(), one());
    assert!(login(&policy, "s1").check(&ledger, &Tenant::default()).await);
    assert!(!login(&policy, "s1").check(&ledger, &with(&["s0"])).await);
    assert!(login(&policy, "s2").check(&ledger, &Tenant::default()).await);
}

#[tokio::test(start_paused = true)]
async fn a_log_out_is_believed_at_once_by_whoever_asks_after_a_list_showed_the_login() {
    let (ledger, policy, nothing) = (memory(), one(), Tenant::default());
    let (second, third) = (login(&policy, "s2"), login(&policy, "s3"));
    assert!(login(&policy, "s1").check(&ledger, &nothing).await);
    let early = third.open(&ledger).await;
    advance(SECOND).await;
    assert!(!second.check(&ledger, &with(&["s1"])).await, "marks the entry");
    let decision = third.admit(&ledger, early.since, &nothing.list(), soon()).await;
    assert!(matches!(decision, Ok(Decision::Exceeded { .. })), "this list may be older than the login's end");
    advance(SECOND).await;
    assert!(second.check(&ledger, &nothing).await, "this one is not");
}

#[tokio::test(start_paused = true)]
async fn a_log_out_that_no_list_could_foresee_counts_until_the_window_ends() {
    let (ledger, policy, nothing) = (memory(), one(), Tenant::default());
    assert!(login(&policy, "s1").check(&ledger, &nothing).await);
    advance(SECOND).await;
    assert!(!login(&policy, "s2").check(&ledger, &nothing).await);
}

#[tokio::test(start_paused = true)]
async fn a_slow_list_cannot_outlive_the_entries_it_has_to_be_counted_with() {
    let (ledger, policy, nothing) = (memory(), one(), Tenant::default());
    let slow = login(&policy, "slow");
    assert!(login(&policy, "s1").check(&ledger, &nothing).await);
    advance(WINDOW - SECOND).await;
    let (opened, list) = (slow.open(&ledger).await, nothing.list());
    // It completes just after the list was made, at the end of its window.
    advance(TIMEOUT).await;
    assert_eq!(ledger.stats().size, 1, "kept, whatever is swept");
    let decision = slow.admit(&ledger, opened.since, &list, soon()).await;
    assert!(matches!(decision, Ok(Decision::Exceeded { .. })), "{decision:?}");
    // And the same for a list that is shared as long as one may be.
    advance(MAX_LIST_AGE - SECOND).await;
    assert_eq!(ledger.stats().size, 1);
    let decision = slow.admit(&ledger, opened.since, &list, soon()).await;
    assert!(matches!(decision, Ok(Decision::Exceeded { .. })), "{decision:?}");
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_shorter_than_a_check_may_take_lasts_as_long_as_one() {
    let (ledger, nothing) = (memory(), Tenant::default());
    let policy = policy(&json!({"limits": {"perClient": 1}, "admissionWindow": "1s"}));
    assert!(login(&policy, "s1").check(&ledger, &nothing).await);
    advance(TIMEOUT - SECOND).await;
    assert!(!login(&policy, "s2").check(&ledger, &nothing).await);
    advance(SECOND).await;
    assert!(login(&policy, "s2").check(&ledger, &nothing).await);
}

#[tokio::test(start_paused = true)]
async fn without_a_window_nothing_is_written_and_everything_is_read() {
    let (ledger, nothing) = (memory(), Tenant::default());
    let off = policy(&json!({"limits": {"perClient": 1}, "admissionWindow": "0s"}));
    assert!(login(&off, "s1").check(&ledger, &nothing).await);
    assert_eq!(ledger.stats().size, 0);
    assert!(login(&one(), "s2").check(&ledger, &nothing).await);
    assert!(!login(&off, "s3").check(&ledger, &nothing).await);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_the_list_shows_already_is_not_remembered() {
    let (ledger, policy) = (memory(), one());
    assert!(login(&policy, "s1").check(&ledger, &with(&["s1"])).await);
    assert_eq!(ledger.stats().size, 0);
}

#[tokio::test(start_paused = true)]
async fn an_auditing_policy_remembers_every_login_and_reserves_nothing() {
    let (ledger, policy, user) = (memory(), evicting(), user());
    let tenant = with(&["s1"]);
    let list = tenant.list();
    let login = login(&policy, "s2");
    let opened = login.open(&ledger).await;
    let attempt = Attempt { enforced: false, ..login.attempt(&user) };
    let listed = Listed { sessions: &list, since: opened.since };
    let evict = |_: &[_], _: &_| Decision::Evict {
        count: Count { limit_scope: LimitScope::Client, limit: 1, active: 1 },
        victims: vec!["s1".to_owned()],
    };
    ledger.admit(&attempt, listed, soon(), evict).await.unwrap();
    assert_eq!(ledger.stats().size, 1, "the login");
    assert!(!ledger.open(&user, Some("s1")).await.revoked);
}

#[tokio::test(start_paused = true)]
async fn users_and_tenants_do_not_count_for_each_other() {
    let (ledger, policy) = (memory(), one());
    assert!(login(&policy, "s1").check(&ledger, &Tenant::default()).await);
    for other in [User::new("acme.eu.auth0.com", "v"), User::new("other.eu.auth0.com", "u")] {
        let login = login(&policy, "s1");
        ledger.remember(&login.attempt(&other)).await;
        ledger.withdraw(&login.attempt(&other)).await;
    }
    assert!(!login(&policy, "s2").check(&ledger, &Tenant::default()).await);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_the_failure_policy_lets_in_is_remembered() {
    let (ledger, policy, user) = (memory(), one(), user());
    ledger.remember(&login(&policy, "s1").attempt(&user)).await;
    assert!(!login(&policy, "s2").check(&ledger, &Tenant::default()).await);
}

#[tokio::test(start_paused = true)]
async fn two_evicting_logins_at_once_never_share_a_victim() {
    let policy = policy(&json!({"limits": {"perClient": 2}, "strategy": "RevokeOldest"}));
    let list = with(&["s0", "s1"]).list();
    let replicas = replicas(2, Memory::default());
    let (first, second) = (login(&policy, "s2"), login(&policy, "s3"));
    let (since1, since2) = (first.open(&replicas[0]).await.since, second.open(&replicas[1]).await.since);
    let (one, other) = futures::join!(
        first.admit(&replicas[0], since1, &list, soon()),
        second.admit(&replicas[1], since2, &list, soon()),
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
async fn of_two_evicting_logins_at_once_for_one_place_one_is_refused() {
    let policy = evicting();
    let list = with(&["s0"]).list();
    let replicas = replicas(2, Memory::default());
    let (first, second) = (login(&policy, "s1"), login(&policy, "s2"));
    let (since1, since2) = (first.open(&replicas[0]).await.since, second.open(&replicas[1]).await.since);
    let decisions = futures::join!(
        first.admit(&replicas[0], since1, &list, soon()),
        second.admit(&replicas[1], since2, &list, soon()),
    );
    let evicts = |decision: &Result<Decision, Verdict>| matches!(decision, Ok(Decision::Evict { .. }));
    let refused = |decision: &Result<Decision, Verdict>| matches!(decision, Ok(Decision::Exceeded { .. }));
    let (one, other) = &decisions;
    assert!(evicts(one) && refused(other) || refused(one) && evicts(other), "{decisions:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_revoked_is_neither_counted_nor_revoked_again_for_a_minute_on_all_replicas() {
    let replicas = replicas(2, Memory::default());
    let (policy, user, tenant) = (evicting(), user(), with(&["s0"]));
    assert!(login(&policy, "s1").check(&replicas[0], &tenant).await);
    replicas[0].settle(&user, &["s0".to_owned()], &[]).await;
    for replica in &replicas {
        assert!(replica.open(&user, Some("s0")).await.revoked);
    }
    // The newcomer went away, the tenant still lists what was revoked.
    replicas[0].withdraw(&login(&policy, "s1").attempt(&user)).await;
    advance(REVOKED_FOR - SECOND).await;
    let deny = one();
    assert!(login(&deny, "s2").check(&replicas[1], &tenant).await);
    replicas[1].withdraw(&login(&deny, "s2").attempt(&user)).await;
    advance(SECOND * 2).await;
    assert!(!replicas[1].open(&user, Some("s0")).await.revoked);
    assert!(!login(&deny, "s2").check(&replicas[1], &tenant).await, "it is alive after all");
}

#[tokio::test(start_paused = true)]
async fn a_revoked_session_takes_its_entries_with_it() {
    let (ledger, policy, user) =
        (memory(), policy(&json!({"limits": {"perClient": 1}, "admissionWindow": "10m"})), user());
    assert!(login(&policy, "s1").check(&ledger, &Tenant::default()).await);
    ledger.settle(&user, &["s1".to_owned()], &[]).await;
    assert!(login(&policy, "s2").check(&ledger, &Tenant::default()).await);
    ledger.withdraw(&login(&policy, "s2").attempt(&user)).await;
    advance(REVOKED_FOR * 2).await;
    assert!(login(&policy, "s3").check(&ledger, &Tenant::default()).await, "also after its minute");
}

#[tokio::test(start_paused = true)]
async fn a_victim_that_could_not_be_revoked_counts_again_with_all_that_is_remembered_of_it() {
    let (ledger, evicting, user) = (memory(), evicting(), user());
    let elsewhere = policy(&json!({"limits": {"perClient": 1}}));
    // The victim is also on its way into another application.
    assert!(Case { policy: &elsewhere, sid: "s0", client: "b" }.check(&ledger, &with(&["s0"])).await);
    assert!(login(&evicting, "s1").check(&ledger, &with(&["s0"])).await);
    ledger.settle(&user, &[], &["s0".to_owned()]).await;
    ledger.withdraw(&login(&evicting, "s1").attempt(&user)).await;
    assert!(!ledger.open(&user, Some("s0")).await.revoked);
    assert!(!Case { policy: &elsewhere, sid: "s2", client: "b" }.check(&ledger, &with(&["s0"])).await);
    assert!(!login(&elsewhere, "s3").check(&ledger, &with(&["s0"])).await);
    assert_eq!(ledger.stats().size, 1, "the victim's entry; none of the login that failed");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_chosen_to_give_way_while_its_own_check_was_under_way_is_not_let_in() {
    let (ledger, policy, tenant) = (memory(), evicting(), with(&["s0"]));
    let dying = Case { policy: &policy, sid: "s0", client: "b" };
    let opened = dying.open(&ledger).await;
    assert!(!opened.revoked);
    assert!(login(&policy, "s1").check(&ledger, &tenant).await);
    let verdict = dying.admit(&ledger, opened.since, &tenant.list(), soon()).await;
    assert_eq!(verdict, Err(Verdict::SessionRevoked));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_loses_to_another_replica_decides_again_on_the_same_list() {
    let store = std::sync::Arc::new(Memory::default());
    let (here, there) = (Ledger::new(Direct(store.clone())), Ledger::new(Direct(store)));
    let (policy, nothing) = (one(), Tenant::default());
    let (first, second) = (login(&policy, "s1"), login(&policy, "s2"));
    let since = first.open(&here).await.since;
    let mut times = 0;
    let faster = || {
        times += 1;
        if times == 1 {
            assert!(second.check(&there, &nothing).now_or_never().unwrap());
        }
    };
    let decision = first.admit_meanwhile(&here, since, &nothing.list(), soon(), faster).await;
    assert!(matches!(decision, Ok(Decision::Exceeded { .. })), "{decision:?}");
    assert_eq!((times, here.stats().conflicts, there.stats().conflicts), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_check_does_not_take_its_own_exchange_for_that_of_another_replica() {
    let (ledger, policy, tenant) = (Ledger::new(Repeated(Memory::default())), evicting(), with(&["s0"]));
    let first = login(&policy, "s1");
    let since = first.open(&ledger).await.since;
    let decision = first.admit(&ledger, since, &tenant.list(), soon()).await;
    assert!(matches!(&decision, Ok(Decision::Evict { victims, .. }) if *victims == ["s0"]), "{decision:?}");
    assert_eq!(ledger.stats().conflicts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_check_whose_turn_does_not_come_until_its_deadline_is_overloaded_and_leaves_nothing() {
    let (ledger, policy, list) = (Ledger::new(Stuck(Memory::default())), one(), SessionList::default());
    let (first, second) = (login(&policy, "s1"), login(&policy, "s2"));
    let since = first.open(&memory()).await.since;
    let deadline = soon();
    let decisions =
        futures::join!(first.admit(&ledger, since, &list, deadline), second.admit(&ledger, since, &list, deadline),);
    let overloaded = Err(Verdict::Failed { failure: Failure::Overloaded, count: None, revoked: None });
    assert_eq!(decisions, (overloaded.clone(), overloaded));
    assert_eq!(ledger.stats().size, 0);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_the_oldest_go_first_and_are_counted() {
    let (ledger, policy) = (Ledger::new(Memory::new(3)), one());
    let users: Vec<User> = (0..5).map(|user| User::new("t", &user.to_string())).collect();
    for user in &users {
        ledger.remember(&login(&policy, "s").attempt(user)).await;
    }
    let stats = ledger.stats();
    assert_eq!((stats.size, stats.forgotten), (3, 2));
    ledger.withdraw(&login(&policy, "s").attempt(&users[0])).await;
    assert_eq!(ledger.stats().size, 3, "the first was gone");
    ledger.withdraw(&login(&policy, "s").attempt(&users[4])).await;
    assert_eq!(ledger.stats().size, 2, "the last was there");
}

#[tokio::test(start_paused = true)]
async fn the_bound_holds_for_a_single_user_too() {
    let (ledger, policy, user) = (Ledger::new(Memory::new(3)), one(), user());
    for sid in ["s1", "s2", "s3", "s4", "s5"] {
        ledger.remember(&login(&policy, sid).attempt(&user)).await;
    }
    assert_eq!((ledger.stats().size, ledger.stats().forgotten), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_leaves_nothing_behind() {
    let (ledger, policy) = (memory(), one());
    for user in 0..1_000 {
        ledger.remember(&login(&policy, "s").attempt(&User::new("t", &user.to_string()))).await;
    }
    assert_eq!(ledger.stats().size, 1_000);
    advance(WINDOW + TIMEOUT + MAX_LIST_AGE).await;
    assert_eq!((ledger.stats().size, ledger.stats().forgotten), (0, 0));
}

#[test]
fn a_user_is_not_printed() {
    assert_eq!(format!("{:?}", user()), "User");
}
