//! Partitions that come and go.

use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{Consumer, RebalanceProtocol};
use slog::{info, warn};

use crate::landing::consumer::events::TOPIC_PLACE;
use crate::landing::consumer::{Event, Thread};
use crate::landing::partition::{Partition, Phase};

/// A partition assigned anew can be sought after about this.
const REVIVE_TIME: Duration = Duration::from_millis(50);

impl Thread<'_> {
    /// Forward, pause, and only then assign at an absolute offset; then ask for the claims.
    pub(super) fn assigned(&mut self, partitions: &[i32]) {
        info!(self.parts.log, "partitions assigned"; "partitions" => format!("{partitions:?}"));
        self.has_joined = true;
        if !partitions.is_empty() {
            self.parts.status.mended(TOPIC_PLACE);
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
            let _ = self.parts.events.send(Event::Claim(*partition));
        }
    }

    /// Under eager the partitions are all that there are: it knows only whole assignments.
    pub(super) fn assign(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.queue.forward(self.topic(), *partition);
        }
        self.pause(partitions);
        let list = self.list(partitions, |partition| {
            Offset::Offset(partition.map_or(0, Partition::next))
        });
        let assigned = match self.is_cooperative() {
            true => self.consumer.incremental_assign(&list),
            false => self.consumer.assign(&list),
        };
        if let Err(error) = assigned {
            warn!(self.parts.log, "partitions not assigned"; "error" => %error);
        }
    }

    /// Cooperative-sticky and KIP-848.
    pub(super) fn is_cooperative(&self) -> bool {
        let protocol = self.consumer.rebalance_protocol();
        matches!(protocol, RebalanceProtocol::Cooperative)
    }

    pub(super) fn revoked(&mut self, partitions: Vec<i32>) {
        info!(self.parts.log, "partitions revoked"; "partitions" => format!("{partitions:?}"));
        for partition in &partitions {
            self.parts.claims.release(*partition);
            self.partitions.remove(partition);
        }
        self.outbox
            .retain(|block| !partitions.contains(&block.claim.partition));
        let _ = self.parts.events.send(Event::Release(partitions));
    }

    pub(super) fn pause(&mut self, partitions: &[i32]) {
        let list = self.list(partitions, |_| Offset::Invalid);
        if let Err(error) = self.consumer.pause(&list) {
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
        if self.is_cooperative() {
            let list = self.list(&[partition], |_| Offset::Invalid);
            if let Err(error) = self.consumer.incremental_unassign(&list) {
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
