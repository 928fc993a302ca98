//! The record of a user, for [`fuzzing`](crate::fuzzing).

use super::codec::Encoded;
use super::record::Record;

/// Reads a record as Redis keeps it, and keeps it as memory does.
pub(crate) fn record(bytes: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(bytes) else { return };
    let encoded = Encoded::new(&record);
    assert_eq!(encoded.revision(), record.revision);
    assert_eq!(encoded.len(), record.len());
    assert_eq!(encoded.decode(), record);
}
