//! What of a partition is to be proven, by its checkpoint as it was before and after the listing.

use crate::landing::protocol::checkpoint::Checkpoint;
use crate::landing::protocol::footer::Identity;

/// A partition's part of the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    /// Whose records its objects must hold.
    pub(super) identity: Identity,
    /// Where the first batch began.
    pub(super) first: i64,
    /// Behind the last batch that had landed before the listing: up to here it is proven.
    pub(super) next: i64,
    /// Offsets from `next` to here were read and hold nothing.
    pub(super) holes_to: i64,
    /// Behind the last batch that had landed after the listing.
    next_after: i64,
    /// Behind the batch that was begun then; `next_after` where none was.
    reach: i64,
    /// When the last landed record was written to Kafka, milliseconds since 1970 UTC; `None`: no
    /// record has landed, or Kafka knows no time.
    pub(super) last_record_ms: Option<i64>,
}

/// Where a batch lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In the range that is to be proven.
    Proven,
    /// Behind it, begun or landed while the verification ran.
    InFlight,
    /// Where the checkpoint knows of none; in plain words.
    Outside(String),
}

impl Scope {
    /// Of the two readings; what has moved back in between is an error, in plain words.
    pub(super) fn of(
        before: &Checkpoint,
        after: &Checkpoint,
        identity: Identity,
    ) -> Result<Self, String> {
        for (what, before, after) in [
            ("next_offset", before.next_offset, after.next_offset),
            ("revision", before.revision as i64, after.revision as i64),
        ] {
            if after < before {
                return Err(format!(
                    "the checkpoint was moved back while it was verified: its {what} went from {before} to {after}"
                ));
            }
        }
        if before.first_offset != after.first_offset {
            return Err(format!(
                "the checkpoint was replaced while it was verified: its first_offset went from {} to {}",
                before.first_offset, after.first_offset
            ));
        }
        if before.first_offset > before.next_offset {
            return Err(format!(
                "the checkpoint contradicts itself: its first_offset is {}, its next_offset {}",
                before.first_offset, before.next_offset
            ));
        }
        let pending = after.pending.as_ref().map(|pending| pending.end);
        Ok(Self {
            identity,
            first: before.first_offset,
            next: before.next_offset,
            holes_to: before.holes_to,
            next_after: after.next_offset,
            reach: pending.unwrap_or(after.next_offset),
            last_record_ms: before
                .last
                .map(|last| last.timestamp_ms)
                .filter(|time_ms| *time_ms >= 0),
        })
    }

    /// Where the batch [start, end) lies.
    pub(super) fn place(&self, start: i64, end: i64) -> Place {
        let Self { first, next, .. } = *self;
        if first <= start && end <= next {
            return Place::Proven;
        }
        let is_landed = next <= start && end <= self.next_after;
        let is_pending = start == self.next_after && end == self.reach;
        if is_landed || is_pending {
            return Place::InFlight;
        }
        Place::Outside(match end <= first {
            true => format!(
                "the checkpoint begins at {first}, behind it: it was moved forward, or this was never landed by it"
            ),
            false => format!(
                "the checkpoint covers [{first}, {}), and this is no range that was begun: it was moved back, or this was never landed by it",
                self.next_after
            ),
        })
    }

    /// How far batches may reach that are in flight.
    pub(super) fn in_flight_to(&self) -> i64 {
        self.reach.max(self.next_after)
    }
}
