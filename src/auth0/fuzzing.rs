//! What a tenant sends, for [`fuzzing`](crate::fuzzing): the parsers, and what holds of their results.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::grant;
use super::parse::{MAX_PAGE_ENTRIES, Page, parsers_agree};
use super::rate_limit_headers::RateLimit;
use crate::policy::{ListedSession, SessionList};

/// The longest life of a token.
const LONGEST_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Reads a page of the session list. `None` when it is none.
pub(crate) fn page(body: &[u8]) -> Option<Vec<ListedSession>> {
    parsers_agree(body);
    let page = Page::read(body, None).ok()?;
    assert!(page.sessions.len() <= page.entries.min(MAX_PAGE_ENTRIES));
    assert!(page.sessions.iter().all(|session| !session.id.is_empty()));
    assert!(page.next.as_ref().is_none_or(|cursor| !cursor.is_empty()));
    Some(page.sessions)
}

/// Reads a page and joins it to a list, twice: entries that repeat add nothing.
pub(crate) fn list(body: &[u8]) {
    let Some(sessions) = page(body) else { return };
    let mut list = SessionList::new("auth0|u", sessions.clone());
    let (length, dropped) = (list.len(), list.dropped());
    assert!(length + dropped <= sessions.len());
    list.extend("auth0|u", sessions);
    assert_eq!((list.len(), list.dropped()), (length, 2 * dropped));
    assert_eq!(list.views().count(), length);
}

/// Reads an answer of the token endpoint.
pub(crate) fn token(body: &[u8]) {
    let Some(token) = grant::read(body, Instant::now()) else { return };
    assert!(token.lifetime >= Duration::from_secs(1) && token.lifetime <= LONGEST_LIFE, "{:?}", token.lifetime);
    assert!(token.authorization.is_sensitive());
}

/// Reads headers, one a line.
pub(crate) fn rate_limit_headers(lines: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
        let limit = RateLimit::read(&headers, None, now);
        assert!(limit.wait() > Duration::ZERO);
    }
}
