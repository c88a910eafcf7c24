//! Records become blocks.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use slog::{info, warn};

use crate::landing::consumer::positions::open_transaction_place;
use crate::landing::consumer::{OUTBOX_MAX, Thread};
use crate::landing::partition::Phase;
use crate::landing::queue::{Batch, Message};
use crate::landing::reader::Verdict;
use crate::landing::rebalance::Context;
use crate::logging::Say;
use crate::messages::BlockEnd;

/// The longest wait for records: a command is heard within it.
const TAKE_TIMEOUT: Duration = Duration::from_millis(100);
/// The same while records come, or the group waits: what follows (a drain, the end of a replay, of
/// a revoke) is then near.
const TAKE_TIMEOUT_BUSY: Duration = Duration::from_millis(10);
/// The wait while the pipeline is full: it empties in about this time.
const FULL_WAIT: Duration = Duration::from_millis(5);

impl Thread<'_> {
    pub(super) fn records(&mut self) {
        if self.is_draining {
            return std::thread::sleep(FULL_WAIT);
        }
        if let Some((batch, first)) = self.stalled.take() {
            self.take(batch, first);
            if self.stalled.is_some() {
                std::thread::sleep(FULL_WAIT);
            }
            return;
        }
        if self.outbox.len() >= OUTBOX_MAX {
            return std::thread::sleep(FULL_WAIT);
        }
        let was_busy = self.is_busy;
        let timeout = match was_busy || self.revoking.is_some() {
            true => TAKE_TIMEOUT_BUSY,
            false => TAKE_TIMEOUT,
        };
        let batch = match self.member.take(timeout) {
            Ok(batch) => batch,
            Err(error) => return self.not_taken(&error),
        };
        self.is_busy = batch.len() > 0;
        let is_idle = !self.is_busy && !was_busy;
        self.take(batch, 0);
        self.reread(is_idle);
        self.positions();
    }

    /// Records may be gone from librdkafka's queue that we do not have.
    fn not_taken(&mut self, error: &KafkaError) {
        warn!(self.parts.log, "records not taken, they are read again"; "error" => %error);
        let partitions: Vec<i32> = self.partitions.keys().copied().collect();
        for partition in partitions {
            self.misrouted(partition);
        }
    }

    fn take(&mut self, batch: Batch<Context>, first: usize) {
        let now = Instant::now();
        let mut disturbed: Vec<i32> = Vec::new();
        for index in first..batch.len() {
            let Some(message) = batch.get(index) else {
                continue;
            };
            let partition = message.partition();
            if disturbed.contains(&partition) {
                if let Some(known) = self
                    .partitions
                    .get_mut(&partition)
                    .filter(|_| message.error().is_none())
                {
                    known.note_readable(message.offset());
                }
                continue;
            }
            match message.error() {
                Some(code) => {
                    disturbed.push(partition);
                    self.partition_error(partition, code, message);
                }
                None if !self.record(message, now) => {
                    self.stalled = Some((batch, index));
                    return;
                }
                None => {}
            }
        }
    }

    /// Takes one record; `false`: there is no room, and it must be offered again.
    fn record(&mut self, message: Message<'_>, now: Instant) -> bool {
        let Some(known) = self.partitions.get_mut(&message.partition()) else {
            return true;
        };
        if known.phase != Phase::Reading {
            known.note_readable(message.offset());
            return true;
        }
        let Some(reading) = &mut known.reading else {
            return true;
        };
        match reading.reader.judge(message.offset()) {
            Verdict::Drop => return true,
            Verdict::Complete => {}
            Verdict::Take => {
                if reading.is_full() {
                    if self.outbox.len() >= OUTBOX_MAX {
                        return false;
                    }
                    self.outbox
                        .push_back(reading.hand_on(BlockEnd::More, &self.purse, now));
                }
                if !reading.append(message, &self.purse, now) {
                    self.purse.ask();
                    return false;
                }
                known.record_at = now;
                if known.failing.take().is_some()
                    && let Some(Say::Ended { count, lasting }) = known.said.ended(now)
                {
                    info!(self.parts.log, "partition can be read again"; "partition" => message.partition(),
                        "failures" => count, "seconds" => lasting.as_secs());
                }
            }
        }
        known.status.position.store(known.next(), Ordering::Relaxed);
        if known
            .reading
            .as_ref()
            .is_some_and(|reading| reading.reader.is_complete())
        {
            self.complete(message.partition());
        }
        true
    }

    /// A replay that has its whole range is closed; what follows waits for the next claim.
    pub(super) fn complete(&mut self, partition: i32) {
        let Some(known) = self.partitions.get_mut(&partition) else {
            return;
        };
        let Some(reading) = known
            .reading
            .as_mut()
            .filter(|reading| reading.reader.is_complete())
        else {
            return;
        };
        let block = reading.hand_on(BlockEnd::Close, &self.purse, Instant::now());
        known.phase = Phase::Waiting;
        self.outbox.push_back(block);
        self.parts.status.mended(&open_transaction_place(partition));
        self.pause(&[partition]);
    }
}
