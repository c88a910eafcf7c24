//! The topic, as far as Kafka still holds it: which offsets have a record.
//!
//! The consumer is assigned at absolute offsets and subscribes to nothing: it joins no group and
//! commits nothing, so it may run beside the service. It reads one partition after another, a
//! batch's range at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::config::Kafka;
use crate::kafka::{LogContext, client_config};
use crate::landing::cpu::off_thread_or_never;
use crate::landing::offsets::OffsetSet;

/// Of each question beside the records.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a record, the end, or an error that says more: a broker that restarts is back by then.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How soon an answer that does not come is looked after.
const POLL_TIMEOUT: Duration = Duration::from_millis(200);
/// What librdkafka reads ahead, in KiB: part of the bound on memory.
const QUEUE_KIB: &str = "16384";
/// librdkafka's own second of waiting when its queue was full makes reading ten times slower.
const QUEUE_BACKOFF_MS: &str = "10";

/// Reads the topic.
#[derive(Clone)]
pub(super) struct TopicReader {
    consumer: Arc<BaseConsumer<LogContext>>,
    topic: Arc<str>,
    place: Arc<Mutex<Place>>,
}

/// Where the consumer stands.
#[derive(Debug, Default)]
struct Place {
    partition: Option<i32>,
    /// All records below were given out or passed by.
    position: i64,
    /// A record that was read and lies behind the last range.
    ahead: Option<i64>,
    /// Whether the log's end was met.
    is_at_end: bool,
}

/// What the topic holds of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Kafka no longer holds what lies below; at most the range's end.
    pub(super) from: i64,
    /// Offsets with a record, from `from` to the range's end.
    pub(super) offsets: OffsetSet,
}

impl std::fmt::Debug for TopicReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TopicReader")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl TopicReader {
    /// A consumer of the configured topic; it connects when it is first asked.
    pub(super) fn new(kafka: &Kafka) -> Result<Self, KafkaError> {
        let mut client = client_config(kafka);
        // What belongs to members of a group.
        client
            .remove("group.protocol")
            .remove("group.remote.assignor");
        client
            .set("group.id", &kafka.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("queued.max.messages.kbytes", QUEUE_KIB)
            .set("fetch.queue.backoff.ms", QUEUE_BACKOFF_MS);
        // Errors come from the calls.
        client.set_log_level(RDKafkaLogLevel::Emerg);
        let log = slog::Logger::root(slog::Discard, slog::o!());
        Ok(Self {
            consumer: Arc::new(client.create_with_context(LogContext::new(log))?),
            topic: kafka.topic.as_str().into(),
            place: Arc::default(),
        })
    }

    /// Where the partition's log begins, and where it ends for who reads committed records.
    pub(super) async fn watermarks(&self, partition: i32) -> Result<(i64, i64), String> {
        self.ask(move |reader| reader.bounds(partition)).await
    }

    /// The offsets in [from, to) that have a record; `to` is not behind the log's end.
    pub(super) async fn read(&self, partition: i32, from: i64, to: i64) -> Result<Part, String> {
        self.ask(move |reader| {
            let mut place = reader.place.lock().unwrap_or_else(PoisonError::into_inner);
            let part = reader.read_from(&mut place, partition, from, to);
            if part.is_err() {
                place.partition = None;
            }
            part
        })
        .await
    }

    /// Ends the reading: a consumer that is destroyed may hang on what is assigned.
    pub(super) async fn close(&self) {
        let _ = self
            .ask(|reader| {
                reader
                    .consumer
                    .unassign()
                    .map_err(|error| error.to_string())
            })
            .await;
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Self) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let reader = self.clone();
        off_thread_or_never(move || question(&reader)).await
    }

    fn bounds(&self, partition: i32) -> Result<(i64, i64), String> {
        let bounds = self
            .consumer
            .fetch_watermarks(&self.topic, partition, ANSWER_TIMEOUT);
        bounds.map_err(|error| error.to_string())
    }

    fn assign(&self, place: &mut Place, partition: i32, offset: i64) -> Result<(), String> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| error.to_string())?;
        *place = Place {
            partition: Some(partition),
            position: offset,
            ..Place::default()
        };
        Ok(())
    }

    fn read_from(
        &self,
        place: &mut Place,
        partition: i32,
        from: i64,
        to: i64,
    ) -> Result<Part, String> {
        let mut part = Part {
            from,
            offsets: OffsetSet::default(),
        };
        if place.partition != Some(partition) || place.position != from {
            let (low, _) = self.bounds(partition)?;
            part.from = from.max(low.min(to));
            if part.from >= to {
                return Ok(part);
            }
            self.assign(place, partition, part.from)?;
        }
        let mut heard = Instant::now();
        let mut trouble = String::new();
        while !place.is_at_end && place.ahead.is_none_or(|ahead| ahead < to) {
            if let Some(ahead) = place.ahead.take().filter(|ahead| *ahead >= part.from) {
                part.offsets.append(ahead, ahead + 1);
            }
            match self.consumer.poll(POLL_TIMEOUT) {
                Some(Ok(record)) if record.partition() == partition => {
                    heard = Instant::now();
                    place.ahead = Some(record.offset());
                }
                Some(Err(KafkaError::PartitionEOF(ended))) if ended == partition => {
                    place.is_at_end = true
                }
                // Of the partition before.
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if is_out_of_range(&error) => {
                    let (low, _) = self.bounds(partition)?;
                    // What was read so far is whole only from there on.
                    part.from = part.from.max(low.min(to));
                    part.offsets = part
                        .offsets
                        .minus(&OffsetSet::from_range(i64::MIN, part.from));
                    if part.from >= to {
                        place.partition = None;
                        return Ok(part);
                    }
                    self.assign(place, partition, part.from)?;
                    part.offsets = OffsetSet::default();
                    trouble = error.to_string();
                }
                Some(Err(error)) => trouble = error.to_string(),
                None => {}
            }
            if heard.elapsed() > SILENCE_MAX {
                let trouble = match trouble.as_str() {
                    "" => "nothing came",
                    trouble => trouble,
                };
                return Err(format!(
                    "no record of partition {partition} for {} s: {trouble}",
                    SILENCE_MAX.as_secs()
                ));
            }
        }
        place.position = to;
        Ok(part)
    }
}

fn is_out_of_range(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AutoOffsetReset, OffsetOutOfRange};
    matches!(
        error.rdkafka_error_code(),
        Some(AutoOffsetReset | OffsetOutOfRange)
    )
}
