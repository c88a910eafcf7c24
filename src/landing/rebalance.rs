//! What librdkafka tells the consumer's thread while it polls: assignments, statistics, errors.
//!
//! Assignments and revokes are noted and carried out by the thread after the poll: an assignment
//! needs the queue and the offsets that the thread owns, and before partitions are given back what
//! was read of them lands. The end of a consumer waits for an answer within the call.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use serde::Deserialize;

use crate::kafka::KafkaLog;

/// What the thread has to do after a poll.
#[derive(Debug)]
pub(crate) enum Notice {
    /// These partitions are ours from now on, once assigned.
    Assigned(Vec<i32>),
    /// These are taken away, once unassigned: the group waits for it.
    Revoked(Vec<i32>),
    /// These were ours until the group gave us up (a session that ended): they may be another
    /// member's already.
    Lost(Vec<i32>),
    /// Watermarks by partition (-1: not known), and whether any broker is connected.
    Statistics(Statistics),
    /// An error of the client as a whole.
    Trouble(KafkaError, String),
}

/// What the statistics say of our topic.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// By partition.
    pub(crate) watermarks: BTreeMap<i32, Watermarks>,
    /// Whether a broker is connected.
    pub(crate) is_connected: bool,
}

/// Where a partition's log is; -1: not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watermarks {
    /// Its first offset.
    pub(crate) low: i64,
    /// Behind what a reader of committed records sees: before the oldest open transaction.
    pub(crate) stable: i64,
    /// Behind its last record.
    pub(crate) high: i64,
}

/// Collects what is told during a poll.
#[derive(Debug)]
pub(crate) struct Context {
    topic: String,
    log: slog::Logger,
    librdkafka: KafkaLog,
    notices: Mutex<VecDeque<Notice>>,
    /// The consumer is about to be destroyed: nobody takes notices any more.
    is_leaving: AtomicBool,
}

impl Context {
    pub(crate) fn new(topic: &str, log: slog::Logger) -> Self {
        Self {
            topic: topic.to_owned(),
            librdkafka: KafkaLog::new(log.clone()),
            log,
            notices: Mutex::default(),
            is_leaving: AtomicBool::new(false),
        }
    }

    /// From now on whatever is assigned or revoked is unassigned within the call.
    pub(crate) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// The oldest that was not taken yet.
    pub(crate) fn next_notice(&self) -> Option<Notice> {
        self.notices
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    fn notice(&self, notice: Notice) {
        self.notices
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(notice);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.librdkafka.line(level, facility, line);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match read_statistics(statistics, &self.topic) {
            Ok(statistics) => self.notice(Notice::Statistics(statistics)),
            Err(error) => slog::debug!(self.log, "statistics not read"; "error" => %error),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.notice(Notice::Trouble(error, reason.to_owned()));
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        if self.is_leaving.load(Ordering::Relaxed) {
            // A consumer that closes takes this for the answer under every protocol, and does not
            // end without one.
            if let Err(error) = consumer.unassign() {
                slog::debug!(self.log, "partitions not unassigned"; "error" => %error);
            }
            return;
        }
        let partitions = list.elements().iter().map(|one| one.partition()).collect();
        self.notice(match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Notice::Assigned(partitions),
            _ if consumer.assignment_lost() => Notice::Lost(partitions),
            _ => Notice::Revoked(partitions),
        });
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            slog::debug!(self.log, "offsets not committed to kafka"; "error" => %error);
        }
    }
}

#[derive(Deserialize)]
struct RawStatistics {
    #[serde(default)]
    brokers: BTreeMap<String, RawBroker>,
    #[serde(default)]
    topics: BTreeMap<String, RawTopic>,
}

#[derive(Deserialize)]
struct RawBroker {
    state: String,
}

#[derive(Deserialize)]
struct RawTopic {
    #[serde(default)]
    partitions: BTreeMap<String, RawPartition>,
}

#[derive(Deserialize)]
struct RawPartition {
    partition: i32,
    #[serde(default = "unknown")]
    lo_offset: i64,
    #[serde(default = "unknown")]
    ls_offset: i64,
    #[serde(default = "unknown")]
    hi_offset: i64,
}

fn unknown() -> i64 {
    -1
}

fn read_statistics(json: &[u8], topic: &str) -> serde_json::Result<Statistics> {
    let raw: RawStatistics = serde_json::from_slice(json)?;
    let of_topic = raw.topics.into_iter().find(|(name, _)| name == topic);
    let watermarks = of_topic
        .map(|(_, of_topic)| of_topic.partitions)
        .unwrap_or_default()
        .into_values()
        .filter(|one| one.partition >= 0)
        .map(|one| {
            let watermarks = Watermarks {
                low: one.lo_offset.max(-1),
                stable: one.ls_offset.max(-1),
                high: one.hi_offset.max(-1),
            };
            (one.partition, watermarks)
        })
        .collect();
    Ok(Statistics {
        watermarks,
        is_connected: raw
            .brokers
            .values()
            .any(|broker| broker.state == "UP" || broker.state == "UPDATE"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watermarks_and_connections_are_read_from_statistics() {
        let json = br#"{"brokers":{"a:1/1":{"state":"UP"},"b":{"state":"DOWN"}},"topics":{"t":{"topic":"t",
            "partitions":{"0":{"partition":0,"lo_offset":5,"hi_offset":9,"ls_offset":8},
            "-1":{"partition":-1,"lo_offset":-1001,"ls_offset":-1001},
            "1":{"partition":1,"lo_offset":-1001,"ls_offset":-1001}}}}}"#;
        let statistics = read_statistics(json, "t").unwrap();
        let of = |low, stable, high| Watermarks { low, stable, high };
        let expected = BTreeMap::from([(0, of(5, 8, 9)), (1, of(-1, -1, -1))]);
        assert_eq!(statistics.watermarks, expected);
        assert!(statistics.is_connected);
        assert!(read_statistics(json, "u").unwrap().watermarks.is_empty());
    }
}
