//! A partition's checkpoint: the one small object that decides what has landed.

use serde::{Deserialize, Serialize};

use crate::landing::layout::Layout;

/// The format that this version writes and reads.
pub const FORMAT: u32 = 1;

/// `checkpoints/{group}/{topic}/{partition}.json`. Only ever written by compare-and-swap; every
/// write raises `revision`, because S3's ETags are hashes of the content and content must never
/// come back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Checkpoint {
    /// [`FORMAT`]; a partition with another one waits and says so.
    pub format: u32,
    /// Raised by every write.
    pub revision: u64,
    /// Raised by every claim; messages of older claims are dropped.
    pub epoch: u64,
    /// Who holds the claim: unique per generation.
    pub writer: String,
    /// When it was written, RFC 3339.
    pub time: String,
    /// Kafka's cluster id; all zero or empty: unknown, never a mismatch.
    pub cluster_id: String,
    /// The topic's id; all zero or empty: unknown, never a mismatch.
    pub topic_id: String,
    /// Where the first batch began.
    pub first_offset: i64,
    /// Behind the last landed batch; the batches tile [first_offset, next_offset).
    pub next_offset: i64,
    /// Offsets from `next_offset` to here were read and hold nothing.
    pub holes_to: i64,
    /// The last record landed.
    pub last: Option<LastRecord>,
    /// The range that was begun and has not landed.
    pub pending: Option<Pending>,
    /// How many partitions the topic had at the group's first claim.
    pub partitions: i32,
    /// When the group's first claim was, milliseconds since 1970 UTC.
    pub started_ms: i64,
    /// The job that the group took over from, if it did; copied like `partitions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<Adopted>,
    /// Name and type of every column ever written to the newest root's data folder.
    pub columns: Vec<ColumnRecord>,
    /// Which folders hold the objects, from which offset on. At most [`ROOTS_MAX`].
    pub roots: Vec<Root>,
    /// Why the partition stopped, if it did.
    pub stopped: Option<Stopped>,
}

/// A Spark Structured Streaming job whose work the group went on with. Where a partition below
/// `partitions` has no checkpoint yet, the takeover was interrupted: it must not start anywhere
/// else than where the job ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Adopted {
    /// The job's id, from its checkpoint folder.
    pub job: String,
    /// Its last batch that landed; none: it had landed nothing.
    pub batch: Option<u64>,
}

/// What any checkpoint of the group and topic tells of the group's beginning.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sibling {
    /// See [`Checkpoint::partitions`].
    pub partitions: i32,
    /// See [`Checkpoint::started_ms`].
    pub started_ms: i64,
    /// See [`Checkpoint::adopted`].
    pub adopted: Option<Adopted>,
}

impl Checkpoint {
    /// What it tells of the group's beginning.
    pub fn sibling(&self) -> Sibling {
        Sibling {
            partitions: self.partitions,
            started_ms: self.started_ms,
            adopted: self.adopted.clone(),
        }
    }
}

/// More changes of folders than this are refused at claim: the checkpoint must stay small.
pub const ROOTS_MAX: usize = 16;

/// The last record landed: by it another log at the same offsets is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LastRecord {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970 UTC; -1: Kafka knows none.
    pub timestamp_ms: i64,
    /// [`record_hash`] of its key and value.
    pub hash: u64,
}

/// A range that was begun: a replay, under whatever configuration, repeats exactly this.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pending {
    /// Behind the last offset of the range, which begins at `next_offset`.
    pub end: i64,
    /// Full keys in the order in which they are created; the dead letters' is the last.
    pub keys: Vec<String>,
    /// How its records become rows.
    pub layout: Layout,
    /// The lost offsets [from, to) that the operator has given his word for.
    pub gap: Option<[i64; 2]>,
}

/// A column as written to a data folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ColumnRecord {
    /// Its name.
    pub name: String,
    /// Its type, in the words of the configuration.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Folders, from an offset on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Root {
    /// First offset of the first batch in these folders.
    pub from_offset: i64,
    /// Folder of the data files.
    pub data: String,
    /// Folder of the dead letters.
    pub dead_letters: String,
    /// The columns written to its data folder, from when it is left for another one: who goes back
    /// to it must not change their types there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnRecord>,
}

/// Why a partition stopped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stopped {
    /// In plain words, with how to go on.
    pub cause: String,
    /// RFC 3339.
    pub since: String,
}

/// Hash of a record's key and value: XXH3 (64 bits) over each part's presence, length and bytes.
pub fn record_hash(key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for part in [key, value] {
        hash.update(&part.map_or(-1, |part| part.len() as i64).to_le_bytes());
        hash.update(part.unwrap_or_default());
    }
    hash.digest()
}
