//! The body of a log stream, for [`fuzzing`](crate::fuzzing).

use super::event::{MAX_ENTRIES, MAX_ID_CHARS, MAX_NAME_CHARS, parse};

/// Reads a body, and once more with white space around it and with a line that is no entry.
pub(crate) fn log_stream(body: &[u8]) {
    let read = parse(body);
    let has_mark = body.starts_with(b"\xef\xbb\xbf");
    if !has_mark {
        assert_eq!(parse(&[b" \n", body, b"\r\n"].concat()), read);
        assert_eq!(parse(&[b"\xef\xbb\xbf", body].concat()), read);
    }
    let Ok(read) = read else { return };
    assert!(read.entries.len() + read.malformed <= MAX_ENTRIES);
    for entry in &read.entries {
        let login = entry.login.as_ref();
        let ids =
            [entry.log_id.as_ref(), login.and_then(|it| it.sid.as_ref()), login.and_then(|it| it.client_id.as_ref())];
        let names = login.map_or([None; 2], |login| [login.organization_id.as_ref(), login.connection.as_ref()]);
        let bounded = ids.into_iter().map(|id| (id, MAX_ID_CHARS)).chain(names.map(|name| (name, MAX_NAME_CHARS)));
        for (text, most) in bounded.filter_map(|(text, most)| Some((text?, most))) {
            assert!((1..=most).contains(&text.chars().count()));
        }
    }
    let is_array = body.trim_ascii_start().first() == Some(&b'[');
    if !has_mark && !is_array && !read.entries.is_empty() && read.entries.len() + read.malformed < MAX_ENTRIES {
        let with_more = parse(&[b"no entry\n", body].concat()).expect("other lines can be read");
        assert_eq!((&with_more.entries, with_more.malformed), (&read.entries, read.malformed + 1));
    }
}
