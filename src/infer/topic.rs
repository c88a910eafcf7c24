//! A sample of a topic: the newest records of each partition, as JSON lines.
//!
//! The consumer is assigned at absolute offsets and subscribes to nothing: it joins no group,
//! commits nothing and has no `instance_id`, so it may run beside the service.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::config;
use crate::kafka::client_config;

/// Of each question beside the records; a broker that answers does so in milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Of reading: what a slow link carries in this time is a sample, too.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Newest records of all partitions together: rare fields show, and it takes a second.
const RECORDS_MAX: i64 = 10_000;

/// Of their values: the sample is held in memory.
const BYTES_MAX: usize = 64 << 20;

/// Why there is no sample.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// Kafka did not answer, or refused.
    #[error("{what}: {error}; `groundtrack check` tells more")]
    Kafka {
        /// What was asked.
        what: &'static str,
        /// The answer.
        error: KafkaError,
    },
    /// The topic does not exist or has no record.
    #[error("the topic {0} has no record")]
    Empty(String),
}

/// Values of the newest records of the configured topic, one on each line. Blocks, a minute at
/// most.
///
/// # Errors
/// [`SampleError`]
pub fn sample(kafka: &config::Kafka) -> Result<Vec<u8>, SampleError> {
    let failed = |what| move |error| SampleError::Kafka { what, error };
    let consumer = consumer(kafka).map_err(failed("no consumer can be made"))?;
    let partitions =
        partitions(&consumer, &kafka.topic).map_err(failed("looking for the topic"))?;
    let ranges = ranges(&consumer, &kafka.topic, &partitions)
        .map_err(failed("asking for the topic's offsets"))?;
    let mut assignment = TopicPartitionList::new();
    for (partition, from) in &ranges {
        assignment
            .add_partition_offset(&kafka.topic, *partition, Offset::Offset(*from))
            .map_err(failed("choosing where to read"))?;
    }
    consumer
        .assign(&assignment)
        .map_err(failed("choosing where to read"))?;
    let lines = read(&consumer, ranges.iter().map(|range| range.0).collect());
    // Destroying a consumer may hang on partitions that are still assigned.
    consumer.unassign().map_err(failed("ending the consumer"))?;
    if lines.is_empty() {
        return Err(SampleError::Empty(kafka.topic.clone()));
    }
    Ok(lines)
}

fn consumer(kafka: &config::Kafka) -> Result<BaseConsumer, KafkaError> {
    let mut client = client_config(kafka);
    // A name is needed to assign partitions at all; the group is never joined. The group's own is
    // the one that this user may surely name.
    client.set("group.id", &kafka.group);
    client.set("enable.auto.commit", "false");
    client.set("enable.auto.offset.store", "false");
    client.set("auto.offset.reset", "error");
    client.set("isolation.level", "read_committed");
    client.set("enable.partition.eof", "true");
    // Errors come from the calls.
    client.set_log_level(RDKafkaLogLevel::Emerg);
    client.create()
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
    let Some(topic) = metadata.topics().first() else {
        return Ok(Vec::new());
    };
    match topic.error() {
        Some(error) => Err(KafkaError::MetadataFetch(error.into())),
        None => Ok(topic.partitions().iter().map(|one| one.id()).collect()),
    }
}

/// Partitions that hold something, and where their share of the sample begins.
fn ranges(
    consumer: &BaseConsumer,
    topic: &str,
    partitions: &[i32],
) -> Result<Vec<(i32, i64)>, KafkaError> {
    let share = share(partitions.len());
    let mut ranges = Vec::new();
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, *partition, ANSWER_TIMEOUT)?;
        if high > low {
            ranges.push((*partition, low.max(high - share)));
        }
    }
    Ok(ranges)
}

/// Of a partition, in offsets.
fn share(partitions: usize) -> i64 {
    let partitions = i64::try_from(partitions).unwrap_or(i64::MAX).max(1);
    (RECORDS_MAX / partitions).max(1)
}

/// Reads each partition to its end, or as much as fits in room and time.
fn read(consumer: &BaseConsumer, mut open: BTreeSet<i32>) -> Vec<u8> {
    let deadline = Instant::now() + READ_TIMEOUT;
    let mut lines = Vec::new();
    let mut records = 0;
    while !open.is_empty() && lines.len() < BYTES_MAX && records < RECORDS_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match consumer.poll(left) {
            Some(Ok(record)) => {
                records += 1;
                add_line(&mut lines, record.payload().unwrap_or_default());
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            // The partition's log moved on under us, or its broker refuses: it gives no more.
            Some(Err(error)) if is_final(&error) => break,
            Some(Err(_)) | None => {}
        }
    }
    lines
}

fn is_final(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AutoOffsetReset, Fatal, OffsetOutOfRange, TopicAuthorizationFailed};
    matches!(
        error.rdkafka_error_code(),
        Some(AutoOffsetReset | Fatal | OffsetOutOfRange | TopicAuthorizationFailed)
    )
}

/// A value on one line: outside of strings a line break is a space to JSON, and within them there
/// is none.
fn add_line(lines: &mut Vec<u8>, value: &[u8]) {
    lines.extend(value.iter().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => *byte,
    }));
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use rdkafka::config::ClientConfig;
    use rdkafka::producer::{FutureProducer, FutureRecord};

    use super::*;
    use crate::demo::broker::Broker;

    fn broker() -> (Broker, config::Kafka) {
        let broker = Broker::start(&slog::Logger::root(slog::Discard, slog::o!())).unwrap();
        broker.create_topic("project_topic", 2).unwrap();
        let mut kafka = crate::testing::config().kafka;
        kafka.brokers = vec![broker.bootstrap_servers().unwrap()];
        (broker, kafka)
    }

    #[tokio::test]
    async fn the_newest_of_each_partition_are_read_one_a_line() {
        let (_broker, kafka) = broker();
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", kafka.brokers.join(","))
            .create()
            .unwrap();
        for partition in [0, 1] {
            let value = format!("{{\n\"partition\":\r\n{partition}}}");
            let record = FutureRecord::<str, str>::to(&kafka.topic)
                .partition(partition)
                .payload(&value);
            producer.send(record, ANSWER_TIMEOUT).await.unwrap();
        }
        let lines = tokio::task::spawn_blocking(move || sample(&kafka));
        let lines = String::from_utf8(lines.await.unwrap().unwrap()).unwrap();
        let mut lines: Vec<&str> = lines.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["{ \"partition\":  0}", "{ \"partition\":  1}"]);
    }

    #[test]
    fn a_topic_without_records_gives_no_sample() {
        let (_broker, kafka) = broker();
        assert!(matches!(sample(&kafka), Err(SampleError::Empty(_))));
    }

    #[test]
    fn brokers_that_are_away_are_an_error() {
        let kafka = crate::testing::config().kafka;
        assert!(matches!(sample(&kafka), Err(SampleError::Kafka { .. })));
    }

    #[test]
    fn a_partition_gives_its_share() {
        assert_eq!(share(0), RECORDS_MAX);
        assert_eq!(share(4), RECORDS_MAX / 4);
        assert_eq!(share(usize::MAX), 1);
    }
}
