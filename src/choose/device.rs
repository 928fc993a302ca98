//! The browser and the system of a session, by its user agent.
//!
//! A user agent is text of a stranger, who may write anything into it. `ua-parser` reads it by the rules of uap-core, and only
//! names of the two closed sets below are shown: never a part of the text.

use std::sync::LazyLock;

use ua_parser::{Extractor, Regexes};

/// The longest user agent that is read. Those of browsers have 100 to 250 bytes.
pub const MAX_USER_AGENT_BYTES: usize = 1_024;

/// The rules of uap-core that find a name that is shown: they take 5 MiB, and all rules 15.
static EXTRACTOR: LazyLock<Extractor<'static>> = LazyLock::new(|| {
    let mut rules: Regexes<'static> = serde_saphyr::from_str(include_str!("uap-core/regexes.yaml")).expect(RULES);
    rules.user_agent_parsers.retain(|rule| can_find(&BROWSERS, &rule.regex, rule.family_replacement.as_deref()));
    rules.os_parsers.retain(|rule| can_find(&SYSTEMS, &rule.regex, rule.os_replacement.as_deref()));
    Extractor::try_from(rules).expect(RULES)
});

/// Why reading the rules does not fail.
const RULES: &str = "the rules are a part of the program";

/// Whether a rule can find one of these families: its replacement, or what its expression matches when that is a part of it. Not
/// those for requests of native applications through CFNetwork, which show no login page.
fn can_find(known: &[(&str, &str)], regex: &str, replacement: Option<&str>) -> bool {
    !regex.contains("CFNetwork")
        && known.iter().any(|(prefix, _)| match replacement {
            Some(family) if !family.contains('$') => family.starts_with(prefix),
            _ => regex.contains(prefix),
        })
}

/// The browsers that are named, each with the families of uap-core that it is. The first prefix that fits counts.
const BROWSERS: [(&str, &str); 17] = [
    ("Edge", "Microsoft Edge"),
    ("Opera", "Opera"),
    ("Samsung Internet", "Samsung Internet"),
    ("Firefox", "Firefox"),
    ("Vivaldi", "Vivaldi"),
    ("Brave", "Brave"),
    ("DuckDuckGo", "DuckDuckGo"),
    ("Yandex Browser", "Yandex Browser"),
    ("UC Browser", "UC Browser"),
    ("MiuiBrowser", "Mi Browser"),
    ("HuaweiBrowser", "Huawei Browser"),
    ("Chrome", "Chrome"),
    ("Chromium", "Chromium"),
    ("HeadlessChrome", "Chrome"),
    ("Mobile Safari", "Safari"),
    ("Safari", "Safari"),
    ("IE", "Internet Explorer"),
];

/// The systems that are named.
const SYSTEMS: [(&str, &str); 10] = [
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("iOS", "iOS"),
    ("Android", "Android"),
    ("Chrome OS", "ChromeOS"),
    ("Ubuntu", "Linux"),
    ("Fedora", "Linux"),
    ("Debian", "Linux"),
    ("Linux", "Linux"),
    ("HarmonyOS", "HarmonyOS"),
];

/// What a user agent says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The name of the browser, when it is a known one.
    pub browser: Option<&'static str>,
    /// The name of the system, when it is a known one.
    pub system: Option<&'static str>,
}

impl Device {
    /// Reads a user agent.
    pub fn of(user_agent: &str) -> Self {
        if user_agent.len() > MAX_USER_AGENT_BYTES {
            return Self::default();
        }
        let (browser, system, _) = EXTRACTOR.extract(user_agent);
        Self {
            browser: browser.and_then(|browser| named(&BROWSERS, &browser.family)),
            system: system.and_then(|system| named(&SYSTEMS, &system.os)),
        }
    }
}

/// Compiles the rules, so that neither the first page nor the first record waits for it.
pub fn prepare() {
    LazyLock::force(&EXTRACTOR);
}

fn named(known: &[(&str, &'static str)], family: &str) -> Option<&'static str> {
    known.iter().find(|(prefix, _)| family.starts_with(prefix)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_and_systems_in_use_are_named() {
        const CHROME: &str = "(KHTML, like Gecko) Chrome/141.0.0.0";
        for (user_agent, browser, system) in [
            (format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 {CHROME} Safari/537.36"), "Chrome", "Windows"),
            (format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 {CHROME} Safari/537.36 Edg/141.0.0.0"), "Microsoft Edge", "Windows"),
            (format!("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 {CHROME} Safari/537.36 OPR/120.0.0.0"), "Opera", "Linux"),
            (format!("Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 {CHROME} Mobile Safari/537.36"), "Chrome", "Android"),
            (format!("Mozilla/5.0 (Linux; Android 14; SM-S911B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 {CHROME} Mobile Safari/537.36"), "Samsung Internet", "Android"),
            (format!("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 {CHROME} Safari/537.36"), "Chrome", "ChromeOS"),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15".to_owned(), "Safari", "macOS"),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1".to_owned(), "Safari", "iOS"),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/141.0.0.0 Mobile/15E148 Safari/604.1".to_owned(), "Chrome", "iOS"),
            ("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0".to_owned(), "Firefox", "Linux"),
        ] {
            let expected = Device { browser: Some(browser), system: Some(system) };
            assert_eq!(Device::of(&user_agent), expected, "{user_agent}");
        }
    }

    #[test]
    fn text_of_a_user_agent_is_never_shown() {
        for user_agent in ["", "curl/8.0", "<b>Your bank</b>", "Evil/1.0 (call +1 555)", &"Chrome/1 ".repeat(200)] {
            assert_eq!(Device::of(user_agent), Device::default(), "{user_agent}");
        }
    }
}
