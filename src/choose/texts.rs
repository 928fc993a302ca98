//! The texts of the pages in twelve languages, with the plural forms of each.

use std::borrow::Cow;
use std::sync::LazyLock;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource};
use jiff::Timestamp;

/// The languages, English first: it is used where no other one fits. `zh` is written in simplified characters.
const LANGUAGES: [(&str, &str); 12] = [
    ("en", include_str!("texts/en.ftl")),
    ("de", include_str!("texts/de.ftl")),
    ("fr", include_str!("texts/fr.ftl")),
    ("es", include_str!("texts/es.ftl")),
    ("pt", include_str!("texts/pt.ftl")),
    ("it", include_str!("texts/it.ftl")),
    ("nl", include_str!("texts/nl.ftl")),
    ("pl", include_str!("texts/pl.ftl")),
    ("sv", include_str!("texts/sv.ftl")),
    ("tr", include_str!("texts/tr.ftl")),
    ("ja", include_str!("texts/ja.ftl")),
    ("zh", include_str!("texts/zh.ftl")),
];

/// How many languages of an `Accept-Language` are read: more than a person speaks.
const MAX_ACCEPTED: usize = 20;

static TEXTS: LazyLock<Vec<Language>> =
    LazyLock::new(|| LANGUAGES.iter().map(|(tag, source)| Language::new(tag, source)).collect());

/// The texts of one language.
pub struct Language {
    /// The language as a BCP 47 tag.
    pub tag: &'static str,
    bundle: FluentBundle<FluentResource>,
}

impl Language {
    /// The language that the locale names, else the best of an `Accept-Language`, else English.
    pub fn find(locale: Option<&str>, accepted: Option<&str>) -> &'static Self {
        let by_tag = |tag: &str| {
            let primary = tag.split(['-', '_']).next().unwrap_or_default();
            TEXTS.iter().find(|language| language.tag.eq_ignore_ascii_case(primary))
        };
        locale
            .and_then(by_tag)
            .or_else(|| by_quality(accepted.unwrap_or_default()).into_iter().find_map(by_tag))
            .unwrap_or(&TEXTS[0])
    }

    /// A text without values.
    pub fn text(&self, key: &str) -> String {
        self.format(key, None)
    }

    /// A text with a number, which chooses the plural form.
    pub fn number(&self, key: &str, name: &str, number: usize) -> String {
        let mut values = FluentArgs::new();
        values.set(name, number);
        self.format(key, Some(&values))
    }

    /// A text with other texts.
    pub fn with(&self, key: &str, texts: &[(&str, &str)]) -> String {
        let mut values = FluentArgs::new();
        texts.iter().for_each(|(name, text)| values.set(*name, (*text).to_owned()));
        self.format(key, Some(&values))
    }

    /// How long ago a time is, in the largest whole unit.
    pub fn ago(&self, at: Timestamp, now: Timestamp) -> String {
        let minutes = usize::try_from(now.duration_since(at).as_mins()).unwrap_or(0);
        match minutes {
            0 => self.text("now"),
            1..60 => self.number("minutes-ago", "count", minutes),
            60..1_440 => self.number("hours-ago", "count", minutes / 60),
            _ => self.number("days-ago", "count", minutes / 1_440),
        }
    }

    fn new(tag: &'static str, source: &str) -> Self {
        let language = tag.parse().expect("a language tag");
        let mut bundle = FluentBundle::new_concurrent(vec![language]);
        // The marks around values are for texts of two directions; no language here is written from right to left.
        bundle.set_use_isolating(false);
        let resource = FluentResource::try_new(source.to_owned()).expect("the texts are a part of the program");
        bundle.add_resource(resource).expect("no text comes twice");
        Self { tag, bundle }
    }

    fn format(&self, key: &str, values: Option<&FluentArgs<'_>>) -> String {
        let pattern = self.bundle.get_message(key).and_then(|message| message.value());
        let mut errors = Vec::new();
        pattern
            .map_or(Cow::Borrowed(key), |pattern| self.bundle.format_pattern(pattern, values, &mut errors))
            .into_owned()
    }
}

/// The languages of an `Accept-Language` (RFC 9110, section 12.5.4), the best first.
fn by_quality(header: &str) -> Vec<&str> {
    let mut languages: Vec<(&str, f32)> = header
        .split(',')
        .take(MAX_ACCEPTED)
        .map(|item| {
            let (tag, parameter) = item.split_once(';').unwrap_or((item, ""));
            let quality = parameter.trim().strip_prefix("q=").and_then(|quality| quality.trim().parse().ok());
            (tag.trim(), quality.unwrap_or(1.0))
        })
        .filter(|(_, quality)| *quality > 0.0)
        .collect();
    languages.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    languages.into_iter().map(|(tag, _)| tag).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::SignedDuration;

    use super::*;

    /// The keys of a source: what stands before a `=` at the beginning of a line.
    fn keys(source: &str) -> BTreeSet<&str> {
        let is_key = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase());
        source.lines().filter(is_key).filter_map(|line| Some(line.split_once(" =")?.0)).collect()
    }

    #[test]
    fn every_language_has_every_text_in_every_number() {
        let english = keys(LANGUAGES[0].1);
        assert!(english.len() > 30);
        for (language, (_, source)) in TEXTS.iter().zip(LANGUAGES) {
            assert_eq!(keys(source), english, "{}", language.tag);
            for key in &english {
                for count in [0, 1, 2, 3, 5, 11, 12, 21, 22, 25, 100] {
                    let mut values = FluentArgs::new();
                    for name in ["needed", "marked", "count"] {
                        values.set(name, count);
                    }
                    for name in ["browser", "system", "ago"] {
                        values.set(name, "X");
                    }
                    let pattern = language.bundle.get_message(key).unwrap().value().unwrap();
                    let mut errors = Vec::new();
                    let text = language.bundle.format_pattern(pattern, Some(&values), &mut errors);
                    assert!(
                        errors.is_empty() && !text.is_empty() && !text.contains('{'),
                        "{} {key}: {text}",
                        language.tag
                    );
                }
            }
        }
    }

    #[test]
    fn locale_comes_before_accept_language_and_english_is_last() {
        for (locale, accepted, tag) in [
            (Some("de-AT"), Some("fr"), "de"),
            (Some("pt_BR"), None, "pt"),
            (Some("ZH-Hant"), None, "zh"),
            (Some("xx"), Some("fr;q=0.5, nl;q=0.9, en;q=0.1"), "nl"),
            (None, Some("xx, tr;q=0"), "en"),
            (None, Some("*"), "en"),
            (None, Some(";;,,=q"), "en"),
            (None, None, "en"),
        ] {
            assert_eq!(Language::find(locale, accepted).tag, tag, "{locale:?} {accepted:?}");
        }
    }

    #[test]
    fn time_is_written_in_the_largest_unit() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        let ago = |tag: &str, seconds: i64| {
            Language::find(Some(tag), None).ago(now - SignedDuration::from_secs(seconds), now)
        };
        assert_eq!(ago("en", -5), "just now");
        assert_eq!(ago("en", 59), "just now");
        assert_eq!(ago("en", 60), "1 minute ago");
        assert_eq!(ago("de", 3 * 3_600 + 5), "vor 3 Stunden");
        assert_eq!(ago("pl", 5 * 86_400), "5 dni temu");
        assert_eq!(ago("pl", 22 * 60), "22 minuty temu");
        assert_eq!(ago("ja", 400 * 86_400), "400 日前");
    }
}
