//! What every object says of itself, in its Parquet footer under the key [`FOOTER_KEY`].

use serde::{Deserialize, Serialize};

use crate::landing::layout::Layout;
use crate::landing::offsets::OffsetDigest;

/// Key of the entry in Parquet's key-value metadata.
pub const FOOTER_KEY: &str = "groundtrack";
/// The format that this version writes and reads.
pub const FOOTER_FORMAT: u32 = 1;

/// The footer: whose object this is, what is in it, and what the whole batch holds, so that the
/// bucket alone can prove that nothing is missing from a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Footer {
    /// [`FOOTER_FORMAT`].
    pub format: u32,
    /// The version of groundtrack that wrote it.
    pub version: String,
    /// Whose records these are.
    #[serde(flatten)]
    pub identity: Identity,
    /// XXH3 (64 bits, hexadecimal) of the columns' names and types.
    pub fingerprint: String,
    /// What is in this file.
    pub file: FileFooter,
    /// What is in the batch.
    pub batch: BatchFooter,
}

/// Whose records an object holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Kafka's cluster id; empty: unknown.
    pub cluster_id: String,
    /// The topic's id; empty: unknown.
    pub topic_id: String,
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The consumer group.
    pub group: String,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileFooter {
    /// Its offsets.
    #[serde(flatten)]
    pub offsets: OffsetDigest,
    /// Of them, dead letters: all or none.
    pub rejects: u64,
    /// Lost offsets [from, to) of the range, as known when it was written.
    pub gap: Option<[i64; 2]>,
}

/// What is in a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BatchFooter {
    /// First offset of the range.
    pub start: i64,
    /// Behind the last offset of the range.
    pub end: i64,
    /// Full keys in the order in which they are created.
    pub keys: Vec<String>,
    /// The layout that the range is pinned to.
    pub layout: Layout,
    /// All the offsets that the writer read in the range.
    #[serde(flatten)]
    pub offsets: OffsetDigest,
}

/// An id that is empty or all zero (as a UUID, or as the base64 of one) is unknown.
pub fn is_unknown(id: &str) -> bool {
    id.bytes().all(|byte| matches!(byte, b'0' | b'-'))
        || id.trim_end_matches('=').bytes().all(|byte| byte == b'A')
}

/// Whether two ids name different things: an unknown one never does.
pub fn differ(left: &str, right: &str) -> bool {
    !is_unknown(left) && !is_unknown(right) && left != right
}

impl Footer {
    /// Of an object that this version writes. A file holds rows or dead letters, never both.
    pub fn new(
        identity: Identity,
        fingerprint: String,
        offsets: OffsetDigest,
        is_dead_letters: bool,
        gap: Option<[i64; 2]>,
        batch: BatchFooter,
    ) -> Self {
        Self {
            format: FOOTER_FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            identity,
            fingerprint,
            file: FileFooter {
                offsets,
                rejects: if is_dead_letters { offsets.count } else { 0 },
                gap,
            },
            batch,
        }
    }

    /// Whether an object found under a listed key is of our batch; else why it is foreign.
    ///
    /// # Errors
    /// What differs, in plain words.
    pub fn matches(&self, identity: &Identity, start: i64, end: i64) -> Result<(), String> {
        let found = &self.identity;
        for (what, found, ours) in [
            ("cluster id", &found.cluster_id, &identity.cluster_id),
            ("topic id", &found.topic_id, &identity.topic_id),
        ] {
            if differ(found, ours) {
                return Err(format!("its {what} is {found}, ours {ours}"));
            }
        }
        for (what, found, ours) in [
            ("topic", &found.topic, &identity.topic),
            ("group", &found.group, &identity.group),
        ] {
            if found != ours {
                return Err(format!("its {what} is {found}, ours {ours}"));
            }
        }
        if found.partition != identity.partition {
            return Err(format!(
                "its partition is {}, ours {}",
                found.partition, identity.partition
            ));
        }
        if (self.batch.start, self.batch.end) != (start, end) {
            let (from, to) = (self.batch.start, self.batch.end);
            return Err(format!(
                "its range is [{from}, {to}), ours [{start}, {end})"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_id_never_differs() {
        assert!(is_unknown("") && is_unknown("AAAAAAAAAAAAAAAAAAAAAA"));
        assert!(is_unknown("00000000-0000-0000-0000-000000000000"));
        assert!(!is_unknown("AAAAAAAAAAAAAAAAAAAAAB") && !is_unknown("0A"));
        assert!(!differ("", "x") && !differ("x", "x") && differ("x", "y"));
    }
}
