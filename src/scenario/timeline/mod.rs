//! A run as a picture: a row for each device, sessions as bars, logins as marks with their answers, and the same as a list.
//! Everything comes from what was played, so that the picture cannot differ from the decisions.
//!
//! Times are those of the scenario: its start and the times that `pass` names. The second that a step takes does not show.

mod list;
mod svg;

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::run::{BY_PERSON, EVICTED};
use super::{Auth0Condition, LoginRecord, OnDevice, ScenarioEvent, ScenarioRun, SessionLane, StepRecord};
use crate::policy::{Failure, Reason};

/// What the picture of a run shows.
#[derive(Clone, Debug)]
pub struct Timeline {
    title: String,
    moments: Vec<TimelineMoment>,
    rows: Vec<TimelineRow>,
}

/// A step that is not only the passing of time.
#[derive(Clone, Debug)]
struct TimelineMoment {
    at: Timestamp,
    /// How much time passed since the moment before.
    passed: Duration,
    /// What happened, in Markdown.
    text: String,
}

/// A device, or a part that fails.
#[derive(Clone, Debug)]
struct TimelineRow {
    name: String,
    /// What stands at the right.
    note: Option<String>,
    bars: Vec<TimelineBar>,
    marks: Vec<TimelineMark>,
}

/// A place on the axis: twice the number of a moment. An odd place is between two moments.
type Place = usize;

/// A session from its begin to its end, or a fault.
#[derive(Clone, Debug)]
struct TimelineBar {
    from: Place,
    /// `None`: it lasts longer than the picture.
    to: Option<Place>,
    /// From when on no browser has the session.
    forgotten: Option<Place>,
    is_fault: bool,
}

#[derive(Clone, Debug)]
struct TimelineMark {
    at: Place,
    sign: MarkSign,
    /// Below the sign, a line each.
    words: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MarkSign {
    Allowed,
    Blocked,
    /// The login waits at the page for choosing sessions.
    Asked,
    /// The session counts for the login of that moment.
    Counts,
    /// It does not.
    DoesNotCount,
    Ended,
    /// Words alone.
    Plain,
}

impl ScenarioRun {
    /// The picture of what was played so far.
    pub fn timeline(&self) -> Timeline {
        let mut moments = Vec::new();
        // The moment of each step; that of `pass` is the one before.
        let mut moment_of = Vec::new();
        let (mut at, mut passed) = (self.scenario().start, Duration::ZERO);
        for (position, (step, record)) in self.scenario().steps.iter().zip(self.records()).enumerate() {
            if let ScenarioEvent::Pass(time) = step.event {
                passed += time;
                at += time;
            } else {
                let evicted =
                    self.lanes().iter().filter(|lane| is_evicted(lane) && self.last_step(lane) == Some(position));
                let evicted: Vec<&str> = evicted.map(|lane| lane.device.as_str()).collect();
                let text = list::text(record, self.lanes(), &evicted);
                moments.push(TimelineMoment { at, passed: std::mem::take(&mut passed), text });
            }
            moment_of.push(moments.len().saturating_sub(1));
        }
        let mut rows = self.fault_rows(&moment_of);
        rows.extend(self.device_rows(&moment_of));
        Timeline { title: self.scenario().title.clone(), moments, rows }
    }

    /// Auth0 and the service, if they fail.
    fn fault_rows(&self, moment_of: &[usize]) -> Vec<TimelineRow> {
        let mut rows: Vec<TimelineRow> = Vec::new();
        for (step, &moment) in self.scenario().steps.iter().zip(moment_of) {
            let (name, works, words) = match step.event {
                ScenarioEvent::Auth0(condition) => {
                    ("Auth0's Management API", condition == Auth0Condition::Works, condition.as_str())
                }
                ScenarioEvent::Service(works) => ("session-checker", works, if works { "works" } else { "down" }),
                _ => continue,
            };
            let position = rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
                rows.push(TimelineRow::named(name.to_owned()));
                rows.len() - 1
            });
            let row = &mut rows[position];
            for bar in row.bars.iter_mut().filter(|bar| bar.to.is_none()) {
                bar.to = Some(2 * moment);
            }
            if !works {
                row.bars.push(TimelineBar { from: 2 * moment, to: None, forgotten: None, is_fault: true });
            }
            row.marks.push(TimelineMark { at: 2 * moment, sign: MarkSign::Plain, words: vec![words] });
        }
        rows
    }

    /// The devices that do something. A device with two sessions at a time has two rows.
    fn device_rows(&self, moment_of: &[usize]) -> Vec<TimelineRow> {
        let steps = || self.scenario().steps.iter().map(|step| &step.event).zip(self.records()).zip(moment_of);
        let mut rows = Vec::new();
        for person in &self.scenario().people {
            for device in &person.devices {
                let place = OnDevice { person: person.name.clone(), device: device.clone() };
                let name = format!("{}'s {device}", person.name);
                let mut of_device: Vec<TimelineRow> = Vec::new();
                let mut row_of = HashMap::new();
                for lane in
                    self.lanes().iter().filter(|lane| lane.person == place.person && lane.device == place.device)
                {
                    let Some(bar) = self.bar(lane, &place, moment_of) else { continue };
                    let has_room =
                        |row: &TimelineRow| row.bars.iter().all(|other| other.to.is_some_and(|to| to <= bar.from));
                    let position = of_device.iter().position(has_room).unwrap_or_else(|| {
                        of_device.push(TimelineRow::named(name.clone()));
                        of_device.len() - 1
                    });
                    row_of.insert(lane.id.as_str(), position);
                    let row = &mut of_device[position];
                    if let Some(to) = bar.to {
                        match to % 2 {
                            1 => row.mark(to, MarkSign::Ended, vec!["expires"]),
                            _ if is_evicted(lane) => row.mark(to, MarkSign::Ended, vec!["ended"]),
                            _ => {}
                        }
                    }
                    if self.is_by_expiry() {
                        row.note = lane.expires.map(|at| format!("until {}", list::day_and_time(at)));
                    }
                    row.bars.push(bar);
                }
                for ((event, record), &moment) in steps() {
                    let at = 2 * moment;
                    let mut mark = |sid: &str, sign, words| {
                        if of_device.is_empty() {
                            of_device.push(TimelineRow::named(name.clone()));
                        }
                        of_device[row_of.get(sid).copied().unwrap_or_default()].mark(at, sign, words);
                    };
                    match event {
                        ScenarioEvent::SignOut(other) if *other == place => {
                            mark("", MarkSign::Plain, vec!["signs out"]);
                        }
                        ScenarioEvent::CloseBrowser(other) if *other == place => {
                            mark("", MarkSign::Plain, vec!["closes", "browser"]);
                        }
                        _ => {}
                    }
                    for login in &record.logins {
                        if login.person == place.person && login.device == place.device {
                            let sign = match login.blocked {
                                true if login.asked => MarkSign::Asked,
                                true => MarkSign::Blocked,
                                false => MarkSign::Allowed,
                            };
                            mark(&login.sid, sign, words(login, record));
                        }
                        for session in login.explanation.iter().flat_map(|explanation| &explanation.sessions) {
                            if session.id != login.sid && row_of.contains_key(session.id.as_str()) {
                                let sign = if session.counts { MarkSign::Counts } else { MarkSign::DoesNotCount };
                                mark(&session.id, sign, Vec::new());
                            }
                        }
                    }
                }
                rows.extend(of_device);
            }
        }
        rows
    }

    /// The bar of a session. `None` when it ended within the step in which it began.
    fn bar(&self, lane: &SessionLane, place: &OnDevice, moment_of: &[usize]) -> Option<TimelineBar> {
        let steps = &self.scenario().steps;
        let began = self.records().iter().position(|record| record.logins.iter().any(|login| login.sid == lane.id))?;
        let to = self.last_step(lane).map(|step| {
            // Time that passes ends a session between two moments.
            2 * moment_of[step] + usize::from(matches!(steps[step].event, ScenarioEvent::Pass(_)))
        });
        let from = 2 * moment_of[began];
        let closed = steps.iter().zip(moment_of).find(|(step, moment)| {
            matches!(&step.event, ScenarioEvent::CloseBrowser(at) if at == place) && 2 * **moment >= from
        });
        let forgotten = closed.map(|(_, moment)| 2 * moment).filter(|closed| to.is_none_or(|to| *closed < to));
        (to != Some(from)).then_some(TimelineBar { from, to, forgotten, is_fault: false })
    }

    /// The step within which a session ended.
    fn last_step(&self, lane: &SessionLane) -> Option<usize> {
        // A choice ends it when its step begins, everything else later.
        let is_before = |record: &StepRecord, ended| match lane.ended_by {
            Some(BY_PERSON) => record.at <= ended,
            _ => record.at < ended,
        };
        lane.ended.and_then(|ended| self.records().iter().rposition(|record| is_before(record, ended)))
    }

    /// Whether the strategy looks at when sessions expire.
    fn is_by_expiry(&self) -> bool {
        self.scenario().policy.contains("RevokeNextToExpire")
    }
}

impl TimelineRow {
    fn named(name: String) -> Self {
        Self { name, note: None, bars: Vec::new(), marks: Vec::new() }
    }

    /// Adds a mark. The session that a login evicts counts for it: the cross at its end says so already.
    fn mark(&mut self, at: Place, sign: MarkSign, words: Vec<&'static str>) {
        if sign != MarkSign::Counts || !self.marks.iter().any(|mark| mark.at == at) {
            self.marks.push(TimelineMark { at, sign, words });
        }
    }
}

/// Whether session-checker ended the session, by itself or because the person chose so.
fn is_evicted(lane: &SessionLane) -> bool {
    [Some(EVICTED), Some(BY_PERSON)].contains(&lane.ended_by)
}

/// The answer of a login in words of one line each.
fn words(login: &LoginRecord, record: &StepRecord) -> Vec<&'static str> {
    let more = match login.reason.as_str() {
        "no_answer" => Some("no answer"),
        reason if reason == Reason::Evicted.as_str() => Some("evicts"),
        reason if reason == Reason::SessionRevoked.as_str() => Some("revoked"),
        reason if reason == Reason::WithinLimit.as_str() && record.lists == 0 => Some("from memory"),
        reason if Failure::ALL.iter().any(|failure| failure.as_str() == reason) => Some("not checked"),
        reason if reason == Reason::Audit.as_str() => match login.audited_reason() {
            Some(audited) if audited == Reason::Evicted.as_str() => Some("would evict"),
            _ => Some("would block"),
        },
        _ => None,
    };
    let mfa = login.request["mfa"].as_bool().unwrap_or_default().then_some("with MFA");
    let outcome = match login.blocked {
        true if login.asked => "asked",
        true => "blocked",
        false => "allowed",
    };
    [Some(outcome), more, mfa].into_iter().flatten().collect()
}
