//! What the thread is told by the subscriber and by the checkpoint actor.

use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use slog::debug;

use crate::landing::consumer::Thread;
use crate::landing::partition::{Phase, Reading};
use crate::landing::reader::Reader;
use crate::messages::{ClaimAnswer, ClaimId, Command, STOPPED_RECHECK};

impl Thread<'_> {
    /// Whether it was told to leave.
    pub(super) fn commands(&mut self) -> bool {
        loop {
            match self.parts.commands.try_recv() {
                Ok(Command::Start(answer)) => self.start_reading(answer),
                Ok(Command::Commit { partition, offset }) => self.commit(partition, offset),
                Ok(Command::Reclaim { claim, after }) => self.reclaim(claim, after),
                Ok(Command::Damaged { partition, damage }) => self.damaged(partition, damage),
                Ok(Command::Drain) => self.drain(),
                Ok(Command::Leave) => return true,
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    fn start_reading(&mut self, answer: ClaimAnswer) {
        let now = Instant::now();
        let layout = self.parts.layout.clone();
        let (claim, layout, forced, reader) = match answer {
            ClaimAnswer::Land { claim, from } => {
                (claim, layout, Arc::default(), Reader::land(from))
            }
            ClaimAnswer::Replay {
                claim,
                from,
                end,
                layout,
                forced,
            } => (claim, layout, forced, Reader::replay(from, end)),
            ClaimAnswer::Stopped { partition, .. } => {
                let known = self.partitions.get_mut(&partition);
                if let Some(known) = known.filter(|known| known.phase != Phase::Leaving) {
                    known.phase = Phase::ClaimAt(now + STOPPED_RECHECK);
                }
                return;
            }
            ClaimAnswer::Dropped => return,
        };
        // The answer to a claim before a rebalance may come behind it.
        let is_current = self.parts.claims.is_current(claim);
        let Some(known) = self.partitions.get_mut(&claim.partition) else {
            return;
        };
        if known.phase != Phase::Waiting || !is_current {
            debug!(self.parts.log, "claim's answer came too late"; "partition" => claim.partition, "epoch" => claim.epoch);
            return;
        }
        known.reading = Some(Reading::new(claim, layout, forced, reader, now));
        known.failing = None;
        known.record_at = now;
        known.phase = Phase::SeekAt(now, now);
        self.note_position(claim.partition);
        self.complete(claim.partition);
    }

    /// A courtesy to those who watch the lag, and only for what is ours. A static member whose
    /// session had ended, and whose answer to joining anew was lost, is another member to Kafka:
    /// by a commit of what it had before it would be fenced by itself, and end.
    fn commit(&self, partition: i32, offset: i64) {
        if !self.partitions.contains_key(&partition) || self.member.has_lost() {
            return;
        }
        let list = self.list(&[partition], |_| Offset::Offset(offset));
        if let Err(error) = self.member.commit(&list) {
            debug!(self.parts.log, "offset not committed to kafka"; "partition" => partition, "error" => %error);
        }
    }

    fn reclaim(&mut self, claim: ClaimId, after: Duration) {
        let Some(known) = self.partitions.get_mut(&claim.partition) else {
            return;
        };
        if known
            .reading
            .as_ref()
            .is_some_and(|reading| reading.claim.epoch > claim.epoch)
        {
            return;
        }
        known.reading = None;
        if known.phase == Phase::Leaving {
            return;
        }
        known.phase = Phase::ClaimAt(Instant::now() + after);
        self.outbox.retain(|block| block.claim != claim);
        self.pause(&[claim.partition]);
    }

    /// Closes what is open of all partitions.
    fn drain(&mut self) {
        self.is_draining = true;
        self.stalled = None;
        let now = Instant::now();
        let all: Vec<i32> = self.partitions.keys().copied().collect();
        for partition in &all {
            self.close(*partition, now);
        }
        self.pause(&all);
    }
}
