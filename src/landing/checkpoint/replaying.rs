//! Replays run one at a time: each may exceed the budget, and two whose sum exceeds it would wait
//! for each other for ever.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::messages::ClaimId;

use super::Desk;

/// How often a claim looks whether the replay before it has ended, beside being told.
const LOOK: Duration = Duration::from_secs(1);

/// A replay that Kafka gave no record for so long holds up the others no longer: what it waits for
/// (a leader that is away) may take any time, and it holds hardly more memory meanwhile.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// A replay under way, and how far it has read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replaying {
    claim: ClaimId,
    end: i64,
    position: i64,
    moved_at: Instant,
}

impl Replaying {
    pub(super) fn new(claim: ClaimId, end: i64) -> Self {
        Self {
            claim,
            end,
            position: -1,
            moved_at: Instant::now(),
        }
    }

    /// Whether it waits for Kafka so long that others may go ahead.
    fn is_stalled(&mut self, position: i64, now: Instant) -> bool {
        if position != self.position {
            self.position = position;
            self.moved_at = now;
        }
        // One that has read its range waits for the store, as the others would.
        position < self.end && now.duration_since(self.moved_at) >= STALLED_AFTER
    }
}

impl Desk {
    /// Waits until no other replay is under way; `false`: the claim was overtaken.
    pub(super) async fn replay_turn(&self, partition: i32, turn: u64) -> bool {
        loop {
            let closed = self.shared.closed.notified();
            if self.is_overtaken(partition, turn) {
                return false;
            }
            if !self.is_replaying() {
                return true;
            }
            let _waiting = self.parts.pulse.waiting("the replay of another partition");
            // A time-out only looks again.
            let _ = tokio::time::timeout(LOOK, closed).await;
        }
    }

    fn is_replaying(&self) -> bool {
        let mut replaying = self.shared.replaying.borrow_mut();
        let Some(replaying) = replaying.as_mut() else {
            return false;
        };
        let claim = replaying.claim;
        let status = self
            .parts
            .status
            .partition(&self.names.topic, claim.partition);
        let position = status.position.load(Ordering::Relaxed);
        self.parts.claims.is_current(claim) && !replaying.is_stalled(position, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_stalls_only_while_it_waits_for_records() {
        let claim = ClaimId {
            partition: 0,
            epoch: 1,
        };
        let mut replaying = Replaying::new(claim, 100);
        let start = replaying.moved_at;
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!replaying.is_stalled(50, at(1)));
        assert!(!replaying.is_stalled(50, at(10)));
        assert!(replaying.is_stalled(50, at(11)));
        assert!(!replaying.is_stalled(51, at(12)));
        assert!(!replaying.is_stalled(100, at(13)));
        assert!(!replaying.is_stalled(100, at(1000)));
    }
}
