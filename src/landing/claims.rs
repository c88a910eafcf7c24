//! Which claim of each partition is the newest, and what it is for: every stage asks before it
//! works on a message, and drops what belongs to an older one (a partition revoked and given back,
//! and an old block arrives first).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::landing::protocol::checkpoint::Pending;
use crate::landing::protocol::footer::Identity;
use crate::messages::ClaimId;

/// Shared by the stages of one generation.
#[derive(Debug, Clone, Default)]
pub struct Claims(Arc<RwLock<HashMap<i32, Held>>>);

#[derive(Debug, Clone)]
struct Held {
    epoch: u64,
    holding: Holding,
}

/// What a claim holds.
#[derive(Debug, Clone)]
pub struct Holding {
    /// Whose records these are; goes into every footer.
    pub identity: Arc<Identity>,
    /// What they become.
    pub purpose: Purpose,
}

/// What the records of a claim become.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// Fresh batches, cut by rows, bytes and age.
    Land {
        /// Where the first of them begins: the checkpoint's `next_offset`, which may lie before
        /// the first offset read (ranges that tile are the proof).
        begin: i64,
    },
    /// One batch over exactly the pending range, cut by nothing.
    Replay(Arc<Replay>),
}

/// A pending range that is read again.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The checkpoint's `next_offset`, where the range begins.
    pub start: i64,
    /// Its end, keys, layout, and the operator's word.
    pub pending: Pending,
    /// Offsets [from, to) of the range that Kafka no longer has.
    pub lost: Option<[i64; 2]>,
}

impl Claims {
    /// From now on this claim is the partition's newest.
    pub fn hold(&self, claim: ClaimId, holding: Holding) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        held.insert(
            claim.partition,
            Held {
                epoch: claim.epoch,
                holding,
            },
        );
    }

    /// A claim that lands from offset 0 on, for tests of single stages.
    #[cfg(test)]
    pub(crate) fn hold_landing(&self, claim: ClaimId) {
        let identity = Identity {
            cluster_id: String::new(),
            topic_id: String::new(),
            topic: "iss".into(),
            partition: claim.partition,
            group: "g".into(),
        };
        let purpose = Purpose::Land { begin: 0 };
        self.hold(
            claim,
            Holding {
                identity: Arc::new(identity),
                purpose,
            },
        );
    }

    /// Ends whatever claim the partition has.
    pub fn release(&self, partition: i32) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&partition);
    }

    /// Ends this claim, unless a newer one holds the partition.
    pub fn end(&self, claim: ClaimId) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if held
            .get(&claim.partition)
            .is_some_and(|held| held.epoch == claim.epoch)
        {
            held.remove(&claim.partition);
        }
    }

    /// Whether messages of this claim still count.
    pub fn is_current(&self, claim: ClaimId) -> bool {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        held.get(&claim.partition)
            .is_some_and(|held| held.epoch == claim.epoch)
    }

    /// What this claim holds; `None`: it no longer counts.
    pub fn holding(&self, claim: ClaimId) -> Option<Holding> {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        held.get(&claim.partition)
            .filter(|held| held.epoch == claim.epoch)
            .map(|held| held.holding.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_claim_of_a_partition_counts() {
        let claims = Claims::default();
        let (old, new) = (
            ClaimId {
                partition: 1,
                epoch: 4,
            },
            ClaimId {
                partition: 1,
                epoch: 5,
            },
        );
        claims.hold_landing(old);
        claims.hold_landing(new);
        assert!(!claims.is_current(old) && claims.holding(old).is_none());
        claims.end(old);
        let purpose = claims.holding(new).map(|holding| holding.purpose);
        assert!(matches!(purpose, Some(Purpose::Land { begin: 0 })));
        claims.release(1);
        assert!(!claims.is_current(new));
    }
}
