//! What is due: claims and seeks whose time has come, blocks that are old enough.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::error::KafkaError;
use slog::{debug, warn};
use tokio::sync::mpsc::error::TrySendError;

use crate::fault::{self, Step};
use crate::landing::consumer::{Event, OUTBOX_MAX, RETRY_AFTER, Thread};
use crate::landing::partition::{Partition, Phase};
use crate::messages::{BlockEnd, Gone};

/// A seek that takes longer is tried again: events must be polled meanwhile.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);
/// A leader that does not answer within it is not there to be woken.
const WAKE_TIMEOUT: Duration = Duration::from_millis(500);
/// Then none is woken for so long.
const WAKE_PAUSE: Duration = Duration::from_secs(5);
/// A fetcher that refuses to be sought for so long is started anew.
const SEEK_PATIENCE: Duration = Duration::from_secs(5);

impl Thread<'_> {
    pub(super) fn phases(&mut self, now: Instant) {
        let due = |phase: Phase| match phase {
            Phase::ClaimAt(at) | Phase::SeekAt(at, _) => at <= now,
            Phase::Waiting | Phase::Reading | Phase::Leaving => false,
        };
        let partitions: Vec<i32> = self
            .partitions
            .iter()
            .filter(|(_, known)| due(known.phase))
            .map(|(partition, _)| *partition)
            .collect();
        let mut to_seek = Vec::new();
        for partition in partitions {
            match self.phase(partition) {
                Some(Phase::ClaimAt(_)) if !self.is_draining => {
                    self.set_phase(partition, Phase::Waiting);
                    self.tell(Event::Claim(partition));
                }
                Some(Phase::SeekAt(..)) => to_seek.push(partition),
                _ => {}
            }
        }
        self.seek(to_seek);
    }

    /// To our own next offsets, then on. What librdkafka believes is not asked.
    pub(super) fn seek(&mut self, mut partitions: Vec<i32>) {
        let is_dead = |partition: &i32| {
            let known = self.partitions.get(partition);
            known.is_some_and(|known| known.is_fetcher_dead)
        };
        if let Some(dead) = partitions.iter().copied().find(is_dead) {
            // Under eager that concerns the others too: they are sought at the next turn.
            let now = Instant::now();
            for partition in partitions {
                if self.phase(partition) == Some(Phase::Reading) {
                    self.set_phase(partition, Phase::SeekAt(now, now));
                }
            }
            return self.revive(dead);
        }
        partitions.retain(|partition| self.partitions.contains_key(partition));
        if partitions.is_empty() {
            return;
        }
        let list = self.list(&partitions, |known| {
            Offset::Offset(known.map_or(0, Partition::next))
        });
        let failed = match self.member.seek(list, SEEK_TIMEOUT) {
            Ok(failed) => failed,
            Err(error) => partitions
                .iter()
                .map(|partition| (*partition, error.clone()))
                .collect(),
        };
        for (partition, error) in &failed {
            self.seek_failed(*partition, error);
        }
        partitions.retain(|partition| failed.iter().all(|(failed, _)| failed != partition));
        self.read_on(&partitions);
    }

    fn seek_failed(&mut self, partition: i32, error: &KafkaError) {
        let Some(known) = self.partitions.get_mut(&partition) else {
            return;
        };
        let now = Instant::now();
        let since = match known.phase {
            Phase::SeekAt(_, since) => since,
            _ => now,
        };
        let lasting = now.duration_since(since);
        debug!(self.parts.log, "seek is tried again"; "partition" => partition, "error" => %error, "seconds" => lasting.as_secs());
        known.is_fetcher_dead = lasting > SEEK_PATIENCE;
        known.phase = Phase::SeekAt(now + RETRY_AFTER, since);
    }

    /// Partitions that were sought are resumed. They are forwarded again: the end of an assignment
    /// before this one may have undone the forward after it was made, and a seek that is answered
    /// lies behind that.
    fn read_on(&mut self, partitions: &[i32]) {
        let mut paused = Vec::new();
        for partition in partitions {
            self.member.forward(self.topic(), *partition);
            let Some(known) = self.partitions.get_mut(partition) else {
                continue;
            };
            if let Some(reading) = &mut known.reading {
                reading.reader.reread();
            }
            known.record_at = Instant::now();
            known.phase = Phase::Reading;
            if std::mem::take(&mut known.is_paused) {
                paused.push(*partition);
            }
        }
        if paused.is_empty() {
            return;
        }
        let list = self.list(&paused, |_| Offset::Invalid);
        if let Err(error) = self.member.resume(&list) {
            warn!(self.parts.log, "partitions not resumed, trying again"; "partitions" => format!("{paused:?}"), "error" => %error);
            let now = Instant::now();
            for partition in paused {
                if let Some(known) = self.partitions.get_mut(&partition) {
                    known.is_paused = true;
                    known.phase = Phase::SeekAt(now + RETRY_AFTER, now);
                }
            }
            return;
        }
        self.wake_leaders(&paused);
    }

    /// librdkafka's thread of a partition's leader notices a resumed partition only at its next
    /// turn, up to a second later: a request to the leader wakes it. All leaders are asked at
    /// once; without an answer nothing is lost but that second, and none is asked again for a
    /// while, so that leaders that are away hold up those that are there by a tenth at most.
    fn wake_leaders(&mut self, partitions: &[i32]) {
        let now = Instant::now();
        if now < self.wake_from {
            return;
        }
        let list = self.list(partitions, |_| Offset::End);
        let ends = match self.member.wake_leaders(list, WAKE_TIMEOUT) {
            Ok(ends) => ends,
            Err(error) => {
                debug!(self.parts.log, "leaders not woken"; "error" => %error);
                self.wake_from = Instant::now() + WAKE_PAUSE;
                return;
            }
        };
        for element in ends.elements() {
            if let (Some(known), Offset::Offset(end)) =
                (self.partitions.get(&element.partition()), element.offset())
            {
                known.status.log_end.store(end, Ordering::Relaxed);
            }
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
            let handed = fault::on_thread(Step::HandBlock, || match blocks.try_send(block) {
                Ok(()) => Ok(None),
                Err(TrySendError::Full(block)) => Ok(Some(block)),
                Err(TrySendError::Closed(_)) => Err(Gone),
            });
            match handed {
                Ok(None) => {}
                Ok(Some(block)) => return self.outbox.push_front(block),
                Err(Gone) => {
                    self.is_heard = false;
                    return self.outbox.clear();
                }
            }
        }
        if self.is_draining {
            self.parts.blocks = None;
        }
    }
}
