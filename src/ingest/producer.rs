//! The Kafka producer: its properties, the record that a sample becomes, and what its errors mean.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

use super::queue::Fate;
use crate::config;
use crate::kafka::{LogContext, client_config};
use crate::messages::Sample;

/// A producer whose delivery reports are futures.
pub(crate) type KafkaProducer = FutureProducer<LogContext>;

/// Samples under way at a time: a backlog of an hour is sent in two goes, and what the order of a
/// partition may lose by a failure is limited.
pub(crate) const BATCH_SAMPLES: usize = 500;

/// Bytes under way at a time: they are in memory twice, in our queue and in librdkafka's.
pub(crate) const BATCH_BYTES: u64 = 2 * 1024 * 1024;

/// Of one look at the topic's metadata; a broker that answers does so in milliseconds.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// A producer that puts no record twice and in no other order than given, as long as it lives.
pub(crate) fn producer(
    kafka: &config::Kafka,
    log: slog::Logger,
) -> Result<KafkaProducer, KafkaError> {
    let mut client = client_config(kafka);
    if client.get("partitioner").is_none() {
        // The same partition for a key as the Java clients choose, and not librdkafka's own.
        client.set("partitioner", "murmur2_random");
    }
    client.set("enable.idempotence", "true");
    client.set("acks", "all");
    // For ever: a record that librdkafka gives up may be in the log all the same, and sending it
    // again would put it there twice. How long we wait is our own affair (held, then full).
    client.set("message.timeout.ms", "0");
    // Above the largest body with its headers; the broker has the last word on its topic's limit.
    client.set("message.max.bytes", "2097152");
    // Twice what is ever under way; the limit that counts is our own queue's.
    client.set("queue.buffering.max.messages", "1000");
    client.set("queue.buffering.max.kbytes", "8192");
    client.create_with_context(LogContext::new(log))
}

/// The record of a sample. Its key is the source's address, so that what one source gave keeps its
/// order in one partition, and several sources in one topic can be told apart; its time is when
/// the answer was complete; its headers say where it came from.
pub(crate) fn record<'a>(topic: &'a str, sample: &'a Sample) -> FutureRecord<'a, str, [u8]> {
    let fetched_at = DateTime::from_timestamp_millis(sample.fetched_at_ms)
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true));
    let mut headers = OwnedHeaders::new();
    for (key, value) in [
        ("fetched-at", fetched_at.as_deref()),
        ("source", Some(&*sample.source)),
        ("http-date", sample.http_date.as_deref()),
        ("content-type", sample.content_type.as_deref()),
    ] {
        if value.is_some() {
            headers = headers.insert(Header { key, value });
        }
    }
    FutureRecord::to(topic)
        .key(&*sample.source)
        .payload(&sample.body[..])
        .timestamp(sample.fetched_at_ms)
        .headers(headers)
}

/// What follows from the delivery report of a sample.
pub(crate) fn fate(error: &KafkaError) -> Fate {
    match error.rdkafka_error_code() {
        // The same record will never be taken.
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::InvalidTimestamp,
        ) => Fate::Refused,
        // Whatever else is wrong (rights, a topic that is gone, a broker's own trouble) may be
        // mended while we wait.
        _ => Fate::Again,
    }
}

/// How the topic is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topic {
    /// It can be written to.
    There,
    /// The brokers answer, but know no such topic.
    Unknown,
}

/// Asks the brokers for the topic, without creating it. Blocks for as long as
/// [`METADATA_TIMEOUT`].
///
/// # Errors
/// No answer, or a refusal.
pub(crate) fn look_up(producer: &KafkaProducer, topic: &str) -> Result<Topic, KafkaError> {
    let metadata = producer
        .client()
        .fetch_metadata(Some(topic), METADATA_TIMEOUT)?;
    let Some(found) = metadata.topics().first() else {
        return Ok(Topic::Unknown);
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None if found.partitions().is_empty() => Ok(Topic::Unknown),
        None => Ok(Topic::There),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            Ok(Topic::Unknown)
        }
        Some(code) => Err(KafkaError::MetadataFetch(code)),
    }
}

/// Delivers what is under way, for so long at most; the answer is how many are left. Blocks.
pub(crate) fn deliver(producer: &KafkaProducer, within: Duration) -> usize {
    // Its only error is that the time is up, which the number tells better.
    let _ = producer.flush(within);
    usize::try_from(producer.in_flight_count()).unwrap_or(0)
}

/// The reason why this producer can do nothing more, if there is one.
pub(crate) fn fatal(producer: &KafkaProducer) -> Option<String> {
    let (code, text) = producer.client().fatal_error()?;
    Some(format!("{code}: {text}"))
}
