//! Durations in Kubernetes' notation, which is Go's: `30s` or `1h30m`.
//!
//! The parser is our own, because `kube::core::Duration` parses through `f64`, which loses precision, and panics on some input.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A duration as written in a manifest: decimal numbers, each with a unit (`ns`, `us`, `µs`, `ms`, `s`, `m`, `h`), at most
/// 16 characters, not negative. There is no unit for days.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
pub struct GoDuration(#[schemars(length(max = 16))] String);

/// The nanoseconds of each unit. `µs` is listed with both characters for micro.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl GoDuration {
    /// The longest text in characters. It bounds the digits of a number, so that `scale` cannot overflow.
    pub const MAX_CHARS: usize = 16;

    /// Takes any text; [`parse`](Self::parse) validates it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses the text; `None` when it is not a duration. As in Go, fractions of a nanosecond are cut off, and a duration that
    /// does not fit 63 bits of nanoseconds (292 years) is not valid.
    pub fn parse(&self) -> Option<Duration> {
        let text = self.0.strip_prefix('+').unwrap_or(&self.0);
        if text.is_empty() || self.0.chars().count() > Self::MAX_CHARS {
            return None;
        }
        let mut rest = text;
        let mut nanos = 0u64;
        while !rest.is_empty() {
            let (whole, after) = split_digits(rest);
            let (fraction, after) = match after.strip_prefix('.') {
                Some(after) => split_digits(after),
                None => ("", after),
            };
            if whole.is_empty() && fraction.is_empty() {
                return None;
            }
            let (name, unit) = UNITS.iter().find(|(name, _)| is_unit(after, name))?;
            nanos = nanos.checked_add(scale(whole, fraction, *unit)?)?;
            rest = &after[name.len()..];
        }
        (nanos <= i64::MAX.unsigned_abs()).then(|| Duration::from_nanos(nanos))
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Whether `text` begins with this unit: `m` must not match the beginning of `ms`.
fn is_unit(text: &str, name: &str) -> bool {
    text.strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

fn scale(whole: &str, fraction: &str, unit: u64) -> Option<u64> {
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.checked_mul(unit)? };
    // At most 15 digits, so neither the number nor its scale overflows 128 bits.
    let digits: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let part = digits * u128::from(unit) / 10u128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Duration> {
        GoDuration::new(text).parse()
    }

    #[test]
    fn durations_of_go_are_read() {
        for (text, nanos) in [
            ("0s", 0),
            ("30s", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("1.5h30m", 7_200_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+2ms", 2_000_000),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("3μs", 3_000),
            ("7ns", 7),
            ("0.5ns", 0),
            ("30s1m", 90_000_000_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_durations() {
        for text in [
            "",
            "0",
            "5",
            "-5s",
            "+",
            ".",
            ".s",
            "s",
            "1d",
            "1 s",
            " 1s",
            "1s ",
            "1S",
            "1sm",
            "1e3s",
            "1,5h",
            "--1s",
            "++1s",
            "9999999h9999999h",
            "100000000000s1ns",
            "1.2.3s",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
