//! What is due: claims and seeks whose time has come, blocks that are old enough.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use slog::{debug, warn};
use tokio::sync::mpsc::error::TrySendError;

use crate::landing::consumer::{Event, OUTBOX_MAX, RETRY_AFTER, Thread};
use crate::landing::partition::{Partition, Phase};
use crate::messages::BlockEnd;

/// A seek that takes longer is tried again: events must be polled meanwhile.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);
/// A leader that does not answer within it is not there to be woken.
const WAKE_TIMEOUT: Duration = Duration::from_millis(500);
/// A fetcher that refuses to be sought for so long is started anew.
const SEEK_PATIENCE: Duration = Duration::from_secs(5);

impl Thread<'_> {
    pub(super) fn phases(&mut self, now: Instant) {
        let due = |phase: Phase| match phase {
            Phase::ClaimAt(at) | Phase::SeekAt(at, _) => at <= now,
            Phase::Waiting | Phase::Reading => false,
        };
        let partitions: Vec<i32> = self
            .partitions
            .iter()
            .filter(|(_, known)| due(known.phase))
            .map(|(partition, _)| *partition)
            .collect();
        for partition in partitions {
            match self.partitions.get(&partition).map(|known| known.phase) {
                Some(Phase::ClaimAt(_)) if !self.is_draining => {
                    self.set_phase(partition, Phase::Waiting);
                    let _ = self.parts.events.send(Event::Claim(partition));
                }
                Some(Phase::SeekAt(_, since)) => self.seek(partition, since),
                _ => {}
            }
        }
    }

    /// To our own next offset, then on. What librdkafka believes is not asked. It is forwarded
    /// again: the end of an assignment before this one may have undone the forward after it was
    /// made, and a seek that is answered lies behind that.
    pub(super) fn seek(&mut self, partition: i32, since: Instant) {
        let is_dead = |known: &Partition| known.is_fetcher_dead;
        if self.partitions.get(&partition).is_some_and(is_dead) {
            return self.revive(partition);
        }
        let list = self.list(&[partition], |known| {
            Offset::Offset(known.map_or(0, Partition::next))
        });
        let sought = self
            .consumer
            .seek_partitions(list, SEEK_TIMEOUT)
            .and_then(|list| {
                list.elements()
                    .into_iter()
                    .try_for_each(|element| element.error())
            });
        if let Err(error) = sought {
            debug!(self.parts.log, "seek is tried again"; "partition" => partition, "error" => %error, "seconds" => since.elapsed().as_secs());
            if let Some(known) = self.partitions.get_mut(&partition) {
                known.is_fetcher_dead = since.elapsed() > SEEK_PATIENCE;
                known.phase = Phase::SeekAt(Instant::now() + RETRY_AFTER, since);
            }
            return;
        }
        self.queue.forward(self.topic(), partition);
        let Some(known) = self.partitions.get_mut(&partition) else {
            return;
        };
        if let Some(reading) = &mut known.reading {
            reading.reader.reread();
        }
        known.record_at = Instant::now();
        known.phase = Phase::Reading;
        if !std::mem::take(&mut known.is_paused) {
            return;
        }
        let list = self.list(&[partition], |_| Offset::Invalid);
        if let Err(error) = self.consumer.resume(&list) {
            warn!(self.parts.log, "partition not resumed"; "partition" => partition, "error" => %error);
        }
        self.wake_leader(partition);
    }

    /// The thread of the partition's leader in librdkafka notices a resumed partition only at its
    /// next turn, up to a second later: a request to the leader wakes it. The answer is of use to
    /// the status; without one nothing is lost but that second.
    fn wake_leader(&self, partition: i32) {
        let Some(known) = self.partitions.get(&partition) else {
            return;
        };
        if let Ok((low, high)) =
            self.consumer
                .fetch_watermarks(self.topic(), partition, WAKE_TIMEOUT)
        {
            known.status.log_start.store(low, Ordering::Relaxed);
            known.status.log_end.store(high, Ordering::Relaxed);
        }
    }

    pub(super) fn hand_on_due(&mut self, now: Instant) {
        let holes_after = self.parts.config.files.max_age / 4;
        for known in self.partitions.values_mut() {
            let is_read = matches!(known.phase, Phase::Reading | Phase::SeekAt(..));
            if !is_read || self.outbox.len() >= OUTBOX_MAX {
                continue;
            }
            if let Some(reading) = known
                .reading
                .as_mut()
                .filter(|reading| reading.is_due(now, holes_after))
            {
                self.outbox
                    .push_back(reading.hand_on(BlockEnd::More, &self.purse, now));
            }
        }
    }

    /// Moves blocks into the pipeline, as far as it has room. Behind the last block of a drain the
    /// stream ends.
    pub(super) fn flush(&mut self) {
        let Some(blocks) = &self.parts.blocks else {
            return;
        };
        while let Some(block) = self.outbox.pop_front() {
            match blocks.try_send(block) {
                Ok(()) => {}
                Err(TrySendError::Full(block)) => {
                    return self.outbox.push_front(block);
                }
                Err(TrySendError::Closed(_)) => return self.outbox.clear(),
            }
        }
        if self.is_draining {
            self.parts.blocks = None;
        }
    }
}
