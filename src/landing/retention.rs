//! How long Kafka still keeps what has not landed: seconds by partition, and a trouble in the
//! status before records are lost.
//!
//! Kafka deletes whole segments, each once its newest record is older than `retention.ms`: the
//! next record to land goes at that age at the earliest. A bound in size (`retention.bytes`) tells
//! no time; the lag and the log's start, which are metrics too, are all that there is to see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{FromClientConfig, RDKafkaLogLevel};
use slog::{Logger, debug, info, warn};

use crate::config::Kafka;
use crate::fault::{self, Step, Stepped};
use crate::kafka::client_config;
use crate::kafka::retention;
use crate::landing::broker::{Broker, FirstRecord, Met};
use crate::landing::protocol::Now;
use crate::logging::events;
use crate::status::{PartitionState, PartitionStatus, Status, now_ms};

/// A look asks Kafka for the topic's configuration and for one record of each partition that
/// lags. Twenty within the retention leave ten between the warning and the loss.
const LOOKS: u32 = 20;
/// A retention of seconds is somebody's test: more looks would only be load.
const LOOK_MIN: Duration = Duration::from_secs(2);
/// The topic's configuration may change at any time.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// The task's parts.
pub(crate) struct RetentionWatch {
    admin: AdminClient<DefaultClientContext>,
    broker: Stepped<dyn Broker>,
    kafka: Kafka,
    status: Arc<Status>,
    log: Logger,
    /// By partition, what was found from which offset on: it does not change.
    found: BTreeMap<i32, (i64, FirstRecord)>,
    /// Whether the topic's retention could not be asked for at the last look.
    is_unknown: bool,
}

/// What is known of a partition's next record to land.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Kafka keeps it for ever, or nothing is left to land, or it has no timestamp.
    Unlimited,
    /// Kafka may delete it at this time.
    Until {
        /// Milliseconds since 1970 UTC.
        deadline_ms: i64,
        /// Less than half of the retention is left.
        is_short: bool,
    },
}

fn left(retention_ms: Option<i64>, next: Option<FirstRecord>, now_ms: i64) -> Left {
    match (retention_ms, next) {
        (Some(retention_ms), Some(next)) if next.timestamp_ms >= 0 => {
            let deadline_ms = next.timestamp_ms.saturating_add(retention_ms);
            let is_short = deadline_ms.saturating_sub(now_ms) < retention_ms / 2;
            Left::Until {
                deadline_ms,
                is_short,
            }
        }
        _ => Left::Unlimited,
    }
}

/// Until the next look.
fn look_after(retention_ms: Option<i64>) -> Duration {
    retention_ms.map_or(LOOK_MAX, |ms| {
        (Duration::from_millis(ms.unsigned_abs()) / LOOKS).clamp(LOOK_MIN, LOOK_MAX)
    })
}

impl RetentionWatch {
    /// A watch over the topic's partitions of which the status knows.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub(crate) fn new(
        kafka: &Kafka,
        broker: Stepped<dyn Broker>,
        status: Arc<Status>,
        log: Logger,
    ) -> Result<Self, String> {
        let mut client = client_config(kafka);
        // What it would say of the brokers the consumer says.
        client.set_log_level(RDKafkaLogLevel::Emerg);
        let admin = AdminClient::from_config(&client).map_err(|error| error.to_string())?;
        Ok(Self {
            admin,
            broker,
            kafka: kafka.clone(),
            status,
            log,
            found: BTreeMap::new(),
            is_unknown: false,
        })
    }

    /// Looks again and again; never returns.
    pub(crate) async fn run(mut self) {
        loop {
            let retention_ms = self.retention_ms().await;
            for ((topic, partition), status) in self.status.partitions() {
                if topic == self.kafka.topic {
                    self.look(partition, &status, retention_ms).await;
                }
            }
            tokio::time::sleep(look_after(retention_ms)).await;
        }
    }

    async fn retention_ms(&mut self) -> Option<i64> {
        let asked = fault::within(Step::WatchRetention, || {
            retention::ask(&self.admin, &self.kafka.topic)
        });
        match asked.await {
            Ok(retention) => {
                self.is_unknown = false;
                retention.ms
            }
            Err(why) => {
                if !std::mem::replace(&mut self.is_unknown, true) {
                    info!(self.log, "the topic's retention is not known, nothing warns of it"; "error" => why);
                }
                None
            }
        }
    }

    async fn look(&mut self, partition: i32, status: &PartitionStatus, retention_ms: Option<i64>) {
        let state = status.state();
        let next = match (&state, retention_ms) {
            (PartitionState::NotOurs, _) | (_, None) => None,
            _ => self.next_record(partition, status, &state).await,
        };
        let now_ms = now_ms();
        let left = left(retention_ms, next, now_ms);
        let deadline_ms = match left {
            Left::Unlimited => 0,
            Left::Until { deadline_ms, .. } => deadline_ms,
        };
        status.kept_until_ms.store(deadline_ms, Ordering::Relaxed);
        match (left, next) {
            (
                Left::Until {
                    deadline_ms,
                    is_short: true,
                },
                Some(next),
            ) => self.warn(partition, next, deadline_ms - now_ms, retention_ms),
            _ => self.mended(partition),
        }
    }

    /// The next record to land, or the first one that is left where some were lost already.
    async fn next_record(
        &mut self,
        partition: i32,
        status: &PartitionStatus,
        state: &PartitionState,
    ) -> Option<FirstRecord> {
        if matches!(state, PartitionState::Stopped(_)) {
            self.refresh(partition, status).await;
        }
        let next_offset = status.next_offset.load(Ordering::Relaxed);
        if next_offset < 0 || status.lag_records() == Some(0) {
            return None;
        }
        let from = next_offset.max(status.log_start.load(Ordering::Relaxed));
        if let Some((_, record)) = self.found.get(&partition).filter(|known| known.0 == from) {
            return Some(*record);
        }
        match self
            .broker
            .at(Step::WatchRetention)
            .first_at(partition, from)
            .await
        {
            Ok(Met::Record(record)) => {
                self.found.insert(partition, (from, record));
                Some(record)
            }
            Ok(Met::End | Met::Damage { .. }) => None,
            Err(error) => {
                debug!(self.log, "the next record to land is not known"; "partition" => partition, "offset" => from, "error" => %error);
                None
            }
        }
    }

    /// Nobody reads a stopped partition, so nobody else hears where its log is.
    async fn refresh(&self, partition: i32, status: &PartitionStatus) {
        if let Ok((low, high)) = self
            .broker
            .at(Step::WatchRetention)
            .watermarks(partition)
            .await
        {
            status.log_start.store(low, Ordering::Relaxed);
            status.log_end.store(high, Ordering::Relaxed);
        }
    }

    fn warn(&self, partition: i32, next: FirstRecord, left_ms: i64, retention_ms: Option<i64>) {
        let text = warning(&self.kafka, next, left_ms, retention_ms.unwrap_or_default());
        if self.status.trouble(&place(partition), &text, false) {
            warn!(self.log, "records may be deleted by kafka before they land"; events::RETENTION_NEAR,
                "partition" => partition, "offset" => next.offset, "seconds" => left_ms.max(0) / 1000, "error" => text);
        }
    }

    fn mended(&self, partition: i32) {
        if self.status.mended(&place(partition)).is_some() {
            info!(self.log, "kafka keeps what has not landed long enough again"; events::RETENTION_SAFE,
                "partition" => partition);
        }
    }
}

fn place(partition: i32) -> String {
    format!("partition {partition}'s retention")
}

fn warning(kafka: &Kafka, next: FirstRecord, left_ms: i64, retention_ms: i64) -> String {
    format!(
        "the next record to land, offset {} of {}, may be deleted by kafka in {} s (the topic's \
         retention.ms is {retention_ms}); mend what holds the landing up, or let kafka keep more: \
         kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {} \
         --add-config retention.ms={}",
        next.offset,
        Now::at(next.timestamp_ms).text,
        left_ms.max(0) / 1000,
        kafka.brokers.join(","),
        kafka.topic,
        // Twice as long from now on gives as much time again as there was.
        retention_ms.saturating_mul(2)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(timestamp_ms: i64) -> Option<FirstRecord> {
        Some(FirstRecord {
            offset: 5,
            timestamp_ms,
        })
    }

    #[test]
    fn less_than_half_of_the_retention_left_is_short() {
        let until = |deadline_ms, is_short| Left::Until {
            deadline_ms,
            is_short,
        };
        assert_eq!(left(Some(1_000), record(100), 600), until(1_100, false));
        assert_eq!(left(Some(1_000), record(100), 601), until(1_100, true));
        assert_eq!(left(Some(1_000), record(100), 9_000), until(1_100, true));
        assert_eq!(
            left(Some(i64::MAX), record(100), 600),
            until(i64::MAX, false)
        );
    }

    #[test]
    fn without_a_bound_a_record_or_its_time_nothing_is_said() {
        assert_eq!(left(None, record(100), 600), Left::Unlimited);
        assert_eq!(left(Some(1_000), None, 600), Left::Unlimited);
        assert_eq!(left(Some(1_000), record(-1), 600), Left::Unlimited);
    }

    #[test]
    fn a_warning_comes_in_time_and_a_look_is_cheap() {
        assert_eq!(look_after(Some(604_800_000)), LOOK_MAX);
        assert_eq!(look_after(Some(100_000)), Duration::from_secs(5));
        assert_eq!(look_after(Some(0)), LOOK_MIN);
        assert_eq!(look_after(None), LOOK_MAX);
    }

    #[test]
    fn the_warning_has_the_numbers_and_the_command() {
        let kafka = crate::testing::config().kafka;
        let text = warning(&kafka, record(0).unwrap(), 35_900, 60_000);
        for part in [
            "offset 5 of 1970-01-01T00:00:00.000Z",
            "in 35 s",
            "retention.ms=120000",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
