//! The demo's Kafka: librdkafka's mock cluster, one broker on loopback, in memory.
//!
//! What it is not: it forgets everything when it is dropped; a partition keeps 5 MB or 100,000
//! batches and loses the oldest beyond; it knows no topic ids (all zero) and no cluster id that
//! would survive; it does not check the sequence numbers of an idempotent producer. Delivery
//! reports carry a made-up append time of 1234 ms, but what it stores, and what a consumer reads,
//! keeps the producer's time.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};

use crate::kafka::LogContext;

/// How long a new consumer group waits for more members. The mock's own 3 s are most of the time
/// to the demo's first file, and the demo has one member.
const REBALANCE_DELAY_MS: i32 = 50;

/// An embedded broker; dropping it ends it.
pub struct Broker {
    /// Owns the mock cluster; it produces nothing.
    host: BaseProducer<LogContext>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl Broker {
    /// Starts a broker on a free loopback port. It listens when this returns.
    ///
    /// # Errors
    /// When librdkafka cannot start it.
    pub fn start(log: &slog::Logger) -> Result<Self, KafkaError> {
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", "1");
        config.set("client.id", "groundtrack-demo-broker");
        // Nobody polls this client, so its notices would only gather: that it is a mock, and that
        // its clients have left.
        config.set_log_level(RDKafkaLogLevel::Critical);
        let host: BaseProducer<LogContext> =
            config.create_with_context(LogContext::new(log.clone()))?;
        let broker = Self { host };
        broker.shorten_rebalance_delay()?;
        Ok(broker)
    }

    /// Where clients connect, as `host:port`.
    ///
    /// # Errors
    /// When the mock cluster is gone, which cannot happen while this lives.
    pub fn bootstrap_servers(&self) -> Result<String, KafkaError> {
        Ok(self.mock()?.bootstrap_servers())
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// When it exists, or the name or number is refused.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), KafkaError> {
        self.mock()?.create_topic(name, partitions, 1)
    }

    /// The mock cluster, for tests that make it misbehave.
    ///
    /// # Errors
    /// As [`Broker::bootstrap_servers`].
    pub fn mock(
        &self,
    ) -> Result<
        rdkafka::mocking::MockCluster<'_, impl rdkafka::client::ClientContext + use<>>,
        KafkaError,
    > {
        self.host.client().mock_cluster().ok_or(no_cluster())
    }

    fn shorten_rebalance_delay(&self) -> Result<(), KafkaError> {
        // SAFETY: the handle comes from a client that `self` keeps alive. The mock cluster belongs
        // to that client and lives as long; the setter takes the cluster's own lock.
        #[allow(unsafe_code)]
        unsafe {
            let cluster =
                rdkafka_sys::rd_kafka_handle_mock_cluster(self.host.client().native_ptr());
            if cluster.is_null() {
                return Err(no_cluster());
            }
            rdkafka_sys::rd_kafka_mock_group_initial_rebalance_delay_ms(
                cluster,
                REBALANCE_DELAY_MS,
            );
        }
        Ok(())
    }
}

fn no_cluster() -> KafkaError {
    KafkaError::MockCluster(RDKafkaErrorCode::Fail)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::Message;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::producer::{FutureProducer, FutureRecord};
    use rdkafka::{Offset, Timestamp, TopicPartitionList};

    use super::*;

    #[tokio::test]
    async fn a_consumer_reads_the_time_that_the_producer_gave() {
        let broker = Broker::start(&slog::Logger::root(slog::Discard, slog::o!())).unwrap();
        broker.create_topic("t", 1).unwrap();
        let servers = broker.bootstrap_servers().unwrap();
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &servers)
            .create()
            .unwrap();
        let record = FutureRecord::<str, str>::to("t")
            .payload("v")
            .timestamp(1_700_000_000_123);
        producer
            .send(record, Duration::from_secs(10))
            .await
            .unwrap();
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &servers)
            .set("group.id", "g")
            .create()
            .unwrap();
        let mut from = TopicPartitionList::new();
        from.add_partition_offset("t", 0, Offset::Offset(0))
            .unwrap();
        consumer.assign(&from).unwrap();
        let message = consumer.poll(Duration::from_secs(10)).unwrap().unwrap();
        assert_eq!(
            message.timestamp(),
            Timestamp::CreateTime(1_700_000_000_123)
        );
    }
}
