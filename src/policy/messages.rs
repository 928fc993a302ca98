//! What a blocked user reads: the policy's text for the reason, or a built-in sentence, in the language of the login.

use super::sentences::{self, MessageKind};

/// A policy's texts in one language.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LanguageMessages {
    /// The language as a BCP 47 tag.
    pub language: String,
    /// The text for a login over a limit.
    pub limit_exceeded: Option<String>,
    /// The text for a check that could not be decided.
    pub unavailable: Option<String>,
    /// The text for a login without a session.
    pub no_session: Option<String>,
}

impl LanguageMessages {
    fn get(&self, kind: MessageKind) -> Option<&str> {
        match kind {
            MessageKind::LimitExceeded => self.limit_exceeded.as_deref(),
            MessageKind::Unavailable => self.unavailable.as_deref(),
            MessageKind::NoSession => self.no_session.as_deref(),
            // Only the service knows when these happen, so a policy has no text for them.
            MessageKind::SessionRevoked | MessageKind::InternalError => None,
        }
    }
}

/// The text for a blocked login: the policy's in the language of the login, then its `message` for a login over a limit, then the
/// built-in sentence in that language, then the English one.
pub(super) fn text<'a>(
    kind: MessageKind,
    message: Option<&'a str>,
    messages: &'a [LanguageMessages],
    locale: Option<&str>,
) -> &'a str {
    let own = |language: &str| {
        let items = messages.iter().filter(|item| item.language.eq_ignore_ascii_case(language));
        items.filter_map(|item| item.get(kind)).next()
    };
    // Some systems write de_DE.
    let locale = locale.map(|locale| locale.replace('_', "-")).unwrap_or_default();
    lookup(&locale, own)
        .or(message.filter(|_| kind == MessageKind::LimitExceeded))
        .or_else(|| lookup(&locale, |language| sentences::sentence(language, kind)))
        .unwrap_or_else(|| sentences::english(kind))
}

/// BCP 47 lookup (RFC 4647, section 3.4): the tag itself, then the tag without its last subtag, and so on. A single letter or
/// digit before the removed subtag introduces it, and is removed with it.
fn lookup<'a>(locale: &str, find: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
    let mut range = locale;
    while !range.is_empty() {
        if let Some(found) = find(range) {
            return Some(found);
        }
        range = range.rsplit_once('-').map_or("", |(rest, _)| rest);
        if let Some((rest, last)) = range.rsplit_once('-')
            && last.len() == 1
        {
            range = rest;
        }
    }
    None
}

/// Whether the text has the form of a language tag: subtags of letters and digits, the first one of letters (RFC 5646).
pub(super) fn is_language_tag(text: &str) -> bool {
    let mut subtags = text.split('-');
    let is_first = |tag: &str| (2..=8).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_next = |tag: &str| (1..=8).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric());
    subtags.next().is_some_and(is_first) && subtags.all(is_next)
}
