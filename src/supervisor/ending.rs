//! How the process ends: what is drained in which order, under which deadline, and what is left.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use slog::warn;

use super::Supervisor;
use super::group::GroupName;
use super::plan::ExitReason;
use super::slot::{Phase, Slot};
use crate::status::PartitionState;

/// At the process's end a thread has less than [`super::GONE_WITHIN`], because `limits.drain` and
/// this together stay below systemd's `TimeoutStopSec`.
const GONE_WITHIN_AT_END: Duration = Duration::from_secs(3);

/// The process is to end.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) reason: ExitReason,
    pub(super) since: Instant,
    /// Of the whole drain.
    pub(super) deadline: Instant,
    /// The deadline has passed and all were told to stop.
    pub(super) cut: bool,
    /// Something was not drained.
    pub(super) incomplete: bool,
}

impl Supervisor {
    /// What is upstream gets half of the time at most, so that what cannot be published does not
    /// take the time to land what was.
    pub(super) fn drain_deadline(&self, index: usize, now: Instant) -> Instant {
        match &self.ending {
            Some(ending) if self.slots[index].group.name == GroupName::Ingest => {
                ending.since + (ending.deadline - ending.since) / 2
            }
            Some(ending) => ending.deadline,
            None => now + self.config.limits.drain,
        }
    }

    /// How long a generation that was told to stop has to be gone.
    pub(super) fn gone_within(&self) -> Duration {
        match self.ending {
            Some(_) => self.plan.gone_within.min(GONE_WITHIN_AT_END),
            None => self.plan.gone_within,
        }
    }

    /// All that is left of the process's drain is told to stop.
    pub(super) fn cut_at_deadline(&mut self, now: Instant) {
        let deadline = now + self.gone_within();
        let Some(ending) = &mut self.ending else {
            return;
        };
        if ending.cut || now < ending.deadline {
            return;
        }
        ending.cut = true;
        ending.incomplete = true;
        warn!(self.plan.log, "drain cut off by its deadline");
        for slot in &mut self.slots {
            slot.leave(None, deadline);
            slot.stop(deadline);
        }
    }

    /// Begins to end, or, where that has begun, gives a graver reason for it.
    pub(super) fn end(&mut self, reason: ExitReason, now: Instant) {
        match &mut self.ending {
            Some(ending) if ending.reason == ExitReason::Drained => ending.reason = reason,
            Some(_) => {}
            None => {
                self.plan.notifier.stopping(self.config.limits.drain);
                let deadline = now + self.config.limits.drain;
                self.ending = Some(Ending {
                    reason,
                    since: now,
                    deadline,
                    cut: false,
                    incomplete: false,
                });
                for index in 0..self.slots.len() {
                    let own = self.drain_deadline(index, now);
                    if let Phase::Leaving(_, leave) = &mut self.slots[index].phase {
                        leave.deadline = Some(leave.deadline.map_or(now, |at| at.min(own)));
                    }
                }
            }
        }
    }

    pub(super) fn finished(&self) -> Option<ExitReason> {
        let ending = self.ending.as_ref()?;
        if !self.slots.iter().all(Slot::is_idle) {
            return None;
        }
        if ending.incomplete {
            self.log_what_is_left();
        }
        Some(ending.reason.clone())
    }

    pub(super) fn interrupted(&self) -> ExitReason {
        warn!(self.plan.log, "asked again to end, ending at once");
        self.log_what_is_left();
        ExitReason::Interrupted
    }

    /// Names what was read and has not landed: the next start reads it again.
    fn log_what_is_left(&self) {
        for ((topic, partition), state) in self.plan.status.partitions() {
            let next_offset = state.next_offset.load(Ordering::Relaxed);
            let position = state.position.load(Ordering::Relaxed);
            if state.state() != PartitionState::NotOurs && position > next_offset {
                warn!(self.plan.log, "left to the next start"; "topic" => topic,
                    "partition" => partition, "next_offset" => next_offset,
                    "position" => position);
            }
        }
        for slot in self.slots.iter().filter(|slot| !slot.is_idle()) {
            for (actor, pulse) in slot.status.actors() {
                let waits_for = pulse.waits_for();
                let doing = if waits_for.is_empty() {
                    "its work"
                } else {
                    waits_for
                };
                warn!(self.plan.log, "actor cut off"; "group" => slot.name(), "actor" => actor,
                    "at" => doing);
            }
        }
    }
}
