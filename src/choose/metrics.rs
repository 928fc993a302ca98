//! The metrics of the page on which people choose sessions to end.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use crate::metrics::{BegunCounters, MetricRegistry, raise_to, to_i64};

/// Counts what becomes of the people who are asked.
pub struct ChooseMetrics {
    choices: BegunCounters,
    rejected: IntCounterVec,
    tickets: IntGauge,
    forgotten: IntCounter,
}

/// What became of a person who was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChoiceOutcome {
    /// A blocked login got the address of the page.
    Asked,
    /// The page was shown.
    Shown,
    /// The chosen sessions were ended.
    Chosen,
    /// The person did not want to.
    Cancelled,
    /// The page was used after its ticket had expired.
    Expired,
    /// A session could not be listed or ended, or the ticket was not read in time.
    Failed,
    /// No session had to end any more.
    NotNeeded,
    /// No choice was enough.
    Impossible,
}

/// Why a request to the page is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageRejection {
    /// The ticket is not this service's, or was changed.
    Ticket,
    /// The state is missing or has a wrong form.
    State,
    /// The ticket or the state belongs to another browser.
    Browser,
    /// The form was not sent by the page.
    Origin,
    /// The ticket was used too often.
    WornOut,
    /// The ticket was used for another choice.
    Done,
    /// The form is too large, or no form.
    Form,
}

impl ChoiceOutcome {
    const ALL: [Self; 8] = [
        Self::Asked,
        Self::Shown,
        Self::Chosen,
        Self::Cancelled,
        Self::Expired,
        Self::Failed,
        Self::NotNeeded,
        Self::Impossible,
    ];

    /// The label of the metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Shown => "shown",
            Self::Chosen => "chosen",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::NotNeeded => "not_needed",
            Self::Impossible => "impossible",
        }
    }
}

impl PageRejection {
    const ALL: [Self; 7] =
        [Self::Ticket, Self::State, Self::Browser, Self::Origin, Self::WornOut, Self::Done, Self::Form];

    /// The label of the metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::State => "state",
            Self::Browser => "browser",
            Self::Origin => "origin",
            Self::WornOut => "worn_out",
            Self::Done => "done",
            Self::Form => "form",
        }
    }
}

impl ChooseMetrics {
    /// Registers the families.
    pub fn new(registry: &MetricRegistry) -> Self {
        let choices = registry.begun_counters(
            "choices_total",
            "People who were asked which sessions to end: asked, shown, chosen, cancelled, expired, failed, not_needed or impossible.",
            &["tenant", "outcome"],
        );
        let rejected = registry.counters(
            "choose_rejected_total",
            "Requests to the page for choosing sessions that were rejected: ticket, state, browser, origin, worn_out, done or form.",
            &["reason"],
        );
        for reason in PageRejection::ALL {
            rejected.with_label_values(&[reason.as_str()]);
        }
        // The series exist before the first person is asked, so that a rate sees the increase.
        let series = choices.clone();
        registry.on_scrape(move |live| {
            for tenant in live.tenants().filter(|tenant| !tenant.is_empty()) {
                for outcome in ChoiceOutcome::ALL {
                    series.begin(&[tenant, outcome.as_str()]);
                }
            }
        });
        let tickets = registry.gauge("choose_tickets", "Tickets for choosing sessions whose use is counted.");
        let forgotten = registry.counter(
            "choose_tickets_forgotten_total",
            "Tickets whose use was forgotten before they expired, because the memory for them is bounded.",
        );
        Self { choices, rejected, tickets, forgotten }
    }

    /// Counts a person.
    pub fn outcome(&self, tenant: &str, outcome: ChoiceOutcome) {
        self.choices.inc(&[tenant, outcome.as_str()]);
    }

    /// Counts a rejected request.
    pub fn rejected(&self, reason: PageRejection) {
        self.rejected.with_label_values(&[reason.as_str()]).inc();
    }

    /// Shows how many tickets are counted, and how many were forgotten since the start.
    pub fn tickets(&self, (count, forgotten): (usize, u64)) {
        self.tickets.set(to_i64(count));
        raise_to(&self.forgotten, forgotten);
    }
}
