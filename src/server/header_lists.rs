//! Finds the HTTP/2 requests that are rejected because their header list is too large.
//!
//! `h2` answers such a request with 431 by itself, before hyper sees it, and says so to nobody. The answer is therefore looked
//! for in what a connection writes: it is the only one that has one header field, `:status`. hyper adds `date` to all others.

/// The frame type and the flags that the answer has.
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The length of the header of a frame.
const FRAME_HEAD: usize = 9;
/// A header block with one field is shorter: an index of one or two bytes and three digits, after updates of the table's size.
const MAX_BLOCK: usize = 24;

/// Reads the frames that a connection writes. HTTP/1.1 has none.
#[derive(Default)]
pub(super) struct WrittenFrames {
    is_http2: Option<bool>,
    /// The header of the frame, as far as it was written.
    head: Vec<u8>,
    /// How many bytes of the frame are still to be written.
    left: usize,
    /// The beginning of the frame's payload, where it may be the answer.
    block: Vec<u8>,
}

impl WrittenFrames {
    /// Takes what was written, and returns how many rejections ended in it.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> u64 {
        let mut found = 0;
        while let Some(first) = bytes.first() {
            // HTTP/1.1 begins with its name. A frame whose length begins so would be larger than any.
            if !*self.is_http2.get_or_insert(*first != b'H') {
                break;
            }
            if self.head.len() < FRAME_HEAD {
                let (part, rest) = bytes.split_at(bytes.len().min(FRAME_HEAD - self.head.len()));
                self.head.extend_from_slice(part);
                bytes = rest;
                if let [high, middle, low, ..] = self.head[..]
                    && self.head.len() == FRAME_HEAD
                {
                    self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                } else {
                    continue;
                }
            } else {
                let (part, rest) = bytes.split_at(bytes.len().min(self.left));
                if self.head[3] == HEADERS && self.block.len() + part.len() <= MAX_BLOCK {
                    self.block.extend_from_slice(part);
                } else {
                    // No such answer.
                    self.head[3] = u8::MAX;
                }
                self.left -= part.len();
                bytes = rest;
            }
            if self.left == 0 {
                let is_whole = self.head[4] & (END_STREAM | END_HEADERS) == END_STREAM | END_HEADERS;
                found += u64::from(self.head[3] == HEADERS && is_whole && has_one_field(&self.block));
                self.head.clear();
                self.block.clear();
            }
        }
        found
    }
}

/// Whether a header block of HPACK (RFC 7541, section 6) has exactly one field.
fn has_one_field(mut block: &[u8]) -> bool {
    // Updates of the size of the table.
    while let Some(0b0010_0000..=0b0011_1111) = block.first() {
        let Some((_, rest)) = integer(block, 5) else { return false };
        block = rest;
    }
    match block.first() {
        None => false,
        // A field of the table.
        Some(0b1000_0000..) => integer(block, 7).is_some_and(|(_, rest)| rest.is_empty()),
        // A value, with a name of the table.
        Some(first) => {
            let named = integer(block, if *first >= 0b0100_0000 { 6 } else { 4 }).filter(|(name, _)| *name > 0);
            let value = named.and_then(|(_, rest)| integer(rest, 7));
            value.is_some_and(|(length, rest)| length == rest.len())
        }
    }
}

/// An integer whose first byte has this many bits for it, and what follows. Larger ones than fit into a short block are none.
fn integer(bytes: &[u8], bits: u32) -> Option<(usize, &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    let most = (1 << bits) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        for shift in [0, 7, 14] {
            let (next, after) = rest.split_first()?;
            value += usize::from(*next & 0x7f) << shift;
            rest = after;
            if *next < 0x80 {
                return Some((value, rest));
            }
        }
        return None;
    }
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn found(bytes: &[u8], part: usize) -> u64 {
        let mut frames = WrittenFrames::default();
        bytes.chunks(part).map(|part| frames.read(part)).sum()
    }

    #[test]
    fn rejections_are_found_among_other_frames() {
        let rejected = [
            &b"\x48\x03431"[..], // with incremental indexing
            b"\x08\x03431",      // without
            b"\x48\x82\x68\x5f", // with Huffman's code
            b"\xbe",             // from the table
            b"\xff\x10",         // from its end
            b"\x3f\xe1\x1f\xbe", // after an update of its size
        ];
        let others = [
            frame(4, 0, &[0; 12]),
            frame(4, 1, b""),
            frame(HEADERS, END_HEADERS, b"\x48\x03431"),
            frame(HEADERS, END_HEADERS | END_STREAM, b"\x89\xbf"),
            frame(HEADERS, END_HEADERS | END_STREAM, b"\x48\x03405\xbf"),
            frame(HEADERS, END_HEADERS | END_STREAM, &[0xbe; 100]),
            frame(0, END_STREAM, &[0xbe; 1]),
            frame(0, 0, &[0x48; 5_000]),
        ];
        let mut bytes = frame(4, 0, &[0; 6]);
        for (block, other) in rejected.iter().cycle().zip(&others) {
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, block));
            bytes.extend(other);
        }
        for part in [1, 2, 3, 7, 10, 100_000] {
            assert_eq!(found(&bytes, part), others.len() as u64, "{part}");
        }
        assert_eq!(found(&[&b"HTTP/1.1 200 OK\r\n\r\n"[..], &bytes].concat(), 5), 0);
    }
}
