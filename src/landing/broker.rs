//! What the landing protocol asks Kafka beside the flow of records: identities, watermarks, and
//! single records. Every answer comes from the broker, never from a cache.

use async_trait::async_trait;

/// The topic as the brokers see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicView {
    /// Kafka's cluster id; empty: unknown.
    pub cluster_id: String,
    /// The topic's id; empty: unknown (an old broker, the mock cluster).
    pub topic_id: String,
    /// How many partitions it has; at least 1, 0 where that is not known.
    pub partitions: i32,
}

impl TopicView {
    /// A topic of which nothing is known: no mismatch with anything.
    pub fn unknown() -> Self {
        Self {
            cluster_id: String::new(),
            topic_id: String::new(),
            partitions: 0,
        }
    }
}

/// What was found at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordAt {
    /// The record of exactly this offset.
    Found {
        /// Milliseconds since 1970 UTC; -1: Kafka knows none.
        timestamp_ms: i64,
        /// [`crate::landing::protocol::checkpoint::record_hash`] of its key and value.
        hash: u64,
    },
    /// A later record, the log's end, or nothing for ten seconds: compaction may have removed it.
    NotCompared,
}

/// A record that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstRecord {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970 UTC; -1: Kafka knows none.
    pub timestamp_ms: i64,
}

/// What a reader that checks every checksum meets from an offset on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Met {
    /// The first record at or after the offset.
    Record(FirstRecord),
    /// The log's end, or a log that has other offsets by now.
    End,
    /// What cannot be read, or nothing at all for ten seconds.
    Damage {
        /// In librdkafka's words.
        error: String,
        /// The first offset behind it that could be read, if any was.
        readable: Option<i64>,
    },
}

/// Why there is no answer; asking again may help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BrokerError(pub String);

/// The questions. Each has a deadline of its own.
#[async_trait]
pub trait Broker: std::fmt::Debug + Send + Sync {
    /// The topic; `None`: it does not exist (it is waited for, never created by us).
    ///
    /// # Errors
    /// When no broker answers.
    async fn topic(&self) -> Result<Option<TopicView>, BrokerError>;

    /// First offset of the partition's log, and the offset behind its last record (the
    /// high watermark).
    ///
    /// # Errors
    /// When no broker answers.
    async fn watermarks(&self, partition: i32) -> Result<(i64, i64), BrokerError>;

    /// The first offset whose record is at or after this time, milliseconds since 1970 UTC;
    /// `None`: there is none.
    ///
    /// # Errors
    /// When no broker answers.
    async fn offset_for_time(
        &self,
        partition: i32,
        time_ms: i64,
    ) -> Result<Option<i64>, BrokerError>;

    /// The offset that the group has committed to Kafka, if any.
    ///
    /// # Errors
    /// When no broker answers.
    async fn committed(&self, partition: i32) -> Result<Option<i64>, BrokerError>;

    /// What is at this offset.
    ///
    /// # Errors
    /// When no broker answers.
    async fn record_at(&self, partition: i32, offset: i64) -> Result<RecordAt, BrokerError>;

    /// What is met from this offset on, as a reader of committed records sees it.
    ///
    /// # Errors
    /// When no broker answers.
    async fn first_at(&self, partition: i32, offset: i64) -> Result<Met, BrokerError>;
}
