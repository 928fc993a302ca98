//! The moments of a timeline as a list: what a person reads who does not see the picture.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Timeline;
use crate::policy::Reason;
use crate::scenario::{LoginRecord, SessionLane, StepRecord};

impl Timeline {
    /// The moments as items of an ordered list, in Markdown and without their numbers.
    pub fn items(&self) -> Vec<String> {
        self.moments.iter().map(|moment| format!("**{}** {}", day_and_time(moment.at), moment.text)).collect()
    }

    /// The same as one text.
    pub(super) fn description(&self) -> String {
        let items = self.items();
        let items = items.iter().enumerate().map(|(position, item)| format!("{}. {item}", position + 1));
        items.collect::<Vec<_>>().join(" ").replace(['*', '`'], "")
    }
}

/// A time as `Mon 09:30`.
pub(super) fn day_and_time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%a %H:%M").to_string()
}

/// A duration in words that fit between two moments; `None` for none.
pub(super) fn in_words(time: Duration) -> Option<String> {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = time.as_secs();
    let count = |unit: u64, word: &str, plural: &str| {
        let tenths = (10 * seconds + unit / 2) / unit;
        let fraction = if tenths.is_multiple_of(10) { String::new() } else { format!(".{}", tenths % 10) };
        let word = if tenths == 10 { word } else { plural };
        format!("{}{fraction} {word}", tenths / 10)
    };
    match seconds {
        0 => None,
        1..MINUTE => Some(count(1, "s", "s")),
        MINUTE..HOUR => Some(count(MINUTE, "min", "min")),
        HOUR..DAY => Some(count(HOUR, "hour", "hours")),
        _ => Some(count(DAY, "day", "days")),
    }
}

/// What happened in a step, in Markdown. `evicted` are the devices whose sessions it revoked.
pub(super) fn text(record: &StepRecord, lanes: &[SessionLane], evicted: &[&str]) -> String {
    let mut sentences = match &record.logins[..] {
        [login] if login.resumed => vec![format!("{} again, with the same session.", record.sentence)],
        _ => vec![format!("{}.", record.sentence)],
    };
    for login in &record.logins {
        if record.logins.len() > 1 {
            sentences.push(format!("On {}:", login.device));
        }
        sentences.extend(counted(login, lanes));
        sentences.push(answer(login, record));
        if login.action.iter().any(|call| call.starts_with("api.session.revoke")) {
            sentences.push("The Action ends the session that this login began.".to_owned());
        }
    }
    sentences.extend(evicted.iter().map(|device| format!("session-checker ends the session on {device}.")));
    sentences.extend(record.note.clone());
    sentences.join(" ")
}

/// Which other sessions counted, and why the others did not: a sentence for each role.
fn counted(login: &LoginRecord, lanes: &[SessionLane]) -> Vec<String> {
    let mut roles: Vec<(&str, Vec<&str>)> = Vec::new();
    let sessions = login.explanation.iter().flat_map(|explanation| &explanation.sessions);
    for session in sessions.filter(|session| session.id != login.sid) {
        let Some(lane) = lanes.iter().find(|lane| lane.id == session.id) else { continue };
        match roles.iter_mut().find(|(role, _)| *role == session.role) {
            Some((_, devices)) => devices.push(&lane.device),
            None => roles.push((&session.role, vec![&lane.device])),
        }
    }
    let sentences = roles.into_iter().map(|(role, devices)| match devices[..] {
        [device] => format!("The session on {device} {role}."),
        _ => format!("The sessions on {} {}.", devices.join(" and "), plural(role)),
    });
    sentences.collect()
}

/// A role that begins with a verb, for several sessions.
fn plural(role: &str) -> String {
    let (verb, rest) = role.split_once(' ').unwrap_or((role, ""));
    let verb = match verb {
        "counts" => "count",
        "does" => "do",
        "is" => "are",
        "has" => "have",
        "was" => "were",
        "belongs" => "belong",
        other => other,
    };
    format!("{verb} {rest}")
}

fn answer(login: &LoginRecord, record: &StepRecord) -> String {
    let outcome = match login.blocked {
        true if login.asked => "Asked",
        true => "Blocked",
        false => "Allowed",
    };
    let more = match login.audited_reason() {
        Some(audited) => format!("; `Enforce` would answer `{audited}`"),
        None if login.reason == Reason::WithinLimit.as_str() && record.lists == 0 => {
            ", without a request to Auth0".to_owned()
        }
        None => String::new(),
    };
    format!("**{outcome}**, `{}`{more}.", login.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_words() {
        let words = |seconds| in_words(Duration::from_secs(seconds));
        assert_eq!(words(0), None);
        for (seconds, expected) in [
            (20, "20 s"),
            (240, "4 min"),
            (3_600, "1 hour"),
            (15 * 3_600 + 1_800, "15.5 hours"),
            (86_400, "1 day"),
            (5 * 43_200, "2.5 days"),
        ] {
            assert_eq!(words(seconds).as_deref(), Some(expected));
        }
    }
}
