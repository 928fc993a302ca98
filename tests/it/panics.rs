//! A defect of the service in the middle of a check: the failure policy answers.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use session_checker::auth0::{Observer, Operation, Outcome, UpstreamOptions};
use session_checker::metrics::{LiveSeries, MetricRegistry};
use session_checker::policy::{Answer, Login, LoginContext};
use session_checker::snapshot::ObservedState;
use simulator::{Session, Simulator};
use tokio::time::Instant;
use tracing::field::Field;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::assembly::Assembly;
use crate::common::{APP, DOMAIN, TOKEN, callers, credentials, policy, tenant};

/// Panics after a request of this operation, once it is armed.
struct Defect {
    operation: Operation,
    armed: Arc<AtomicBool>,
}

impl Observer for Defect {
    fn request(&self, _: &str, operation: Operation, _: Outcome, _: Duration) {
        assert!(operation != self.operation || !self.armed.load(Ordering::SeqCst), "a defect");
    }
}

struct Service {
    assembly: Assembly,
    armed: Arc<AtomicBool>,
}

impl Service {
    fn new(tenant: &Simulator, operation: Operation, spec: Value) -> Self {
        let armed = Arc::new(AtomicBool::new(true));
        let upstream = UpstreamOptions {
            endpoints: [(DOMAIN.to_owned(), tenant.url().parse().unwrap())].into(),
            observer: Arc::new(Defect { operation, armed: Arc::clone(&armed) }),
            ..UpstreamOptions::default()
        };
        let documents = [credentials(), callers(), policy("one", spec)];
        // There is place for one check of the tenant.
        let assembly = Assembly::new(MetricRegistry::new(), upstream, ObservedState::default(), 1, &documents);
        Self { assembly, armed }
    }

    async fn check(&self, sid: &str) -> Answer {
        let snapshot = self.assembly.checker.snapshot();
        let view = snapshot.policy_set.view(Some(TOKEN)).unwrap();
        let context = LoginContext::default();
        let login = Login::new("u".to_owned(), APP.to_owned(), Some(sid.to_owned()), context).unwrap();
        self.assembly.checker.check(&snapshot, view, &login, "test", Instant::now()).await
    }
}

/// Panics when the log line of a check is written.
struct DefectiveLog;

impl<S: Subscriber> Layer<S> for DefectiveLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut is_check = false;
        event.record(&mut |field: &Field, value: &dyn Debug| {
            is_check |= field.name() == "message" && format!("{value:?}") == "check";
        });
        assert!(!is_check, "a defect");
    }
}

#[tokio::test]
async fn panic_after_the_decision_leaves_the_answer() {
    let tenant = tenant().await;
    tenant.add_session("u", Session::new("old", tenant.now() - SignedDuration::from_mins(5)).client(APP));
    let service = Service::new(&tenant, Operation::Token, json!({}));
    service.armed.store(false, Ordering::SeqCst);
    let _log = tracing::subscriber::set_default(tracing_subscriber::registry().with(DefectiveLog));
    for _ in 0..2 {
        let answer = service.check("new").await;
        assert_eq!((answer.reason.as_str(), answer.block), ("limit_exceeded", true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn panic_in_a_check_is_answered_by_the_failure_policy() {
    // The list is requested in a task of its own, a revocation in the check's.
    for operation in [Operation::List, Operation::Revoke] {
        for failure_policy in ["Allow", "Deny"] {
            let tenant = tenant().await;
            let now = tenant.now();
            tenant.add_session("u", Session::new("old", now - SignedDuration::from_mins(5)).client(APP));
            tenant.add_session("u", Session::new("new", now));
            let spec = json!({ "failurePolicy": failure_policy, "strategy": "RevokeOldest" });
            let service = Service::new(&tenant, operation, spec);
            let answer = service.check("new").await;
            let case = format!("{operation:?} {failure_policy}");
            assert_eq!((answer.reason.as_str(), answer.block), ("internal_error", failure_policy == "Deny"), "{case}");
            let series = service.assembly.registry.scrape(&LiveSeries::new([("default/one".to_owned(), DOMAIN)]));
            let counted = series.lines().any(|line| {
                line.starts_with("session_checker_failure_policy_uses_total")
                    && line.contains("reason=\"internal_error\"")
                    && line.ends_with(" 1")
            });
            assert!(counted, "{case}: {series}");
            // The one place for a check of this tenant is free again, and so is the user.
            service.armed.store(false, Ordering::SeqCst);
            let answer = service.check("new").await;
            assert!(
                !matches!(answer.reason.as_str(), "internal_error" | "overloaded"),
                "{case}: {}",
                answer.reason.as_str()
            );
        }
    }
}
