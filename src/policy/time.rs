//! RFC 3339 date-times, and none of the other notations that date libraries accept.

use jiff::Timestamp;

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
    let year = two(y0, y1)? * 100 + two(y2, y3)?;
    let (hour, minute) = (two(h0, h1)?, two(m0, m1)?);
    let second = match two(s0, s1)? {
        60 => 59,
        second => second,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_since_1970(year, two(mo0, mo1)?, two(d0, d1)?)?;
    Timestamp::new(days * 86_400 + hour * 3_600 + minute * 60 + second - offset, nanosecond).ok()
}

/// The days from 1970-01-01 to a date of the Gregorian calendar, which goes on before its beginning. By hand, because a page of
/// sessions has five dates for each session, and `jiff` takes four times as long for one.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    /// The days of a year before each month, and before the next year.
    const BEFORE: [i64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
    /// The days from 0000-01-01 to 1970-01-01.
    const TO_1970: i64 = 719_528;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let position = usize::try_from(month - 1).ok()?;
    let (before, after) = (BEFORE.get(position)?, BEFORE.get(position + 1)?);
    let length = after - before + i64::from(is_leap && month == 2);
    if !(1..=length).contains(&day) {
        return None;
    }
    // How many of the years before this one are leap years, of which year 0 is one.
    let leap_years = (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400;
    Some(year * 365 + leap_years + before + i64::from(is_leap && month > 2) + day - 1 - TO_1970)
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

/// The seconds by which a zone is ahead of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    match *zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (two(h0, h1)?, two(m0, m1)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3_600 + minutes * 60;
            Some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
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

        /// Every date that looks like one, on the calendar or not.
        #[test]
        fn dates_are_those_of_jiff(year in 0i16..10_000, month in 0i8..14, day in 0i8..33, hour in 0i8..25, minute in 0i8..61) {
            let expected = jiff::civil::DateTime::new(year, month, day, hour, minute, 7, 0)
                .and_then(|local| jiff::tz::Offset::UTC.to_timestamp(local));
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:07Z");
            prop_assert_eq!(parse_rfc3339(&text), expected.ok(), "{}", text);
        }

        #[test]
        fn no_text_causes_a_panic(text in "\\PC{0,40}") {
            parse_rfc3339(&text);
        }
    }
}
