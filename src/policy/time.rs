//! Times as Auth0 and Kubernetes write them.

use jiff::Timestamp;

/// Reads an RFC 3339 time with any offset and any number of fraction digits; what is finer than a nanosecond is cut off.
/// Anything else, also other forms of ISO 8601, is `None`.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let shape = date_time.bytes().enumerate().all(|(position, byte)| match position {
        4 | 7 => byte == b'-',
        10 => byte.eq_ignore_ascii_case(&b'T') || byte == b' ',
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    });
    let (fraction, offset) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
        None => ("0", rest),
    };
    if !shape || fraction.is_empty() || !is_offset(offset) {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(9)];
    format!("{date_time}.{fraction}{offset}").parse().ok()
}

fn is_offset(text: &str) -> bool {
    match text.as_bytes() {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].into_iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_any_offset_and_fraction() {
        let second: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-01-02t03:04:05z",
            "2026-01-02 03:04:05Z",
            "2026-01-02T03:04:05.0Z",
            "2026-01-02T03:04:05.0000000000000000001Z",
            "2026-01-02T05:04:05+02:00",
            "2026-01-01T21:34:05-05:30",
            "2026-01-02T03:04:05-00:00",
        ] {
            assert_eq!(parse_rfc3339(text), Some(second), "{text}");
        }
        assert_eq!(parse_rfc3339("2026-01-02T03:04:05.123456789987Z").unwrap().subsec_nanosecond(), 123_456_789);
        assert!(parse_rfc3339("2016-12-31T23:59:60Z").is_some(), "a leap second is a time");
    }

    #[test]
    fn everything_else_is_unreadable() {
        for text in [
            "",
            "now",
            "2026-01-02",
            "2026-01-02T03:04Z",
            "2026-01-02T03:04:05",
            "20260102T030405Z",
            "2026-01-02T03:04:05+02",
            "2026-01-02T03:04:05+0200",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05,5Z",
            "2026-13-02T03:04:05Z",
            "2026-02-30T03:04:05Z",
            "2026-01-02T25:04:05Z",
            "2026-01-02T03:04:05Z[UTC]",
            "2026-01-02T03:04:05+99:99",
            " 2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05Z ",
            "1767323045",
            "２０２６-01-02T03:04:05Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text:?}");
        }
    }
}
