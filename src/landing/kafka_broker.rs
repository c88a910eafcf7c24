//! The protocol's questions to Kafka, by a consumer of its own that never joins the group.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};
use slog::Logger;

use crate::config::Kafka;
use crate::kafka::{LogContext, client_config, is_damage};
use crate::landing::broker::{Broker, BrokerError, FirstRecord, Met, RecordAt, TopicView};
use crate::landing::cpu::off_thread;
use crate::landing::protocol::checkpoint::record_hash;
use crate::landing::topic_id::{Described, controller, describe};

/// Of each question: a broker that is there answers within milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What `record_at` may read ahead: one record is wanted.
const FETCH_BYTES: &str = "65536";

/// Kafka, as the protocol asks it.
#[derive(Clone)]
pub struct KafkaBroker {
    consumer: Arc<BaseConsumer<LogContext>>,
    topic: Arc<str>,
    /// One record is read at a time, by assigning its partition.
    reading: Arc<Mutex<()>>,
}

impl std::fmt::Debug for KafkaBroker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("KafkaBroker")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl From<KafkaError> for BrokerError {
    fn from(error: KafkaError) -> Self {
        Self(error.to_string())
    }
}

impl KafkaBroker {
    /// A client for the configured brokers and topic. It connects when it is first asked.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(kafka: &Kafka, log: &Logger) -> Result<Self, BrokerError> {
        let mut client = client_config(kafka);
        // Of the group only its committed offsets are asked; a plain consumer needs no protocol.
        client
            .remove("group.protocol")
            .remove("group.remote.assignor");
        client
            .set("group.id", &kafka.group)
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            // A damaged record must neither be compared nor be taken for one that can be read.
            .set("check.crcs", "true")
            .set("fetch.message.max.bytes", FETCH_BYTES)
            .set("queued.min.messages", "1");
        let consumer: BaseConsumer<LogContext> =
            client.create_with_context(LogContext::new(log.clone()))?;
        Ok(Self {
            consumer: Arc::new(consumer),
            topic: kafka.topic.as_str().into(),
            reading: Arc::default(),
        })
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Self) -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let broker = self.clone();
        let asked = move || question(&broker).map_err(|error| broker.because(error));
        off_thread(asked)
            .await
            .map_err(|error| BrokerError(error.to_string()))?
    }

    /// With the reason that librdkafka gave to nobody but its events.
    fn because(&self, BrokerError(error): BrokerError) -> BrokerError {
        // Who reads a record polls for it, and hears the events as well.
        if let Ok(_reading) = self.reading.try_lock() {
            while self.consumer.poll(Duration::ZERO).is_some() {}
        }
        BrokerError(match self.consumer.client().context().complaint() {
            Some(reason) => format!("{error} ({reason})"),
            None => error,
        })
    }

    fn view(&self) -> Result<Option<TopicView>, BrokerError> {
        // Events of the client are heard only while it is polled; records it has none.
        while self.consumer.poll(Duration::ZERO).is_some() {}
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), TIMEOUT)?;
        let topic = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == &*self.topic);
        let Some(partitions) = topic
            .map(|topic| topic.partitions().len())
            .filter(|count| *count > 0)
        else {
            return Ok(None);
        };
        let controller = controller(self.consumer.client(), TIMEOUT)
            .ok_or_else(|| BrokerError("the cluster has no controller".to_owned()))?;
        // DescribeTopics asks the controller, and waits in vain for one that is no broker: the
        // mock cluster names such a one, and knows no ids.
        let topic_id = match metadata
            .brokers()
            .iter()
            .any(|broker| broker.id() == controller)
        {
            true => self.topic_id()?,
            false => Some(String::new()),
        };
        let Some(topic_id) = topic_id else {
            return Ok(None);
        };
        let cluster_id = self
            .consumer
            .client()
            .fetch_cluster_id(TIMEOUT)
            .unwrap_or_default();
        Ok(Some(TopicView {
            cluster_id,
            topic_id,
            partitions: partitions as i32,
        }))
    }

    /// `None`: the topic does not exist; empty: the broker knows no ids.
    fn topic_id(&self) -> Result<Option<String>, BrokerError> {
        match describe(self.consumer.client(), &self.topic, false, TIMEOUT).map_err(BrokerError)? {
            Described::Absent => Ok(None),
            Described::Topic { id, .. } => Ok(Some(id)),
            Described::Unsupported => Ok(Some(String::new())),
        }
    }

    fn list(&self, partition: i32, offset: Offset) -> Result<TopicPartitionList, BrokerError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&self.topic, partition, offset)?;
        Ok(list)
    }

    /// First offset of the log, and behind the last stable one. Asked for one by one: librdkafka's
    /// own question for both takes the smaller answer for the first, and an open transaction whose
    /// records were deleted ends the stable part of the log before its start.
    fn edges(&self, partition: i32) -> Result<(i64, i64), BrokerError> {
        let edge = |which: Offset| {
            let asked = self.list(partition, which)?;
            let found = self.consumer.offsets_for_times(asked, TIMEOUT)?;
            absolute(&found).ok_or_else(|| BrokerError("no offset in the answer".to_owned()))
        };
        let (low, stable) = (edge(Offset::Beginning)?, edge(Offset::End)?);
        Ok((low, stable.max(low)))
    }

    /// What is met from this offset on; of a record also the hash of its key and value.
    fn read(&self, partition: i32, offset: i64) -> Result<(Met, u64), BrokerError> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.consumer
            .assign(&self.list(partition, Offset::Offset(offset))?)?;
        let found = self.poll_for(partition, offset);
        self.consumer.unassign()?;
        found
    }

    fn poll_for(&self, partition: i32, offset: i64) -> Result<(Met, u64), BrokerError> {
        let deadline = Instant::now() + TIMEOUT;
        let mut damage: Option<String> = None;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.consumer.poll(left.min(Duration::from_millis(200))) {
                None => {}
                Some(Ok(record)) if record.offset() < offset => {}
                Some(Ok(record)) => {
                    let first = FirstRecord {
                        offset: record.offset(),
                        timestamp_ms: record.timestamp().to_millis().unwrap_or(-1),
                    };
                    let met = match damage {
                        None => Met::Record(first),
                        Some(error) => Met::Damage {
                            error,
                            readable: Some(first.offset),
                        },
                    };
                    return Ok((met, record_hash(record.key(), record.payload())));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    let met = damage.map_or(Met::End, |error| Met::Damage {
                        error,
                        readable: None,
                    });
                    return Ok((met, 0));
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::AutoOffsetReset) => return Ok((Met::End, 0)),
                    Some(code) if is_damage(code) => {
                        damage.get_or_insert(error.to_string());
                    }
                    _ => return Err(error.into()),
                },
            }
        }
        // A broker that is away is silent too, and says nothing of its log.
        self.edges(partition)?;
        let silence = || format!("kafka delivers nothing for {} s", TIMEOUT.as_secs());
        let met = Met::Damage {
            error: damage.unwrap_or_else(silence),
            readable: None,
        };
        Ok((met, 0))
    }
}

#[async_trait]
impl Broker for KafkaBroker {
    async fn topic(&self) -> Result<Option<TopicView>, BrokerError> {
        self.ask(Self::view).await
    }

    /// As read_committed sees it: the log ends before an open transaction.
    async fn watermarks(&self, partition: i32) -> Result<(i64, i64), BrokerError> {
        self.ask(move |broker| broker.edges(partition)).await
    }

    async fn offset_for_time(
        &self,
        partition: i32,
        time_ms: i64,
    ) -> Result<Option<i64>, BrokerError> {
        self.ask(move |broker| {
            let asked = broker.list(partition, Offset::Offset(time_ms))?;
            let found = broker.consumer.offsets_for_times(asked, TIMEOUT)?;
            Ok(absolute(&found))
        })
        .await
    }

    async fn committed(&self, partition: i32) -> Result<Option<i64>, BrokerError> {
        self.ask(move |broker| {
            let asked = broker.list(partition, Offset::Invalid)?;
            Ok(absolute(
                &broker.consumer.committed_offsets(asked, TIMEOUT)?,
            ))
        })
        .await
    }

    async fn record_at(&self, partition: i32, offset: i64) -> Result<RecordAt, BrokerError> {
        let found = self.ask(move |broker| broker.read(partition, offset));
        Ok(match found.await? {
            (Met::Record(first), hash) if first.offset == offset => RecordAt::Found {
                timestamp_ms: first.timestamp_ms,
                hash,
            },
            _ => RecordAt::NotCompared,
        })
    }

    async fn first_at(&self, partition: i32, offset: i64) -> Result<Met, BrokerError> {
        let found = self.ask(move |broker| broker.read(partition, offset));
        Ok(found.await?.0)
    }
}

fn absolute(list: &TopicPartitionList) -> Option<i64> {
    match list.elements().first()?.offset() {
        Offset::Offset(offset) if offset >= 0 => Some(offset),
        _ => None,
    }
}
