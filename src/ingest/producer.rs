//! The Kafka producer: its properties, the record that a sample becomes, and what its errors mean.
//!
//! It is polled by a task of ours. The crate's own producer of futures has a thread for that, whose
//! poll turns without a pause for the last millisecond of each 100 ms: a hundredth of a processor,
//! more than all the rest at one sample every 5 s.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tokio::sync::{Notify, oneshot};

use super::queue::Fate;
use crate::config;
use crate::kafka::{LogContext, client_config};
use crate::messages::Sample;

/// How often delivery reports are looked for while some are due: a broker needs a few milliseconds.
const POLL_BUSY: Duration = Duration::from_millis(5);

/// How often else: only errors of the client come then.
const POLL_IDLE: Duration = Duration::from_secs(1);

/// Whether Kafka has a sample.
pub(crate) type Report = Result<(), KafkaError>;

/// Hands delivery reports to who waits for them.
#[derive(Debug)]
struct Reports(LogContext);

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<oneshot::Sender<Report>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let report = result
            .as_ref()
            .map(|_| ())
            .map_err(|(error, _)| error.clone());
        // Who waited may have ended.
        let _ = waiting.send(report);
    }
}

/// A producer whose delivery reports can be awaited while [`KafkaProducer::poll`] runs.
#[derive(Clone)]
pub(crate) struct KafkaProducer {
    client: Arc<BaseProducer<Reports>>,
    /// Delivery reports are due from now on.
    sent: Arc<Notify>,
}

impl KafkaProducer {
    /// Hands a sample to librdkafka.
    ///
    /// # Errors
    /// Its queue is full, or it takes nothing.
    pub(crate) fn send(
        &self,
        topic: &str,
        sample: &Sample,
    ) -> Result<oneshot::Receiver<Report>, KafkaError> {
        let (waiting, report) = oneshot::channel();
        let sent = self.client.send(record(topic, sample, Box::new(waiting)));
        self.sent.notify_one();
        sent.map(|()| report).map_err(|(error, _)| error)
    }

    /// Takes delivery reports and errors from librdkafka, for ever.
    pub(crate) async fn poll(self) -> Infallible {
        loop {
            self.client.poll(Duration::ZERO);
            if self.client.in_flight_count() > 0 {
                tokio::time::sleep(POLL_BUSY).await;
            } else {
                // Its end is of no interest: it is looked all the same.
                let _ = tokio::time::timeout(POLL_IDLE, self.sent.notified()).await;
            }
        }
    }
}

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
    let client = client.create_with_context(Reports(LogContext::new(log)))?;
    Ok(KafkaProducer {
        client: Arc::new(client),
        sent: Arc::default(),
    })
}

/// The record of a sample. Its key is the source's address, so that what one source gave keeps its
/// order in one partition, and several sources in one topic can be told apart; its time is when
/// the answer was complete; its headers say where it came from.
fn record<'a>(
    topic: &'a str,
    sample: &'a Sample,
    waiting: Box<oneshot::Sender<Report>>,
) -> BaseRecord<'a, str, [u8], Box<oneshot::Sender<Report>>> {
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
    BaseRecord::with_opaque_to(topic, waiting)
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
        .client
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
    let _ = producer.client.flush(within);
    usize::try_from(producer.client.in_flight_count()).unwrap_or(0)
}

/// The reason why this producer can do nothing more, if there is one.
pub(crate) fn fatal(producer: &KafkaProducer) -> Option<String> {
    let (code, text) = producer.client.client().fatal_error()?;
    Some(format!("{code}: {text}"))
}
