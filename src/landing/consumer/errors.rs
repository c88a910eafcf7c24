//! Errors of one partition, which come among its records.

use std::time::Instant;

use rdkafka::types::RDKafkaErrorCode;
use slog::{debug, warn};

use crate::landing::consumer::{Event, RETRY_AFTER, Thread};
use crate::landing::partition::Phase;
use crate::landing::queue::Message;
use crate::messages::{BlockEnd, Unreadable};

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
        let is_corrupt = matches!(
            code,
            RDKafkaErrorCode::BadMessage
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::BadCompression
                | RDKafkaErrorCode::InvalidMessageSize
        );
        if is_corrupt
            && now.duration_since(failing.since) >= self.parts.config.supervision.backoff_max
        {
            let offset = failing.offset;
            return self.close_and_reclaim(partition, Some((offset, error)));
        }
        if failing.times == 1 {
            warn!(self.parts.log, "partition cannot be read, trying again"; "partition" => partition,
                "offset" => failing.offset, "error" => error);
        }
        self.set_phase(partition, Phase::SeekAt(now + RETRY_AFTER, now));
    }

    /// What was read before is closed and lands first: it may be all that is left. A range that is
    /// read again is given up instead.
    pub(super) fn close_and_reclaim(&mut self, partition: i32, unreadable: Option<(i64, String)>) {
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
        let event = match unreadable {
            Some((offset, error)) => Event::Unreadable(Unreadable {
                claim,
                offset,
                error,
            }),
            None => Event::Claim(partition),
        };
        let _ = self.parts.events.send(event);
    }
}
