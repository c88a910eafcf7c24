//! What is outside of every writer: the store and Kafka's log.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use groundtrack::landing::broker::{RecordAt, TopicView};
use groundtrack::landing::layout::Layout;
use groundtrack::landing::offsets::OffsetSet;
use groundtrack::landing::protocol::checkpoint::{Checkpoint, LastRecord};
use groundtrack::landing::protocol::claim::LogView;
use groundtrack::landing::protocol::footer::Footer;
use groundtrack::store::{Condition, ETag, Object, StoreError};

/// Kafka's log of the partition. Offsets below `high` that are not among `holes` hold records.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Log {
    /// 1, and one more each time the topic is deleted and made anew.
    pub generation: u8,
    pub low: i64,
    pub high: i64,
    pub holes: OffsetSet,
}

impl Log {
    /// Offsets of the records in [from, to) that can still be read.
    pub fn records(&self, from: i64, to: i64) -> OffsetSet {
        OffsetSet::from_range(from.max(self.low), to.min(self.high)).minus(&self.holes)
    }

    pub fn topic(&self) -> TopicView {
        TopicView {
            cluster_id: "c".into(),
            topic_id: format!("t{}", self.generation),
            partitions: 1,
        }
    }

    pub fn view(&self) -> LogView {
        LogView {
            topic: self.topic(),
            low: self.low,
            high: self.high,
        }
    }

    pub fn last_record(&self, offset: i64) -> LastRecord {
        LastRecord {
            offset,
            timestamp_ms: offset,
            hash: u64::from(self.generation),
        }
    }

    pub fn record_at(&self, offset: i64) -> RecordAt {
        if !self.records(offset, offset + 1).contains(offset) {
            return RecordAt::NotCompared;
        }
        let last = self.last_record(offset);
        RecordAt::Found {
            timestamp_ms: last.timestamp_ms,
            hash: last.hash,
        }
    }
}

/// A data or dead-letters object: what its Parquet file would say and hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct File {
    pub footer: Footer,
    /// The offsets of its rows.
    pub rows: OffsetSet,
    /// Which log the rows were read from.
    pub log: u8,
    /// How the rows were made.
    pub layout: Arc<Layout>,
}

/// What lies in the store. Checkpoints as their bytes, which the ETag is a hash of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Store {
    pub checkpoints: BTreeMap<String, Arc<Stored>>,
    pub files: BTreeMap<String, Arc<File>>,
}

#[derive(Debug, Clone)]
pub struct Stored {
    pub body: Bytes,
    pub checkpoint: Checkpoint,
    pub etag: ETag,
}

impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        self.body == other.body
    }
}

impl Eq for Stored {}

impl Hash for Stored {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.etag.hash(state);
    }
}

impl Stored {
    pub fn new(body: Bytes) -> Self {
        let checkpoint = groundtrack::landing::ledger::decode(&body).expect("a checkpoint");
        let etag = etag(&body);
        Self {
            body,
            checkpoint,
            etag,
        }
    }

    pub fn object(&self) -> Object {
        Object {
            body: self.body.clone(),
            etag: self.etag.clone(),
        }
    }
}

fn etag(body: &[u8]) -> ETag {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    ETag(format!("{:x}", hasher.finish()))
}

/// A write that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Put {
    Checkpoint {
        key: String,
        body: Bytes,
        condition: Condition,
    },
    File {
        key: String,
        file: Arc<File>,
        /// False: whatever is there is replaced.
        create_only: bool,
    },
}

impl Store {
    /// The write takes effect now, if its condition holds.
    pub fn put(&mut self, put: &Put) -> Result<ETag, StoreError> {
        match put {
            Put::Checkpoint {
                key,
                body,
                condition,
            } => {
                let current = self.checkpoints.get(key);
                match (condition, current) {
                    (Condition::Absent, Some(_)) => return Err(StoreError::Precondition),
                    (Condition::Matches(_), None) => return Err(StoreError::NotFound),
                    (Condition::Matches(etag), Some(current)) if *etag != current.etag => {
                        return Err(StoreError::Precondition);
                    }
                    _ => {}
                }
                let stored = Stored::new(body.clone());
                let etag = stored.etag.clone();
                self.checkpoints.insert(key.clone(), Arc::new(stored));
                Ok(etag)
            }
            Put::File {
                key,
                file,
                create_only,
            } => {
                if *create_only && self.files.contains_key(key) {
                    return Err(StoreError::Precondition);
                }
                self.files.insert(key.clone(), file.clone());
                Ok(ETag(String::new()))
            }
        }
    }

    /// Whether the write can never change anything any more, where no content comes back (which
    /// is looked at in configurations of its own) and nothing is deleted.
    pub fn is_idle(&self, put: &Put) -> bool {
        match put {
            Put::File {
                key, create_only, ..
            } => *create_only && self.files.contains_key(key),
            Put::Checkpoint { key, condition, .. } => {
                let current = self.checkpoints.get(key).map(|stored| &stored.etag);
                match condition {
                    Condition::Absent => current.is_some(),
                    Condition::Matches(etag) => current != Some(etag),
                }
            }
        }
    }

    pub fn read_checkpoint(&self, key: &str) -> Result<Object, StoreError> {
        self.checkpoints
            .get(key)
            .map(|stored| stored.object())
            .ok_or(StoreError::NotFound)
    }
}
