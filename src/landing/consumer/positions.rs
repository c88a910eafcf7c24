//! Holes: jumps that were noted, and positions that move without a record.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use slog::warn;

use crate::landing::consumer::Thread;
use crate::landing::partition::{Partition, Phase, Reading};
use crate::landing::reader::Moved;

/// A partition without a record for so long is asked for its position, which control records and
/// compaction move.
const POSITION_AFTER: Duration = Duration::from_secs(1);
/// A replay that waits for its end for so long waits for an open transaction.
const OPEN_TRANSACTION_AFTER: Duration = Duration::from_secs(10);
/// A jump waits no longer for its second reading, however busy other partitions are.
const JUMP_PATIENCE: Duration = Duration::from_secs(1);

impl Thread<'_> {
    /// Jumps that were noted are read once more from our own next offset.
    pub(super) fn reread(&mut self, is_idle: bool) {
        let now = Instant::now();
        let wants = |known: &Partition| {
            let is_late = now.duration_since(known.record_at) >= JUMP_PATIENCE;
            let wants = |reading: &Reading| reading.reader.wants_reread(is_idle || is_late);
            known.phase == Phase::Reading && known.reading.as_ref().is_some_and(wants)
        };
        let partitions: Vec<i32> = self
            .partitions
            .iter()
            .filter(|(_, known)| wants(known))
            .map(|(partition, _)| *partition)
            .collect();
        self.seek(partitions);
    }

    /// Positions of partitions that were silent for a while: over holes there are no records.
    pub(super) fn positions(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.positions_at) < POSITION_AFTER {
            return;
        }
        self.positions_at = now;
        let silent = |known: &Partition| {
            known.phase == Phase::Reading && now.duration_since(known.record_at) >= POSITION_AFTER
        };
        if !self.partitions.values().any(silent) {
            return;
        }
        let Ok(positions) = self.member.positions() else {
            return;
        };
        let mut jumped = Vec::new();
        for element in positions.elements() {
            let (partition, Offset::Offset(position)) = (element.partition(), element.offset())
            else {
                continue;
            };
            let Some(known) = self
                .partitions
                .get_mut(&partition)
                .filter(|known| silent(known))
            else {
                continue;
            };
            let Some(reading) = &mut known.reading else {
                continue;
            };
            match reading.reader.position(position) {
                Moved::No => self.name_open_transaction(partition, now),
                Moved::Reread => jumped.push(partition),
                Moved::Holes => {
                    self.note_position(partition);
                    self.complete(partition);
                }
            }
        }
        self.seek(jumped);
    }

    pub(super) fn note_position(&self, partition: i32) {
        if let Some(known) = self.partitions.get(&partition) {
            known.status.position.store(known.next(), Ordering::Relaxed);
        }
    }

    fn name_open_transaction(&self, partition: i32, now: Instant) {
        let reading = self
            .partitions
            .get(&partition)
            .and_then(|known| known.reading.as_ref());
        let Some(reading) = reading.filter(|reading| reading.reader.end().is_some()) else {
            return;
        };
        if now.duration_since(reading.waits_since) < OPEN_TRANSACTION_AFTER {
            return;
        }
        let text = format!(
            "a batch that was begun is read again up to offset {}, and stands at {}: an open transaction holds it back",
            reading.reader.end().unwrap_or_default(),
            reading.reader.next()
        );
        if self
            .parts
            .status
            .trouble(&open_transaction_place(partition), &text, false)
        {
            warn!(self.parts.log, "a replay waits for an open transaction"; "partition" => partition, "offset" => reading.reader.next());
        }
    }
}

pub(super) fn open_transaction_place(partition: i32) -> String {
    format!("partition {partition}'s replay")
}
