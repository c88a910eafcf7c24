//! Errors of one partition, which come among its records.

use std::time::Instant;

use rdkafka::types::RDKafkaErrorCode;
use slog::{debug, warn};

use crate::kafka::is_damage;
use crate::landing::consumer::{Event, RETRY_AFTER, Thread};
use crate::landing::partition::{Partition, Phase};
use crate::landing::queue::Message;
use crate::logging::Say;
use crate::messages::{BlockEnd, Damage, Unreadable};

impl Thread<'_> {
    pub(super) fn partition_error(
        &mut self,
        partition: i32,
        code: RDKafkaErrorCode,
        message: Message<'_>,
    ) {
        let now = Instant::now();
        let Some(known) = self.partitions.get_mut(&partition) else {
            return;
        };
        known.is_fetcher_dead |= code == RDKafkaErrorCode::AutoOffsetReset;
        let Some(reading) = known
            .reading
            .as_mut()
            .filter(|_| matches!(known.phase, Phase::Reading | Phase::SeekAt(..)))
        else {
            return;
        };
        reading.reader.disturbed();
        let error = message.error_text();
        if code == RDKafkaErrorCode::AutoOffsetReset {
            warn!(self.parts.log, "kafka no longer has our next offset, the partition is claimed again";
                "partition" => partition, "offset" => reading.reader.next(), "error" => &error);
            return self.close_and_reclaim(partition, None);
        }
        let failing = known.failed(code, now);
        debug!(self.parts.log, "partition is read again after an error"; "partition" => partition,
            "offset" => message.offset(), "error" => &error);
        if is_damage(code)
            && now.duration_since(failing.since) >= self.parts.config.supervision.backoff_max
        {
            let damage = Damage {
                offset: failing.offset,
                readable: failing.readable,
                error,
            };
            return self.close_and_reclaim(partition, Some(damage));
        }
        match known.said.failed(now) {
            Some(Say::Still { count, lasting }) => {
                warn!(self.parts.log, "partition still cannot be read, trying again";
                    "partition" => partition, "offset" => failing.offset, "error" => error,
                    "failures" => count, "seconds" => lasting.as_secs());
            }
            Some(_) => warn!(self.parts.log, "partition cannot be read, trying again";
                "partition" => partition, "offset" => failing.offset, "error" => error),
            None => {}
        }
        self.set_phase(partition, Phase::SeekAt(now + RETRY_AFTER, now));
    }

    /// The watch over what stands still has met damage; unless reading went on meanwhile.
    pub(super) fn damaged(&mut self, partition: i32, damage: Damage) {
        let stands = |known: &Partition| {
            matches!(known.phase, Phase::Reading | Phase::SeekAt(..))
                && known.next() == damage.offset
        };
        if !self.is_draining && self.partitions.get(&partition).is_some_and(stands) {
            self.close_and_reclaim(partition, Some(damage));
        }
    }

    /// What was read before is closed and lands first: it may be all that is left. A range that is
    /// read again is given up instead.
    pub(super) fn close_and_reclaim(&mut self, partition: i32, damage: Option<Damage>) {
        let Some(known) = self.partitions.get_mut(&partition) else {
            return;
        };
        let Some(reading) = &mut known.reading else {
            return;
        };
        let claim = reading.claim;
        match reading.reader.end() {
            Some(_) => self.parts.claims.end(claim),
            None => {
                self.outbox
                    .push_back(reading.hand_on(BlockEnd::Close, &self.purse, Instant::now()))
            }
        }
        known.phase = Phase::Waiting;
        self.pause(&[partition]);
        let event = match damage {
            Some(damage) => Event::Unreadable(Unreadable { claim, damage }),
            None => Event::Claim(partition),
        };
        self.tell(event);
    }
}
