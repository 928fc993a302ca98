//! Counts logins over a limit, by application and by what the limit counts.

use std::collections::HashMap;

use crate::metrics::{BegunCounters, MetricRegistry};
use crate::policy::{Answer, Mode, Policy, PolicyVersion, Reason, Strategy};

/// The application of a login whose policy does not name it. What callers send makes no series.
const OTHER: &str = "other";
/// Series begin with the policy, so that its first block is an increase. In a service with more policies the others' begin with
/// their first login over a limit: 10,000 policies would add 10,000 lines to each scrape for series that may never count.
pub(super) const MAX_BEGUN_POLICIES: usize = 1000;
/// The applications of a policy whose series begin with it.
const MAX_BEGUN_APPLICATIONS: usize = 10;

/// What happened to a login over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OverLimitOutcome {
    /// It was blocked.
    Blocked,
    /// It was blocked, and its user was asked which sessions to end.
    Asked,
    /// It was allowed, and other sessions were ended.
    Evicted,
    /// It was allowed because its policy audits.
    Audited,
}

/// Counts logins over a limit.
pub(super) struct OverLimit(BegunCounters);

impl OverLimit {
    pub(super) fn new(registry: &MetricRegistry) -> Self {
        Self(registry.begun_counters(
            "over_limit_total",
            "Logins over a limit, by application (a client id of the policy's selector, else other), by what the limit counts, and by outcome: blocked, asked (which sessions to end), evicted (other sessions were ended) or audited (allowed under Audit).",
            &["policy", "tenant", "application", "scope", "outcome"],
        ))
    }

    /// Counts an answer, when the login was over a limit.
    pub(super) fn note(&self, answer: &Answer, version: Option<&PolicyVersion>, tenant: &str, client_id: &str) {
        let (Some(outcome), Some(count), Some(PolicyVersion::Compiled(policy))) =
            (OverLimitOutcome::of(answer), answer.count, version)
        else {
            return;
        };
        let application = if policy.scope.selector.names_client(client_id) { client_id } else { OTHER };
        let (policy, scope) = (policy.scope.name.as_str(), count.limit_scope.as_str());
        self.0.inc(&[policy, tenant, application, scope, outcome.as_str()]);
    }

    /// Begins the series of what each policy can answer, and ends those of applications that a policy no longer names.
    pub(super) fn begin<'a>(&self, policies: impl Iterator<Item = &'a Policy>) {
        let policies: HashMap<&str, &Policy> = policies.map(|policy| (policy.scope.name.as_str(), policy)).collect();
        self.0.retain(|labels| {
            let application = labels["application"];
            let is_named = |policy: &&Policy| policy.scope.selector.names_client(application);
            application == OTHER || policies.get(labels["policy"]).is_some_and(is_named)
        });
        if policies.len() <= MAX_BEGUN_POLICIES {
            policies.values().for_each(|policy| self.begin_policy(policy));
        }
    }

    fn begin_policy(&self, policy: &Policy) {
        let scope = &policy.scope;
        let named = scope.selector.clients.as_ref().filter(|clients| clients.len() <= MAX_BEGUN_APPLICATIONS);
        let begin = |application: &str| {
            for (limit_scope, _) in policy.limits.iter() {
                let outcome = OverLimitOutcome::usual(policy).as_str();
                let tenant = scope.tenant.domain();
                self.0.begin(&[scope.name.as_str(), tenant, application, limit_scope.as_str(), outcome]);
            }
        };
        match named {
            Some(clients) => clients.iter().for_each(|client| begin(client)),
            None => begin(OTHER),
        }
    }
}

impl OverLimitOutcome {
    fn of(answer: &Answer) -> Option<Self> {
        match (answer.reason, answer.audited_reason) {
            (Reason::LimitExceeded, _) if answer.choose_url.is_some() => Some(Self::Asked),
            (Reason::LimitExceeded, _) => Some(Self::Blocked),
            (Reason::Evicted, _) => Some(Self::Evicted),
            (_, Some(Reason::LimitExceeded | Reason::Evicted)) => Some(Self::Audited),
            _ => None,
        }
    }

    /// What a policy does with a login over a limit, unless something prevents it.
    const fn usual(policy: &Policy) -> Self {
        match (policy.enforcement.mode, policy.strategy) {
            (Mode::Audit, _) => Self::Audited,
            (_, Strategy::Deny) => Self::Blocked,
            (_, Strategy::Ask) => Self::Asked,
            (_, Strategy::RevokeOldest | Strategy::RevokeLeastRecentlyUsed | Strategy::RevokeNextToExpire) => {
                Self::Evicted
            }
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Asked => "asked",
            Self::Evicted => "evicted",
            Self::Audited => "audited",
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::core::Collector;
    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::LiveSeries;
    use crate::policy::{Count, LimitScope, Manifest, ObjectName, compile};

    const TENANT: &str = "acme.eu.auth0.com";

    fn version(extra: Value) -> PolicyVersion {
        let mut spec = json!({
            "tenant": { "domain": TENANT, "credentialsSecretRef": { "name": "auth0" } },
            "limits": { "perClient": 1, "perUser": 2 },
        });
        let Value::Object(extra) = extra else { panic!("the fields of a spec") };
        spec.as_object_mut().unwrap().extend(extra);
        let name = ObjectName::new("team", "seats");
        PolicyVersion::Compiled(compile(&Manifest { name, generation: 1, created_at: None, spec }).unwrap())
    }

    fn policy(version: &PolicyVersion) -> &Policy {
        let PolicyVersion::Compiled(policy) = version else { panic!("it compiles") };
        policy
    }

    fn over(answer: Answer) -> Answer {
        let count = Some(Count { limit_scope: LimitScope::User, limit: 2, active: 2, at_least: false });
        Answer { count, ..answer }
    }

    fn blocked() -> Answer {
        over(Answer { block: true, ..Answer::allow(Reason::LimitExceeded) })
    }

    /// The series of the family without its name, its policy and its tenant, with their values.
    fn series(registry: &MetricRegistry) -> Vec<String> {
        let text = registry.scrape(&LiveSeries::new([("team/seats".to_owned(), TENANT)]));
        let lines = text.lines().filter_map(|line| line.strip_prefix("session_checker_over_limit_total{"));
        lines
            .map(|line| line.replace(",policy=\"team/seats\"", "").replace(&format!(",tenant=\"{TENANT}\""), ""))
            .collect()
    }

    #[test]
    fn made_up_clients_make_no_series() {
        let registry = MetricRegistry::new();
        let over_limit = OverLimit::new(&registry);
        let version = version(json!({ "selector": { "clientIds": ["shop"] } }));
        over_limit.note(&blocked(), Some(&version), TENANT, "shop");
        for number in 0..10_000 {
            over_limit.note(&blocked(), Some(&version), TENANT, &format!("client-{number}"));
        }
        let expected = [
            r#"application="other",outcome="blocked",scope="user"} 10000"#,
            r#"application="shop",outcome="blocked",scope="user"} 1"#,
        ];
        assert_eq!(series(&registry), expected);
    }

    #[test]
    fn outcome_is_what_happened_to_the_login() {
        let registry = MetricRegistry::new();
        let over_limit = OverLimit::new(&registry);
        let version = version(json!({}));
        let audited = |reason| over(Answer { audited_reason: Some(reason), ..Answer::allow(Reason::Audit) });
        for answer in [
            blocked(),
            Answer { choose_url: Some("https://sessions.example.com/choose".into()), ..blocked() },
            over(Answer::allow(Reason::Evicted)),
            audited(Reason::LimitExceeded),
            audited(Reason::Evicted),
            // Not over a limit.
            over(Answer::allow(Reason::WithinLimit)),
            audited(Reason::NoSession),
            Answer { block: true, ..Answer::allow(Reason::NoSession) },
        ] {
            over_limit.note(&answer, Some(&version), TENANT, "shop");
        }
        over_limit.note(&blocked(), None, TENANT, "shop");
        let counted = series(&registry);
        let of =
            |outcome: &str, value: u32| format!(r#"application="other",outcome="{outcome}",scope="user"}} {value}"#);
        assert_eq!(counted, [of("asked", 1), of("audited", 2), of("blocked", 1), of("evicted", 1)]);
    }

    #[test]
    fn series_begin_with_the_policy_and_end_with_its_applications() {
        let registry = MetricRegistry::new();
        let over_limit = OverLimit::new(&registry);
        let begun = |extra: Value| {
            over_limit.begin(std::iter::once(policy(&version(extra))));
            series(&registry)
        };
        let of = |application: &str, outcome: &str| {
            ["client", "user"]
                .map(|scope| format!(r#"application="{application}",outcome="{outcome}",scope="{scope}"}} 0"#))
        };
        let selector = |clients: &[&str]| json!({ "selector": { "clientIds": clients } });
        assert_eq!(begun(selector(&["bank", "shop"])), [of("bank", "blocked"), of("shop", "blocked")].concat());
        assert_eq!(begun(selector(&["shop"])), of("shop", "blocked"));
        assert_eq!(begun(json!({ "strategy": "RevokeOldest" })), of("other", "evicted"));
        assert_eq!(begun(json!({ "mode": "Audit" })), of("other", "audited"));
        let many: Vec<_> = (0..11).map(|number| format!("app-{number}")).collect();
        let many = json!({ "selector": { "clientIds": many }, "strategy": "Ask" });
        assert_eq!(begun(many)[..2], of("other", "asked"));
    }

    #[test]
    fn series_of_many_policies_do_not_begin_by_themselves() {
        let registry = MetricRegistry::new();
        let over_limit = OverLimit::new(&registry);
        let one = version(json!({}));
        let policies: Vec<Policy> = (0..=MAX_BEGUN_POLICIES)
            .map(|number| {
                let mut policy = policy(&one).clone();
                policy.scope.name = ObjectName::new("team", format!("seats-{number}"));
                policy
            })
            .collect();
        over_limit.begin(policies.iter());
        assert_eq!(over_limit.0.collect()[0].get_metric().len(), 0);
    }
}
