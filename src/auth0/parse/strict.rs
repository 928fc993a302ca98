//! The quick way through a page as Auth0 sends it, and no other: `None` sends the page to the lenient parser.
//!
//! Written by hand because the page is the largest part of a check's own work: most of it is skipped, and no text needs a copy
//! before it is known to be of use. It reads a subset of JSON: text without escapes, whole numbers of ordinary length, and values
//! of the documented shape. On that subset it gives what the lenient parser gives, which a property test and a fuzz target hold.

use jiff::Timestamp;

use super::{MAX_PAGE_ENTRIES, Page};
use crate::policy::{ListedSession, parse_rfc3339};

/// How deep values that are skipped may be nested: those of Auth0 have three levels.
const MAX_DEPTH: usize = 8;
/// The longest number that is skipped: more digits may not fit in 64 bits.
const MAX_DIGITS: usize = 18;

/// The rest of the page that is not read yet. Outside of texts it has only ASCII, and each text is UTF-8.
struct Scanner<'a>(&'a [u8]);

/// Reads a page, if it is one of the usual form. Entries that name `owner` as their user keep no copy of that.
pub(super) fn page(body: &[u8], owner: Option<&str>) -> Option<Page> {
    let mut scanner = Scanner(body);
    let mut page = Page::default();
    scanner.space();
    scanner.object(|scanner, key| {
        match key {
            b"sessions" => {
                (page.sessions, page.entries, page.has_sessions) = (Vec::new(), 0, true);
                scanner.list(|scanner| {
                    let session = scanner.session(owner)?;
                    page.entries += 1;
                    if page.entries <= MAX_PAGE_ENTRIES && !session.id.is_empty() {
                        page.sessions.push(session);
                    }
                    Some(())
                })?;
            }
            b"next" => page.next = scanner.text_or_null()?.filter(|next| !next.is_empty()).map(str::to_owned),
            _ => scanner.skip(0)?,
        }
        Some(())
    })?;
    scanner.space();
    scanner.0.is_empty().then_some(page)
}

impl<'a> Scanner<'a> {
    fn session(&mut self, owner: Option<&str>) -> Option<ListedSession> {
        let mut session = ListedSession::default();
        self.object(|scanner, key| {
            match key {
                b"id" => session.id = scanner.text_or_null()?.unwrap_or_default().to_owned(),
                b"user_id" => {
                    session.user_id = scanner.text_or_null()?.filter(|user| Some(*user) != owner).map(str::to_owned);
                }
                b"created_at" => session.created_at = scanner.date()?,
                b"authenticated_at" => session.authenticated_at = scanner.date()?,
                b"last_interacted_at" => session.last_interacted_at = scanner.date()?,
                b"idle_expires_at" => session.idle_expires_at = scanner.date()?,
                b"expires_at" => session.expires_at = scanner.date()?,
                b"clients" => session.clients = scanner.clients()?,
                b"actor" => session.has_actor = scanner.actor()?,
                _ => scanner.skip(0)?,
            }
            Some(())
        })?;
        Some(session)
    }

    fn clients(&mut self) -> Option<Option<Vec<String>>> {
        if self.take("null") {
            return Some(None);
        }
        let mut clients = Vec::new();
        self.list(|scanner| {
            let mut id = None;
            scanner.object(|scanner, key| {
                match key {
                    b"client_id" => id = scanner.text_or_null()?,
                    _ => scanner.skip(0)?,
                }
                Some(())
            })?;
            clients.push(id?.to_owned());
            Some(())
        })?;
        Some(Some(clients))
    }

    fn actor(&mut self) -> Option<bool> {
        if self.take("null") {
            return Some(false);
        }
        let mut is_named = false;
        self.object(|scanner, key| {
            match key {
                b"sub" => is_named = scanner.text_or_null()?.is_some_and(|name| !name.is_empty()),
                _ => scanner.skip(0)?,
            }
            Some(())
        })?;
        Some(is_named)
    }

    fn text_or_null(&mut self) -> Option<Option<&'a str>> {
        if self.take("null") { Some(None) } else { Some(Some(std::str::from_utf8(self.text()?).ok()?)) }
    }

    /// `None` inside for null and for text that is no date.
    fn date(&mut self) -> Option<Option<Timestamp>> {
        self.text_or_null().map(|text| text.and_then(parse_rfc3339))
    }

    /// Text without escapes, which is UTF-8.
    fn text(&mut self) -> Option<&'a [u8]> {
        let [b'"', rest @ ..] = self.0 else { return None };
        let (length, is_ascii) = plain_length(rest);
        let (text, [b'"', rest @ ..]) = rest.split_at_checked(length)? else { return None };
        self.0 = rest;
        (is_ascii || std::str::from_utf8(text).is_ok()).then_some(text)
    }

    /// An object, whose values `member` reads by their keys.
    fn object(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.items(b'{', b'}', |scanner| {
            let key = scanner.text()?;
            scanner.space();
            scanner.byte(b':')?;
            scanner.space();
            member(scanner, key)
        })
    }

    fn list(&mut self, item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.items(b'[', b']', item)
    }

    fn items(&mut self, begin: u8, end: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.byte(begin)?;
        self.space();
        if self.byte(end).is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            self.space();
            if self.byte(b',').is_none() {
                return self.byte(end);
            }
            self.space();
        }
    }

    /// Reads a value of any shape.
    fn skip(&mut self, depth: usize) -> Option<()> {
        match self.0.first()? {
            b'"' => self.text().map(drop),
            b'{' if depth < MAX_DEPTH => self.object(|scanner, _| scanner.skip(depth + 1)),
            b'[' if depth < MAX_DEPTH => self.list(|scanner| scanner.skip(depth + 1)),
            b'1'..=b'9' => {
                let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
                // What follows a whole number is a comma, a bracket or space; anything else is no whole number.
                (digits <= MAX_DIGITS).then(|| self.0 = &self.0[digits..])
            }
            _ => ["null", "true", "false", "0"].into_iter().any(|word| self.take(word)).then_some(()),
        }
    }

    fn take(&mut self, word: &str) -> bool {
        let rest = self.0.strip_prefix(word.as_bytes());
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        let is_next = *first == byte;
        self.0 = if is_next { rest } else { self.0 };
        is_next.then_some(())
    }

    fn space(&mut self) {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }
}

/// The length of text until a quote, a backslash or a control character, and whether it certainly is ASCII; eight bytes at a time.
fn plain_length(text: &[u8]) -> (usize, bool) {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    // In the result of each, the lowest high bit marks the first such byte; a borrow may set others above it.
    let less_than = |word: u64, byte: u8| word.wrapping_sub(ONES * u64::from(byte)) & !word & HIGHS;
    let equal_to = |word: u64, byte: u8| less_than(word ^ (ONES * u64::from(byte)), 1);
    let (words, rest) = text.as_chunks::<8>();
    let mut high = 0;
    for (position, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        high |= word & HIGHS;
        let found = less_than(word, 0x20) | equal_to(word, b'"') | equal_to(word, b'\\');
        if found != 0 {
            return (position * 8 + found.trailing_zeros() as usize / 8, high == 0);
        }
    }
    let is_special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    (words.len() * 8 + rest.iter().position(is_special).unwrap_or(rest.len()), false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plain_length_is_that_of_a_plain_search(text in "[ -~]{0,40}|[a-c\"\\\\\\x00-\\x21\u{80}\u{7f}ß]{0,40}|(?s:.){0,40}") {
            let expected = text.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\');
            let (length, is_ascii) = plain_length(text.as_bytes());
            prop_assert_eq!(length, expected.unwrap_or(text.len()));
            prop_assert!(!is_ascii || text[..length].is_ascii());
        }
    }
}
