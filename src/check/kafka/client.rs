//! The client that asks, and its first look at the brokers and the topic.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};

use super::super::Problem;
use super::super::item::Limit;
use super::{brokers, topic};
use crate::config;
use crate::kafka::client_config;

/// Of each question; a broker that answers does so in milliseconds, TLS and SASL take a second.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How soon the reasons are looked at for why no answer comes.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// By then a broker has answered that speaks as it is spoken to, or has said why not; some say
/// nothing.
const LOOK_CLOSER_AFTER: Duration = Duration::from_millis(1_500);

/// Of a connection and of its first exchange, below the time that all questions have, so that a
/// broker that hangs is heard of.
const SETUP_TIMEOUT_MS: &str = "4000";

/// As many of librdkafka's reasons are shown: the first tells most, the rest repeats it.
const REASONS_MAX: usize = 3;

/// One record of each broker is wanted.
const FETCH_BYTES: &str = "65536";

/// A client that belongs to no group.
pub(super) struct Asking {
    pub(super) consumer: BaseConsumer<Reasons>,
    pub(super) kafka: config::Kafka,
    pub(super) limit: Limit,
}

/// What one look at the metadata shows.
#[derive(Debug)]
pub(super) struct View {
    pub(super) cluster_id: Option<String>,
    /// `host:port` as the brokers give them out.
    pub(super) brokers: Vec<String>,
    pub(super) topic: Result<Vec<Partition>, Problem>,
}

/// A partition of the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) id: i32,
    /// The broker that leads it.
    pub(super) leader: i32,
}

impl Asking {
    /// A client that has been answered once.
    pub(super) fn begin(kafka: &config::Kafka, limit: Limit) -> Result<(Self, View), Problem> {
        let asking = Self {
            consumer: consumer(kafka)
                .map_err(|error| Problem::new(error.to_string(), "correct [kafka.options]"))?,
            kafka: kafka.clone(),
            limit,
        };
        let metadata = asking.metadata()?;
        let client = asking.consumer.client();
        let view = View {
            cluster_id: client.fetch_cluster_id(asking.limit.left(ANSWER_TIMEOUT)),
            brokers: addresses(&metadata),
            topic: match metadata.topics().first() {
                Some(topic) => partitions(kafka, metadata.brokers().len(), topic),
                None => Err(topic::absent(kafka, metadata.brokers().len())),
            },
        };
        Ok((asking, view))
    }

    /// Asked again and again, because a call that waits hears of no reason why it waits in vain.
    fn metadata(&self) -> Result<Metadata, Problem> {
        let since = Instant::now();
        let mut closer = None;
        loop {
            let wait = self.limit.left(LOOK_EVERY);
            let asked = self
                .consumer
                .fetch_metadata(Some(&self.kafka.topic), wait.max(Duration::from_millis(1)));
            let error = match asked {
                Ok(metadata) => return Ok(metadata),
                Err(error) => error,
            };
            self.hear();
            let heard = self.consumer.context().heard();
            if closer.is_none() && (!heard.is_empty() || since.elapsed() > LOOK_CLOSER_AFTER) {
                closer = Some(brokers::look_closer(&self.kafka, &heard, &self.limit)?);
            }
            if self.limit.cut().is_some() || brokers::is_final(&heard, self.kafka.brokers.len()) {
                let looks = closer.unwrap_or_default();
                return Err(brokers::no_answer(&self.kafka, &error, &heard, &looks));
            }
        }
    }

    /// Lets librdkafka tell its reasons.
    fn hear(&self) {
        while self.consumer.poll(Duration::ZERO).is_some() {}
    }
}

/// A consumer that subscribes to nothing.
pub(super) fn consumer(kafka: &config::Kafka) -> Result<BaseConsumer<Reasons>, KafkaError> {
    let mut client = client_config(kafka);
    // What belongs to members of a group.
    for option in [
        "group.protocol",
        "group.remote.assignor",
        "group.instance.id",
    ] {
        client.remove(option);
    }
    client
        .set("group.id", &kafka.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("fetch.message.max.bytes", FETCH_BYTES)
        .set("queued.min.messages", "1")
        // An empty partition is told by an empty answer, which the broker holds back so long.
        .set("fetch.wait.max.ms", "50")
        .set("socket.connection.setup.timeout.ms", SETUP_TIMEOUT_MS)
        .set("api.version.request.timeout.ms", SETUP_TIMEOUT_MS);
    client.create_with_context(Reasons::default())
}

fn addresses(metadata: &Metadata) -> Vec<String> {
    let brokers = metadata.brokers().iter();
    brokers
        .map(|broker| match broker.host().contains(':') {
            true => format!("[{}]:{}", broker.host(), broker.port()),
            false => format!("{}:{}", broker.host(), broker.port()),
        })
        .collect()
}

fn partitions(
    kafka: &config::Kafka,
    brokers: usize,
    found: &MetadataTopic,
) -> Result<Vec<Partition>, Problem> {
    if let Some(error) = found.error() {
        return Err(topic::wrong(kafka, brokers, error));
    }
    let partitions: Vec<Partition> = found
        .partitions()
        .iter()
        .map(|partition| Partition {
            id: partition.id(),
            leader: partition.leader(),
        })
        .collect();
    if partitions.is_empty() {
        return Err(topic::absent(kafka, brokers));
    }
    let leaderless: Vec<String> = partitions
        .iter()
        .filter(|partition| partition.leader < 0)
        .map(|partition| partition.id.to_string())
        .collect();
    if leaderless.is_empty() {
        return Ok(partitions);
    }
    Err(Problem::new(
        format!(
            "{}: without a leader: partitions {}",
            found.name(),
            leaderless.join(", ")
        ),
        "start the brokers that hold them: until then these partitions wait",
    ))
}

/// Keeps the first of librdkafka's reasons for what fails.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    heard: Mutex<Vec<String>>,
}

impl Reasons {
    fn heard(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }
}

impl ClientContext for Reasons {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let says_nothing_new = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let is_said = heard
            .iter()
            .any(|had| without_time(had) == without_time(reason));
        if heard.len() < REASONS_MAX && !says_nothing_new && !is_said {
            heard.push(reason.to_owned());
        }
    }
}

/// `... (after 5ms in state SSL_HANDSHAKE)`: `...`
fn without_time(reason: &str) -> &str {
    reason
        .rsplit_once(" (after ")
        .map_or(reason, |(reason, _)| reason)
}

impl ConsumerContext for Reasons {}
