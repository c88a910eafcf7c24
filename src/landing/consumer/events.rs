//! What librdkafka tells: assignments, errors of the client, statistics.

use std::sync::atomic::Ordering;
use std::time::Instant;

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use slog::{debug, info, warn};

use crate::landing::consumer::{Ended, Event, Thread};
use crate::landing::partition::Phase;
use crate::landing::rebalance::{Notice, Statistics};
use crate::logging::{Say, events};

/// What is wrong with the client: mended when a broker is connected.
const CONSUMER_PLACE: &str = "kafka's consumer";
/// What is wrong with the topic: librdkafka says it once, so it lasts until a partition is ours.
pub(super) const TOPIC_PLACE: &str = "kafka's topic";

impl Thread<'_> {
    pub(super) fn events(&mut self) -> Option<Ended> {
        loop {
            match self.member.poll() {
                Ok(None) => break,
                Ok(Some(partition)) => self.misrouted(partition),
                Err(error) => {
                    if let Some(ended) = self.client_error(&error, "") {
                        return Some(ended);
                    }
                }
            }
        }
        while let Some(notice) = self.member.next_notice() {
            match notice {
                Notice::Assigned(partitions) => self.assigned(&partitions),
                Notice::Revoked(partitions) => self.revoked(partitions),
                Notice::Lost(partitions) => self.lost(partitions),
                Notice::Statistics(statistics) => self.statistics(&statistics),
                Notice::Trouble(error, reason) => {
                    if let Some(ended) = self.client_error(&error, &reason) {
                        return Some(ended);
                    }
                }
            }
        }
        None
    }

    /// A record on the consumer's own queue: its partition is no longer forwarded. It is paused and
    /// read again from our own next offset, through the right queue.
    pub(super) fn misrouted(&mut self, partition: i32) {
        if (self.partitions.get(&partition)).is_none_or(|known| known.phase != Phase::Reading) {
            return;
        }
        debug!(self.parts.log, "records came beside their queue"; "partition" => partition);
        let now = Instant::now();
        self.pause(&[partition]);
        self.set_phase(partition, Phase::SeekAt(now, now));
    }

    fn client_error(&mut self, error: &KafkaError, reason: &str) -> Option<Ended> {
        let code = error.rdkafka_error_code();
        // A fatal error comes under its own code where it is an event of the consumer.
        let is_fatal = matches!(error, KafkaError::MessageConsumptionFatal(_))
            || matches!(
                code,
                Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId)
            );
        if is_fatal {
            return Some(self.fatal());
        }
        let (place, text) = match code {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => (
                TOPIC_PLACE,
                "the topic does not exist; it is waited for, create it".to_owned(),
            ),
            _ => (
                CONSUMER_PLACE,
                format!("{error} {reason}").trim().to_owned(),
            ),
        };
        let is_new = self.parts.status.trouble(place, &text, false);
        if place == TOPIC_PLACE {
            if is_new {
                warn!(self.parts.log, "kafka consumer waits"; events::TOPIC_MISSING, "error" => text);
            }
            return None;
        }
        // The client tells of each broker and of each attempt, and a broker that is away while
        // others answer is told of and forgotten in turns.
        match self.parts.unreachable.failed(Instant::now()) {
            Some(Say::Still { count, lasting }) => {
                warn!(self.parts.log, "kafka consumer still waits"; events::BROKER_UNREACHABLE,
                    "error" => text, "failures" => count, "seconds" => lasting.as_secs());
            }
            Some(_) => {
                warn!(self.parts.log, "kafka consumer waits"; events::BROKER_UNREACHABLE,
                    "error" => text);
            }
            None => debug!(self.parts.log, "kafka consumer waits"; "error" => text),
        }
        None
    }

    fn fatal(&mut self) -> Ended {
        let (code, text) = match self.member.fatal_error() {
            Some((code, text)) => (Some(code), text),
            None => (None, "fatal".to_owned()),
        };
        match code {
            Some(RDKafkaErrorCode::FencedInstanceId) => {
                let id = self.parts.instance_id.clone().unwrap_or_default();
                let text = format!(
                    "another process joined with the instance_id {id}: give each process its own kafka.instance_id"
                );
                self.tell(Event::Fenced(text));
                Ended::Failed
            }
            Some(RDKafkaErrorCode::UnreleasedInstanceId) => {
                info!(self.parts.log, "kafka has not released our instance id yet, waiting for the session of our predecessor"; "error" => text);
                Ended::Unreleased
            }
            // Under KIP-848 a poll that came too late (a process that was stopped, a suspended
            // machine) is the end of this consumer.
            _ if self.has_joined => {
                warn!(self.parts.log, "kafka's consumer was given up by its group"; "error" => text);
                Ended::Evicted
            }
            _ => {
                self.tell(Event::Failed(format!(
                    "kafka's consumer cannot go on: {text}"
                )));
                Ended::Failed
            }
        }
    }

    fn statistics(&mut self, statistics: &Statistics) {
        for (partition, watermarks) in &statistics.watermarks {
            let Some(known) = self.partitions.get(partition) else {
                continue;
            };
            let status = &known.status;
            for (is, shown) in [
                (watermarks.low, &status.log_start),
                (watermarks.stable, &status.log_end),
                (watermarks.high, &status.log_high),
            ] {
                if is >= 0 {
                    shown.store(is, Ordering::Relaxed);
                }
            }
        }
        if statistics.is_connected && self.parts.status.mended(CONSUMER_PLACE).is_some() {
            self.say_connected();
        }
    }
    fn say_connected(&mut self) {
        match self.parts.unreachable.ended(Instant::now()) {
            Some(Say::Ended { count, lasting }) => {
                info!(self.parts.log, "kafka consumer is connected again"; events::BROKER_BACK,
                    "failures" => count, "seconds" => lasting.as_secs());
            }
            _ => debug!(self.parts.log, "kafka consumer is connected again"),
        }
    }
}
