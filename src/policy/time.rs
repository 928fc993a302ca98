//! RFC 3339 date-times, and none of the other notations that date libraries accept.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// Reads an RFC 3339 `date-time`: any offset, any number of fraction digits (those past nanoseconds are cut off). Anything
/// else is `None`, as is a time outside the representable years. A leap second is read as the second before it.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date_time, rest) = text.as_bytes().split_at_checked(19)?;
    let [y0, y1, y2, y3, b'-', mo0, mo1, b'-', d0, d1, b'T' | b't', h0, h1, b':', m0, m1, b':', s0, s1] = *date_time
    else {
        return None;
    };
    let (nanosecond, zone) = fraction(rest)?;
    let offset = offset(zone)?;
    let century = i16::from(two(y0, y1)?);
    let year = century * 100 + i16::from(two(y2, y3)?);
    let second = match two(s0, s1)? {
        60 => 59,
        second => second,
    };
    DateTime::new(year, two(mo0, mo1)?, two(d0, d1)?, two(h0, h1)?, two(m0, m1)?, second, nanosecond)
        .and_then(|local| offset.to_timestamp(local))
        .ok()
}

/// Splits `.123Z` into nanoseconds and zone; without a point the nanoseconds are 0.
fn fraction(rest: &[u8]) -> Option<(i32, &[u8])> {
    let [b'.', digits @ ..] = rest else { return Some((0, rest)) };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let nanoseconds = (0..9).fold(0, |sum, place| {
        let digit = if place < count { digits[place] - b'0' } else { 0 };
        sum * 10 + i32::from(digit)
    });
    Some((nanoseconds, &digits[count..]))
}

fn offset(zone: &[u8]) -> Option<Offset> {
    match *zone {
        [b'Z' | b'z'] => Some(Offset::UTC),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (two(h0, h1)?, two(m0, m1)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = i32::from(hours) * 3600 + i32::from(minutes) * 60;
            Offset::from_seconds(if sign == b'-' { -seconds } else { seconds }).ok()
        }
        _ => None,
    }
}

fn two(tens: u8, ones: u8) -> Option<i8> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| (byte - b'0').cast_signed());
    Some(digit(tens)? * 10 + digit(ones)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn any_offset_and_any_fraction_digits_are_read() {
        for (text, same) in [
            ("2024-05-01T13:00:30.380Z", "2024-05-01T13:00:30.38Z"),
            ("2024-05-01t13:00:30z", "2024-05-01T13:00:30Z"),
            ("2024-05-01T13:00:30+02:30", "2024-05-01T10:30:30Z"),
            ("2024-05-01T13:00:30.5-23:59", "2024-05-02T12:59:30.5Z"),
            ("2024-05-01T13:00:30-00:00", "2024-05-01T13:00:30Z"),
            ("2024-05-01T13:00:30.123456789999Z", "2024-05-01T13:00:30.123456789Z"),
            ("2024-05-01T13:00:30.1234567890123456789012345+00:00", "2024-05-01T13:00:30.123456789Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(parse_rfc3339(text), Some(same.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn other_notations_are_not_read() {
        for text in [
            "",
            "2024-05-01",
            "2024-05-01T13:00:30",
            "2024-05-01 13:00:30Z",
            "2024-05-01T13:00Z",
            "2024-05-01T13:00:30.Z",
            "2024-05-01T13:00:30,5Z",
            "2024-05-01T13:00:30+02",
            "2024-05-01T13:00:30+0200",
            "2024-05-01T13:00:30+24:00",
            "2024-05-01T13:00:30+02:60",
            "2024-05-01T13:00:30Z[UTC]",
            "2024-05-01T13:00:30Z ",
            "20240501T130030Z",
            "2024-W18-3T13:00:30Z",
            "2024-13-01T13:00:30Z",
            "2024-02-30T13:00:30Z",
            "2024-05-01T24:00:00Z",
            "2024-05-01T13:00:61Z",
            "+02024-05-01T13:00:30Z",
            "1714568430",
            "9999-12-31T23:59:59Z",
            "２０24-05-01T13:00:30Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn times_that_jiff_writes_are_read(nanoseconds in any::<i64>()) {
            let time = Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap();
            prop_assert_eq!(parse_rfc3339(&time.to_string()), Some(time));
        }

        #[test]
        fn no_text_causes_a_panic(text in "\\PC{0,40}") {
            parse_rfc3339(&text);
        }
    }
}
