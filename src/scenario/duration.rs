//! Durations of a scenario: those of Kubernetes (`1h30m`), and days.

use std::fmt::Write as _;
use std::time::Duration;

use crate::crd::GoDuration;

/// The seconds of a day.
const DAY: u64 = 86_400;

/// The longest time that one step lets pass: twice the longest life of a session by default.
pub const MAX_PASS: Duration = Duration::from_secs(60 * DAY);

/// Reads a duration such as `90s`, `2h` or `3d12h`.
///
/// # Errors
/// What to write instead.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: write one such as 30s, 5m, 2h, 1h30m or 3d");
    let (days, rest) = match text.split_once('d') {
        Some((days, rest)) => (days.parse::<u32>().map_err(|_| wrong())?, rest),
        None => (0, text),
    };
    let rest = match rest {
        "" if days > 0 => Duration::ZERO,
        rest => GoDuration::new(rest).parse().ok_or_else(wrong)?,
    };
    let duration = Duration::from_secs(u64::from(days) * DAY) + rest;
    if duration.is_zero() || duration > MAX_PASS {
        return Err(format!("`{text}` is out of range: write a duration from 1s to {}", write(MAX_PASS)));
    }
    Ok(duration)
}

/// Writes a duration so that [`parse`] reads it.
pub fn write(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut text = String::new();
    for (unit, seconds) in [("d", DAY), ("h", 3_600), ("m", 60), ("s", 1)] {
        if rest >= seconds {
            let _ = write!(text, "{}{unit}", rest / seconds);
            rest %= seconds;
        }
    }
    if duration.subsec_millis() > 0 {
        let _ = write!(text, "{}ms", duration.subsec_millis());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, seconds) in [("30s", 30), ("2h", 7_200), ("1h30m", 5_400), ("3d", 259_200), ("1d12h", 129_600)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
            assert_eq!(write(Duration::from_secs(seconds)), text);
        }
        assert_eq!(parse("1500ms").map(write), Ok("1s500ms".to_owned()));
        for text in ["", "2", "h", "d", "-2h", "61d", "0s", "two hours", "1d 2h", "99999999999d"] {
            assert!(parse(text).unwrap_err().contains("write"), "{text}");
        }
    }
}
