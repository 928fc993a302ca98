//! Whether the service works, step by step: what each policy and tenant needs, and what to do about what is missing.
//!
//! An examination changes nothing. It sends each tenant at most a token request and a list of a user that does not exist.

mod step;
mod tenant;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::book;
use crate::policy::{Condition, ConditionStatus, Mode, ObjectName, PolicyReport};
use crate::redis::Redis;
use crate::snapshot::Snapshot;

pub use step::ExamStep;

/// How long an examination is kept, so that a loop of requests does not use up the tenants' rate limits.
const KEPT_FOR: Duration = Duration::from_secs(10);
/// How many tenants are examined at once.
const CONCURRENT_TENANTS: usize = 8;
/// A check that is longer ago than this is worth a look: most tenants have logins every day.
const QUIET_TIME: Duration = Duration::from_secs(24 * 3600);

/// The result of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExamStatus {
    /// It works.
    Ok,
    /// It works, or nobody knows, and somebody should read it.
    Notice,
    /// It does not work.
    Problem,
}

/// One step of an examination.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExamLine {
    /// What was examined: a policy, a tenant, the ledger or the service.
    pub subject: String,
    /// The step, as text: a service of another version may take others.
    pub step: Cow<'static, str>,
    /// The result.
    pub status: ExamStatus,
    /// What was found.
    pub detail: String,
    /// What to do, unless all is well.
    pub remedy: Option<String>,
    /// Where the documentation explains the step, unless all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// All steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Examination {
    /// When the examination ended.
    pub at: Timestamp,
    /// Whether no step has a problem.
    pub healthy: bool,
    /// The steps.
    pub lines: Vec<ExamLine>,
}

/// What only a running service knows of a policy.
pub struct Observation {
    /// When the policy last answered a check.
    pub last_check: Option<Timestamp>,
    /// The condition `Enforcing`.
    pub enforcing: Condition,
}

/// Examines, and keeps the latest examination for a moment.
pub struct Doctor {
    redis: Option<Redis>,
    /// The time limit of an operation on the ledger.
    ledger_timeout: Duration,
    replicas: u32,
    latest: Mutex<Option<(Instant, Arc<Examination>)>>,
}

impl ExamLine {
    fn new(subject: &str, step: ExamStep, status: ExamStatus, detail: impl Into<String>) -> Self {
        let help = (status != ExamStatus::Ok).then(|| book::doctor_step(step.as_str()));
        Self {
            subject: subject.to_owned(),
            step: step.as_str().into(),
            status,
            detail: detail.into(),
            remedy: None,
            help,
        }
    }

    fn ok(subject: &str, step: ExamStep, detail: impl Into<String>) -> Self {
        Self::new(subject, step, ExamStatus::Ok, detail)
    }

    fn notice(subject: &str, step: ExamStep, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(subject, step, ExamStatus::Notice, detail) }
    }

    fn problem(subject: &str, step: ExamStep, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(subject, step, ExamStatus::Problem, detail) }
    }
}

impl Doctor {
    /// Examines with this ledger. `replicas` share it, or should.
    pub fn new(redis: Option<Redis>, ledger_timeout: Duration, replicas: u32) -> Self {
        Self { redis, ledger_timeout, replicas, latest: Mutex::default() }
    }

    /// Examines the policies of a snapshot and their tenants. `observe` returns what a running service knows of a policy. An
    /// examination of a moment ago is returned again.
    pub async fn examine(
        &self,
        snapshot: &Snapshot,
        observe: Option<&(dyn Fn(&PolicyReport) -> Observation + Sync)>,
    ) -> Arc<Examination> {
        let mut latest = self.latest.lock().await;
        if let Some((at, examination)) = &*latest
            && at.elapsed() < KEPT_FOR
        {
            return Arc::clone(examination);
        }
        let mut lines = service_lines(snapshot);
        for report in snapshot.reports.iter() {
            policy_lines(report, observe.map(|observe| observe(report)), &mut lines);
        }
        let tenants = tenant::tenants(snapshot);
        let examined: Vec<Vec<ExamLine>> =
            stream::iter(tenants).map(tenant::examine).buffered(CONCURRENT_TENANTS).collect().await;
        lines.extend(examined.into_iter().flatten());
        lines.push(self.ledger_line().await);
        let healthy = lines.iter().all(|line| line.status != ExamStatus::Problem);
        let examination = Arc::new(Examination { at: Timestamp::now(), healthy, lines });
        *latest = Some((Instant::now(), Arc::clone(&examination)));
        examination
    }

    async fn ledger_line(&self) -> ExamLine {
        let (subject, step) = ("ledger", ExamStep::RoundTrip);
        let Some(redis) = &self.redis else {
            return if self.replicas > 1 {
                let detail = format!("{} replicas share no ledger, so each counts its own logins only", self.replicas);
                ExamLine::problem(subject, step, detail, "set --ledger (chart value ledger.urlSecret.name)")
            } else {
                ExamLine::ok(subject, step, "in memory, for one replica")
            };
        };
        let took = match redis.round_trip().await {
            Ok(took) => took,
            Err(error) => {
                let remedy = "check the URL of --ledger, its password and CA, and that the Pod reaches the server within \
                              --ledger-timeout; until then each replica counts its own logins only";
                return ExamLine::problem(subject, step, error, remedy);
            }
        };
        round_trip_line(took, self.ledger_timeout)
    }
}

fn round_trip_line(took: Duration, bound: Duration) -> ExamLine {
    let (subject, step) = ("ledger", ExamStep::RoundTrip);
    let (took_ms, most_ms) = (took.as_millis(), bound.as_millis());
    let detail = format!("a read and a write took {took_ms} ms; one operation may take {most_ms} ms");
    if took > bound {
        let remedy = "use a server nearer to the service, or raise --ledger-timeout";
        ExamLine::notice(subject, step, detail, remedy)
    } else {
        ExamLine::ok(subject, step, detail)
    }
}

fn service_lines(snapshot: &Snapshot) -> Vec<ExamLine> {
    let file = |file: &crate::snapshot::FileReport| {
        ExamLine::problem(
            &format!("file {}", file.file),
            ExamStep::Read,
            file.error.clone(),
            "`session-checker validate` shows the line",
        )
    };
    let mut lines: Vec<ExamLine> = snapshot.files.iter().map(file).collect();
    if snapshot.reports.is_empty() {
        lines.push(ExamLine::notice(
            "service",
            ExamStep::Policies,
            "there are no policies, so every login is allowed",
            "apply a SessionPolicy in a namespace that the service reads, or put one in the folder of --policy-dir",
        ));
    }
    if let Some(cause) = snapshot.forced_audit.of_all() {
        let detail = format!("every policy is forced to audit ({cause}): no login is blocked");
        lines.push(ExamLine::notice(
            "service",
            ExamStep::ForcedAudit,
            detail,
            "switch forced audit off when its cause is gone",
        ));
    }
    lines
}

fn policy_lines(report: &PolicyReport, observation: Option<Observation>, lines: &mut Vec<ExamLine>) {
    let subject = format!("policy {}", report.name);
    let accepted = report.accepted();
    lines.push(match accepted.status {
        ConditionStatus::True => ExamLine::ok(&subject, ExamStep::Accepted, accepted.message),
        _ => {
            let remedy = "correct the policy and apply it; `session-checker validate` shows each problem with its line";
            ExamLine::problem(&subject, ExamStep::Accepted, accepted.message, remedy)
        }
    });
    if let Some(problem) = report.callers.problem() {
        let remedy = "correct the Secret of callerSecretRef; `session-checker validate` checks it with the policy";
        lines.push(ExamLine::problem(&subject, ExamStep::Callers, problem, remedy));
    }
    if let Some(problem) = report.credential.secret_problem() {
        let remedy =
            "correct the Secret of tenant.credentialsSecretRef; `session-checker validate` checks it with the policy";
        lines.push(ExamLine::problem(&subject, ExamStep::Credential, problem, remedy));
    }
    let mode = report.version.as_deref().map(|version| version.enforcement().mode);
    lines.extend(mode.map(|mode| match (mode, &report.forced_audit) {
        (_, Some(cause)) => ExamLine::notice(
            &subject,
            ExamStep::Mode,
            format!("forced to audit ({cause}): no login is blocked"),
            "switch forced audit off when its cause is gone",
        ),
        (Mode::Audit, None) => ExamLine::notice(
            &subject,
            ExamStep::Mode,
            "Audit: no login is blocked",
            "write mode: Enforce when the numbers are what you expect",
        ),
        (Mode::Enforce, None) => ExamLine::ok(&subject, ExamStep::Mode, "Enforce"),
    }));
    let remedy = "correct the value, or remove it from the policy";
    lines.extend(
        report.warnings.iter().map(|warning| ExamLine::notice(&subject, ExamStep::Values, warning.clone(), remedy)),
    );
    let Some(Observation { last_check, enforcing }) = observation else { return };
    lines.push(last_check_line(&subject, last_check));
    lines.push(match enforcing.status {
        ConditionStatus::True => ExamLine::ok(&subject, ExamStep::LogStream, enforcing.message),
        ConditionStatus::False => ExamLine::problem(
            &subject,
            ExamStep::LogStream,
            enforcing.message,
            "compare Trigger, URL and applications of the Action with docs/auth0.md, and log in once",
        ),
        ConditionStatus::Unknown => ExamLine::notice(
            &subject,
            ExamStep::LogStream,
            enforcing.message,
            "set up a log stream (docs/log-streams.md), or leave it: the limits work without one",
        ),
    });
}

fn last_check_line(subject: &str, last_check: Option<Timestamp>) -> ExamLine {
    let remedy = "log in once; if this stays, see that the Action is bound to the post-login trigger, calls this service, and that \
                  the selector names the applications";
    let Some(at) = last_check else {
        return ExamLine::notice(subject, ExamStep::LastCheck, "no check since this replica started", remedy);
    };
    let age = Duration::try_from(Timestamp::now().duration_since(at)).unwrap_or_default();
    let detail = format!("{at:.0}, {} ago", in_words(age));
    if age > QUIET_TIME {
        ExamLine::notice(subject, ExamStep::LastCheck, detail, remedy)
    } else {
        ExamLine::ok(subject, ExamStep::LastCheck, detail)
    }
}

/// A duration in the largest unit that fits.
pub(crate) fn in_words(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// The names of policies, for a line about what they share.
fn names(policies: &[&ObjectName]) -> String {
    policies.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_that_takes_longer_than_an_operation_may_is_a_notice() {
        let line = |took| round_trip_line(Duration::from_millis(took), Duration::from_millis(50));
        assert_eq!((line(50).status, line(50).remedy), (ExamStatus::Ok, None));
        assert_eq!(line(51).status, ExamStatus::Notice);
        assert!(line(51).remedy.unwrap().contains("--ledger-timeout"));
    }

    #[test]
    fn check_of_the_day_before_yesterday_is_worth_a_look() {
        let ago = |hours: i64| Some(Timestamp::now() - jiff::SignedDuration::from_hours(hours));
        for (last_check, status, detail) in [
            (ago(1), ExamStatus::Ok, "60 min ago"),
            (ago(23), ExamStatus::Ok, "23 h ago"),
            (ago(50), ExamStatus::Notice, "2 days ago"),
            (None, ExamStatus::Notice, "no check since this replica started"),
        ] {
            let line = last_check_line("policy a/b", last_check);
            assert_eq!((line.status, line.remedy.is_some()), (status, status != ExamStatus::Ok), "{}", line.detail);
            assert!(line.detail.contains(detail), "{}", line.detail);
        }
    }
}
