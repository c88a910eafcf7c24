//! A log in memory, and what the landing protocol asks of Kafka about it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use groundtrack::landing::broker::{Broker, BrokerError, FirstRecord, Met, RecordAt, TopicView};
use groundtrack::landing::protocol::checkpoint::record_hash;

/// 2023-11-14T22:13:20Z: the last hours of a day in UTC.
const START_MS: i64 = 1_700_000_000_000;
/// Seven of these are a day: a batch of five records lies in one folder or two.
const STEP_MS: i64 = 24 * 3_600_000 / 7;

/// A record's time and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub timestamp_ms: i64,
    pub value: Vec<u8>,
}

impl Record {
    /// Every fifth is no JSON.
    pub fn numbered(offset: i64) -> Self {
        let value = match offset % 5 {
            3 => b"no json".to_vec(),
            _ => format!("{{\"n\":{offset}}}").into_bytes(),
        };
        Self {
            timestamp_ms: START_MS + offset * STEP_MS,
            value,
        }
    }

    pub fn is_reject(&self) -> bool {
        self.value == b"no json"
    }

    pub fn hash(&self) -> u64 {
        record_hash(None, Some(&self.value))
    }
}

/// The same log for every partition of the topic.
#[derive(Debug)]
pub struct State {
    /// `None`: a hole.
    pub records: Vec<Option<Record>>,
    pub low: i64,
    pub topic: Option<TopicView>,
}

/// Kafka, as far as the protocol asks.
#[derive(Debug, Clone)]
pub struct Kafka(Arc<Mutex<State>>);

impl Kafka {
    /// So many records.
    pub fn with(records: i64) -> Self {
        let topic = TopicView {
            cluster_id: "cluster-1".into(),
            topic_id: "topic-1".into(),
            partitions: 2,
        };
        Self(Arc::new(Mutex::new(State {
            records: (0..records).map(|n| Some(Record::numbered(n))).collect(),
            low: 0,
            topic: Some(topic),
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn end(&self) -> i64 {
        self.state().records.len() as i64
    }

    /// Appends records up to this offset.
    pub fn fill_to(&self, end: i64) {
        let from = self.end();
        let more = (from..end).map(|offset| Some(Record::numbered(offset)));
        self.state().records.extend(more);
    }

    /// What can be read of [from, to).
    pub fn read(&self, from: i64, to: i64) -> Vec<(i64, Record)> {
        let state = self.state();
        (from.max(state.low)..to)
            .filter_map(|offset| {
                let record = state.records.get(offset as usize)?.clone()?;
                Some((offset, record))
            })
            .collect()
    }
}

#[async_trait]
impl Broker for Kafka {
    async fn topic(&self) -> Result<Option<TopicView>, BrokerError> {
        Ok(self.state().topic.clone())
    }

    async fn watermarks(&self, _: i32) -> Result<(i64, i64), BrokerError> {
        let state = self.state();
        Ok((state.low, state.records.len() as i64))
    }

    async fn offset_for_time(&self, _: i32, time_ms: i64) -> Result<Option<i64>, BrokerError> {
        let records = self.read(0, self.end());
        let first = records
            .iter()
            .find(|(_, record)| record.timestamp_ms >= time_ms);
        Ok(first.map(|(offset, _)| *offset))
    }

    async fn committed(&self, _: i32) -> Result<Option<i64>, BrokerError> {
        Ok(None)
    }

    async fn record_at(&self, _: i32, offset: i64) -> Result<RecordAt, BrokerError> {
        Ok(match self.read(offset, offset + 1).pop() {
            Some((_, record)) => RecordAt::Found {
                timestamp_ms: record.timestamp_ms,
                hash: record.hash(),
            },
            None => RecordAt::NotCompared,
        })
    }

    async fn first_at(&self, _: i32, offset: i64) -> Result<Met, BrokerError> {
        let first = self.read(offset, self.end()).into_iter().next();
        Ok(match first {
            Some((offset, record)) => Met::Record(FirstRecord {
                offset,
                timestamp_ms: record.timestamp_ms,
            }),
            None => Met::End,
        })
    }
}
