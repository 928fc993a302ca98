//! Measures how long a policy takes to decide a login from the user's sessions.

use std::collections::HashSet;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use session_checker::policy::{
    Decision, LimitInputs, ListedSession, Login, LoginContext, Manifest, ObjectName, Origins, Policy, SessionList,
    compile,
};

fn policy(strategy: &str, limit: usize) -> Policy {
    let spec = json!({
        "tenant": { "domain": "acme.eu.auth0.com", "credentialsSecretRef": { "name": "auth0" } },
        "limits": { "perClient": limit },
        "strategy": strategy,
    });
    compile(&Manifest { name: ObjectName::new("team", "seats"), generation: 1, created_at: None, spec })
        .expect("the manifest compiles")
}

/// A session list as Auth0 returns it. All dates are set. Every second session has the application of the login, and all have
/// another application.
fn sessions(count: usize, now: Timestamp) -> SessionList {
    let ago = |minutes: usize| Some(now - SignedDuration::from_mins(minutes as i64));
    let ahead = Some(now + SignedDuration::from_hours(1));
    let entries = (0..count).map(|n| ListedSession {
        id: format!("{n:032}"),
        user_id: Some("auth0|507f1f77bcf86cd799439020".to_owned()),
        created_at: ago(count - n),
        authenticated_at: ago(count - n),
        last_interacted_at: ago((count - n) / 2),
        idle_expires_at: ahead,
        expires_at: ahead,
        clients: Some(if n % 2 == 0 { vec!["c1".to_owned(), "c2".to_owned()] } else { vec!["c2".to_owned()] }),
        has_unreadable_clients: false,
        has_actor: false,
    });
    SessionList::new("auth0|507f1f77bcf86cd799439020", entries)
}

fn decide(c: &mut Criterion) {
    let now = Timestamp::from_second(1_767_323_045).expect("a time");
    let newest = |count: usize| format!("{:032}", (count - 1) / 2 * 2);
    for (case, strategy, has_room) in
        [("newcomer", "Deny", true), ("holder", "Deny", true), ("evicting", "RevokeOldest", false)]
    {
        let mut group = c.benchmark_group(case);
        for count in [1, 50, 1000] {
            let list = sessions(count, now);
            let with_application = count.div_ceil(2);
            let policy = policy(strategy, if has_room { with_application + 1 } else { with_application });
            let sid = if case == "holder" { newest(count) } else { "a-new-session".to_owned() };
            let login =
                Login::new("auth0|507f1f77bcf86cd799439020".into(), "c1".into(), Some(sid), LoginContext::default())
                    .expect("the login is valid");
            let decision = || {
                let limit_check = policy.pre_checks(&login, now).expect("no pre-check answers");
                limit_check.decide(LimitInputs {
                    sessions: &list,
                    admissions: &[],
                    revoked: &HashSet::new(),
                    origins: &Origins::default(),
                    now,
                })
            };
            let is_expected = match case {
                "newcomer" => matches!(decision(), Decision::Within { holder: false, .. }),
                "holder" => matches!(decision(), Decision::Within { holder: true, .. }),
                _ => matches!(decision(), Decision::Evict { .. }),
            };
            assert!(is_expected, "{case} with {count} sessions");
            group.bench_function(BenchmarkId::from_parameter(count), |b| b.iter(|| black_box(decision())));
        }
        group.finish();
    }
}

criterion_group!(benches, decide);
criterion_main!(benches);
