//! Partitions that come and go.

use std::time::{Duration, Instant};

use rdkafka::Offset;
use slog::{debug, info, warn};

use crate::fault::Step;
use crate::landing::consumer::events::TOPIC_PLACE;
use crate::landing::consumer::{Event, Thread};
use crate::landing::partition::{Partition, Phase};
use crate::logging::{Say, events};
use crate::messages::BlockEnd;

/// A partition assigned anew can be sought after about this.
const REVIVE_TIME: Duration = Duration::from_millis(50);

/// Partitions that are taken away, and how long their batches may take to land.
#[derive(Debug)]
pub(super) struct Revoking {
    partitions: Vec<i32>,
    until: Instant,
}

impl Thread<'_> {
    /// Forward, pause, and only then assign at an absolute offset; then ask for the claims.
    pub(super) fn assigned(&mut self, partitions: &[i32]) {
        self.say_assigned(partitions);
        self.has_joined = true;
        if !partitions.is_empty() && self.parts.status.mended(TOPIC_PLACE).is_some() {
            info!(self.parts.log, "the topic is there"; events::TOPIC_BACK);
        }
        let now = Instant::now();
        for partition in partitions {
            let status = self.parts.status.partition(self.topic(), *partition);
            self.partitions
                .insert(*partition, Partition::new(status, now));
        }
        self.assign(partitions);
        if self.is_draining {
            return;
        }
        for partition in partitions {
            self.tell(Event::Claim(*partition));
        }
    }

    /// Under eager the partitions are all that there are: it knows only whole assignments.
    pub(super) fn assign(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.member.forward(self.topic(), *partition);
        }
        self.pause(partitions);
        let list = self.list(partitions, |partition| {
            Offset::Offset(partition.map_or(0, Partition::next))
        });
        if let Err(error) = self.member.assign(&list) {
            warn!(self.parts.log, "partitions not assigned"; "error" => %error);
        }
    }

    /// Partitions are taken away. What was read of them is closed and lands before they are given
    /// back, as in a drain: the next owner need not read it again, and a group whose members come
    /// and go more often than `max_age` lands all the same. Meanwhile the group waits, under eager
    /// as a whole, else for these partitions alone.
    pub(super) fn revoked(&mut self, partitions: Vec<i32>) {
        self.say_revoked(&partitions);
        let now = Instant::now();
        for partition in &partitions {
            self.close(*partition, now);
        }
        self.pause(&partitions);
        let until = now + self.revoke_time();
        self.revoking = Some(Revoking { partitions, until });
        self.give_back(now);
    }

    /// Says, though not each time, that the group shares the partitions out anew.
    fn say_revoked(&mut self, partitions: &[i32]) {
        let partitions = format!("{partitions:?}");
        match self.parts.rebalances.failed(Instant::now()) {
            Some(Say::Still { count, lasting }) => {
                warn!(self.parts.log, "the group rebalances again and again, its members come and go";
                    "partitions" => partitions, "rebalances" => count,
                    "seconds" => lasting.as_secs());
            }
            Some(_) => info!(self.parts.log, "partitions revoked"; "partitions" => partitions),
            None => debug!(self.parts.log, "partitions revoked"; "partitions" => partitions),
        }
    }

    fn say_assigned(&mut self, partitions: &[i32]) {
        let partitions = format!("{partitions:?}");
        let is_quiet = self.parts.rebalances.is_going()
            && self.parts.rebalances.ended(Instant::now()).is_none();
        if is_quiet {
            debug!(self.parts.log, "partitions assigned"; "partitions" => partitions);
        } else {
            info!(self.parts.log, "partitions assigned"; "partitions" => partitions);
        }
    }

    /// The group gave us up, and another member may have claimed these: they are dropped.
    pub(super) fn lost(&mut self, partitions: Vec<i32>) {
        warn!(self.parts.log, "partitions lost, our session had ended";
            "partitions" => format!("{partitions:?}"));
        self.unassign(Step::Revoke, partitions);
    }

    /// Half of the time in which a member has to answer the group, and no longer than a drain.
    fn revoke_time(&self) -> Duration {
        let kafka = &self.parts.config.kafka;
        let answer_time = kafka.max_poll_interval();
        (answer_time / 2).min(self.parts.config.limits.drain)
    }

    /// Unassigns revoked partitions once all that was read of them has landed, or the time for it
    /// is over.
    pub(super) fn give_back(&mut self, now: Instant) {
        let Some(revoking) = &self.revoking else {
            return;
        };
        let lands = |partition: &&i32| {
            self.partitions
                .get(*partition)
                .is_some_and(|known| self.lands(known))
        };
        let landing: Vec<i32> = revoking.partitions.iter().filter(lands).copied().collect();
        if !landing.is_empty() {
            if now < revoking.until && !self.member.has_lost() {
                return;
            }
            warn!(self.parts.log, "revoked partitions given up before all that was read had landed";
                "partitions" => format!("{landing:?}"));
        }
        if let Some(revoking) = self.revoking.take() {
            self.unassign(Step::Revoke, revoking.partitions);
        }
    }

    /// Whether batches of its claim are still on their way.
    fn lands(&self, known: &Partition) -> bool {
        let claim = known.reading.as_ref().map(|reading| reading.claim);
        claim.is_some_and(|claim| self.parts.claims.is_current(claim))
    }

    /// Ends the claims of partitions and answers the group.
    pub(super) fn unassign(&mut self, step: Step, partitions: Vec<i32>) {
        let list = self.list(&partitions, |_| Offset::Invalid);
        for partition in &partitions {
            self.parts.claims.release(*partition);
            self.partitions.remove(partition);
        }
        self.outbox
            .retain(|block| !partitions.contains(&block.claim.partition));
        if let Err(error) = self.member.unassign(step, &list) {
            warn!(self.parts.log, "partitions not unassigned"; "error" => %error);
        }
        self.tell(Event::Release(partitions));
    }

    /// Closes what is open of a partition, so that it lands; nothing more of it is read. A range
    /// that is read again is not closed before its end, because what is missing of it would count
    /// as holes: it is given up.
    pub(super) fn close(&mut self, partition: i32, now: Instant) {
        let Some(known) = self.partitions.get_mut(&partition) else {
            return;
        };
        let is_reading = matches!(known.phase, Phase::Reading | Phase::SeekAt(..));
        if let Some(reading) = known.reading.as_mut().filter(|_| is_reading) {
            match reading.reader.end() {
                Some(_) => self.parts.claims.end(reading.claim),
                None => {
                    let block = reading.hand_on(BlockEnd::Close, &self.purse, now);
                    self.outbox.push_back(block);
                }
            }
        }
        known.phase = Phase::Leaving;
    }

    pub(super) fn pause(&mut self, partitions: &[i32]) {
        let list = self.list(partitions, |_| Offset::Invalid);
        if let Err(error) = self.member.pause(&list) {
            warn!(self.parts.log, "partitions not paused"; "error" => %error);
        }
        for partition in partitions {
            if let Some(known) = self.partitions.get_mut(partition) {
                known.is_paused = true;
            }
        }
    }

    /// After an offset out of range the fetcher has stopped, and no seek starts it again: the
    /// partition is assigned anew. Eager replaces the whole assignment by that, which stops all
    /// others too and undoes their forwards: each begins again at its own next offset.
    pub(super) fn revive(&mut self, partition: i32) {
        info!(self.parts.log, "partition is assigned anew"; "partition" => partition);
        let now = Instant::now();
        if self.member.is_cooperative() {
            let list = self.list(&[partition], |_| Offset::Invalid);
            if let Err(error) = self.member.take_out(&list) {
                warn!(self.parts.log, "partition not unassigned"; "partition" => partition, "error" => %error);
            }
            self.assign(&[partition]);
        } else {
            let whole: Vec<i32> = self.partitions.keys().copied().collect();
            self.assign(&whole);
            for known in self.partitions.values_mut() {
                known.is_fetcher_dead = false;
                if known.phase == Phase::Reading {
                    known.phase = Phase::SeekAt(now, now);
                }
            }
        }
        if let Some(known) = self.partitions.get_mut(&partition) {
            known.is_fetcher_dead = false;
            known.phase = Phase::SeekAt(now + REVIVE_TIME, now);
        }
    }
}
