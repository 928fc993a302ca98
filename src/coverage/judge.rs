//! Whether a login that Auth0 reports was checked: a decision of what is remembered of checks, and of which checks are known.

use std::time::Duration;

use jiff::Timestamp;

/// What the audit waits for, and how long.
#[derive(Clone, Copy, Debug)]
pub struct CoverageTiming {
    /// From the check to the completed login at most. MFA and consent come after the Action and take minutes.
    pub longest_login: Duration,
    /// How far the clocks of Auth0, the replicas and the shared store may differ.
    pub clock_skew: Duration,
    /// How long before this process nobody answered a check. A service cannot know, so it is zero; a test knows.
    pub quiet_before: Duration,
    /// How long a login waits for a check to become known; then it is `unknown`.
    pub patience: Duration,
    /// How often waiting logins are looked at and checks are shared.
    pub tick: Duration,
    /// How often the replicas exchange what they know.
    pub exchange: Duration,
}

impl Default for CoverageTiming {
    fn default() -> Self {
        Self {
            longest_login: Duration::from_secs(15 * 60),
            clock_skew: Duration::from_secs(60),
            quiet_before: Duration::ZERO,
            patience: Duration::from_secs(180),
            tick: Duration::from_secs(1),
            exchange: Duration::from_secs(5),
        }
    }
}

/// The time whose checks are all remembered. What is outside of it may have been forgotten, or not be known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownTime {
    /// The checks since then are remembered.
    pub from: Timestamp,
    /// The checks until then are known.
    pub until: Timestamp,
}

/// Whether a login was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// A check of its session and application is remembered.
    Yes,
    /// There was no check.
    No,
    /// It cannot be known.
    Unknown,
}

impl Checked {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Yes, Self::No, Self::Unknown];

    /// The value in metrics; it never changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

impl CoverageTiming {
    /// Judges a login that completed at `login`, whose last check was at `check`. `None`: more may become known.
    ///
    /// `No` needs that every check from the longest login before the login until the login is remembered. Only the last check is
    /// remembered: one after the login is of a later login, and hides whether there was one before.
    pub fn judge(
        &self,
        login: Option<Timestamp>,
        check: Option<Timestamp>,
        known: Option<KnownTime>,
    ) -> Option<Checked> {
        // Without its time, nobody knows which check was its own.
        let Some(login) = login else { return Some(Checked::Unknown) };
        // Whoever has the stream's token writes the time of an entry: it may be the last that there is.
        let first = login.saturating_sub(self.longest_login.saturating_add(self.clock_skew)).unwrap_or(Timestamp::MIN);
        let last = login.saturating_add(self.clock_skew).unwrap_or(Timestamp::MAX);
        match check {
            Some(check) if check > last => return Some(Checked::Unknown),
            Some(check) if check >= first => return Some(Checked::Yes),
            _ => {}
        }
        let Some(known) = known else { return Some(Checked::Unknown) };
        match () {
            () if first < known.from => Some(Checked::Unknown),
            () if last > known.until => None,
            () => Some(Checked::No),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 60 * minutes).unwrap()
    }

    /// Judges a login at minute 100.
    fn judge(check: Option<i64>, known: Option<(i64, i64)>) -> Option<Checked> {
        let known = known.map(|(from, until)| KnownTime { from: at(from), until: at(until) });
        CoverageTiming::default().judge(Some(at(100)), check.map(at), known)
    }

    #[test]
    fn remembered_check_is_yes() {
        for check in [84, 90, 100, 101] {
            assert_eq!(judge(Some(check), None), Some(Checked::Yes), "{check}");
            assert_eq!(judge(Some(check), Some((0, 200))), Some(Checked::Yes), "{check}");
        }
    }

    #[test]
    fn later_check_of_the_session_is_none_of_this_login() {
        for check in [102, 130] {
            assert_eq!(judge(Some(check), None), Some(Checked::Unknown), "{check}");
            assert_eq!(judge(Some(check), Some((0, 200))), Some(Checked::Unknown), "{check}");
        }
    }

    #[test]
    fn earlier_check_of_the_session_is_none_of_this_login() {
        assert_eq!(judge(Some(83), Some((0, 200))), Some(Checked::No));
    }

    #[test]
    fn no_needs_the_whole_time_of_the_login() {
        assert_eq!(judge(None, Some((84, 101))), Some(Checked::No));
        assert_eq!(judge(None, Some((85, 101))), Some(Checked::Unknown));
        assert_eq!(judge(None, Some((84, 100))), None);
        assert_eq!(judge(None, None), Some(Checked::Unknown));
    }

    #[test]
    fn login_without_a_time_is_unknown() {
        let known = Some(KnownTime { from: at(0), until: at(200) });
        let timing = CoverageTiming::default();
        assert_eq!(timing.judge(None, None, known), Some(Checked::Unknown));
        assert_eq!(timing.judge(None, Some(at(1)), known), Some(Checked::Unknown));
    }

    /// Any time, and often one near the first or the last.
    fn any_time() -> impl Strategy<Value = Timestamp> {
        let second = |second: i64| Timestamp::from_second(second).unwrap();
        let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        prop_oneof![
            (first..=last).prop_map(second),
            (0..2_000i64).prop_map(move |after| second(first + after)),
            (0..2_000i64).prop_map(move |before| second(last - before)),
            Just(Timestamp::MAX),
        ]
    }

    proptest! {
        #[test]
        fn any_times_are_judged(
            login in any_time(), check in option::of(any_time()), from in any_time(), until in any_time(),
        ) {
            let timing = CoverageTiming::default();
            for known in [None, Some(KnownTime { from, until })] {
                let judged = timing.judge(Some(login), check, known);
                let apart = check.map(|check| login.duration_since(check));
                let (latest, earliest) = (SignedDuration::from_secs(-60), SignedDuration::from_secs(16 * 60));
                let is_of_the_login = apart.is_some_and(|apart| (latest..=earliest).contains(&apart));
                prop_assert_eq!(judged == Some(Checked::Yes), is_of_the_login);
                let is_later = apart.is_some_and(|apart| apart < latest);
                prop_assert!(!is_later || judged == Some(Checked::Unknown), "{:?}", judged);
            }
        }
    }
}
